//! Memory and CPU time of this thread. A broker under test runs in one thread, so they are those of
//! the broker.

#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

/// Counts allocations of the system allocator.
struct Counted;

fn count(size: usize) {
    HELD.set(HELD.get() + size as isize);
    LARGEST.set(LARGEST.get().max(size));
}

// Every call is handed on as it came, so the system allocator's guarantees are this one's.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        HELD.set(HELD.get() - layout.size() as isize);
        count(size);
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as isize);
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Bytes that this thread has allocated and not freed.
pub fn held() -> isize {
    HELD.get()
}

/// The largest single request of this thread since the last time, in bytes.
pub fn take_largest() -> usize {
    LARGEST.replace(0)
}

/// CPU time of this thread in microseconds.
pub fn cpu_us() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // The clock exists on every Linux, and the pointer is that of a local.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000
}

#[test]
fn what_is_asked_for_is_counted() {
    let before = held();
    take_largest();
    let bytes = vec![0u8; 5000];
    assert_eq!((held() - before, take_largest()), (5000, 5000));
    drop(bytes);
    assert_eq!(held(), before);
}
