//! Reading and writing frames allocates nothing once the buffers have their size.

#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use amqp::frame::{write_body, write_header, write_method};
use amqp::{Assembler, Frame, Method, Parser, Properties, Step};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Counts allocations of the system allocator.
struct Counted;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// Every call is handed on as it came, so the system allocator's guarantees are this one's.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

const PUBLISHES: usize = 200;

fn write(out: &mut Vec<u8>) {
    let method = Method::BasicPublish {
        ticket: 0,
        exchange: "e",
        routing_key: "k",
        mandatory: false,
        immediate: false,
    };
    for _ in 0..PUBLISHES {
        write_method(out, 1, &method);
        write_header(out, 1, 16, &[0x10, 0, 2]);
        write_body(out, 1, &[7; 16], 8192);
    }
}

/// Reads in chunks of a size that cuts every kind of frame at every place.
fn read(parser: &mut Parser, bytes: &[u8]) -> usize {
    let (mut assembler, mut complete) = (Assembler::default(), 0);
    for chunk in bytes.chunks(61) {
        let mut at = 0;
        while let Some(frame) = parser.next(chunk, &mut at).unwrap() {
            let step = match frame {
                Frame::Method { payload, .. } => assembler.method(payload).unwrap(),
                Frame::Header { payload, .. } => assembler.header(payload).unwrap(),
                Frame::Body { piece, last, .. } => assembler.body_piece(piece, last).unwrap(),
                Frame::Heartbeat { .. } => continue,
            };
            match step {
                Step::Header { properties, .. } => drop(Properties::parse(properties).unwrap()),
                Step::Body { complete: true, .. } => complete += 1,
                _ => {}
            }
        }
    }
    complete
}

/// Without the harness, whose threads would be counted too.
fn main() {
    let (mut out, mut parser) = (Vec::new(), Parser::new(8192));
    write(&mut out);
    assert_eq!(read(&mut parser, &out), PUBLISHES);
    out.clear();
    // The buffers have their size from here on.
    let before = ALLOCATIONS.load(Relaxed);
    write(&mut out);
    let complete = read(&mut parser, &out);
    let allocated = ALLOCATIONS.load(Relaxed) - before;
    assert_eq!((complete, allocated), (PUBLISHES, 0));
}
