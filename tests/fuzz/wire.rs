//! The wire alone: frames do not depend on the read boundaries, the parser holds no more than what
//! arrived, and written frames read the same again.

use amqp::frame::write_frame;
use amqp::{Array, Assembler, Frame, Method, Parser, Properties, Step, Table, Value};
use fastrand::Rng;

use crate::meter;
use crate::mutate;
use crate::runner::Figures;

/// The usual frame_max.
const FRAME_MAX: u32 = 131_072;

/// The result of reading some bytes: frames with whole bodies, written again, and the error.
#[derive(Debug, Default, PartialEq)]
struct Reading {
    bytes: Vec<u8>,
    /// The payload of the body frame that is being read in pieces.
    body: Vec<u8>,
    frames: u64,
    error: Option<String>,
}

impl Reading {
    fn take(&mut self, frame: Frame<'_>) {
        self.frames += u64::from(!matches!(frame, Frame::Body { last: false, .. }));
        match frame {
            Frame::Body { channel, piece, last } => {
                self.body.extend(piece);
                if last {
                    let piece = &std::mem::take(&mut self.body);
                    write_frame(&mut self.bytes, Frame::Body { channel, piece, last });
                }
            }
            other => write_frame(&mut self.bytes, other),
        }
    }
}

/// Reads bytes in chunks of at most `most`.
fn read(bytes: &[u8], frame_max: u32, mut most: impl FnMut() -> usize) -> Reading {
    let (mut parser, mut reading) = (Parser::new(frame_max), Reading::default());
    let mut rest = bytes;
    while !rest.is_empty() && reading.error.is_none() {
        let (chunk, behind) = rest.split_at(most().min(rest.len()));
        rest = behind;
        let mut at = 0;
        loop {
            match parser.next(chunk, &mut at) {
                Ok(Some(frame)) => reading.take(frame),
                Ok(None) => break,
                Err(error) => {
                    reading.error = Some(error.to_string());
                    break;
                }
            }
        }
        assert!(parser.carried() <= bytes.len().min(frame_max as usize + 8));
    }
    reading
}

/// The parser allocates for what arrived, not for what was announced.
fn holds_what_came(bytes: &[u8]) {
    meter::take_largest();
    let (mut parser, mut at, mut came) = (Parser::new(0), 0, 0);
    for chunk in bytes.chunks(977) {
        came += chunk.len();
        at = 0;
        while let Ok(Some(_)) = parser.next(chunk, &mut at) {}
        let largest = meter::take_largest();
        assert!(largest <= 2 * came + 16, "{largest} bytes asked for when {came} had come");
    }
    drop((parser, at));
}

/// Gives the frames to an assembler, and their content to every reader.
fn understand(bytes: &[u8]) {
    let (mut parser, mut assembler, mut at) = (Parser::new(0), Assembler::default(), 0);
    while let Ok(Some(frame)) = parser.next(bytes, &mut at) {
        if let Frame::Method { payload, .. } = frame {
            method(payload);
        }
        match assembler.frame(frame) {
            Ok(Some(Step::Header { properties: encoded, .. })) => properties(encoded),
            Ok(_) => {}
            Err(_) => assembler = Assembler::default(),
        }
    }
}

fn method(payload: &[u8]) {
    let Ok(method) = Method::read(payload) else { return };
    let mut written = Vec::new();
    method.write(&mut written);
    assert_eq!(Method::read(&written), Ok(method));
    let tables = match method {
        Method::ConnectionStartOk { client_properties, .. } => client_properties,
        Method::QueueDeclare { arguments, .. } | Method::QueueBind { arguments, .. } => arguments,
        _ => Table::EMPTY,
    };
    visit(tables);
}

fn properties(encoded: &[u8]) {
    let Ok((properties, basic)) = Properties::parse(encoded) else { return };
    assert_eq!(properties.encoded(), encoded);
    visit(basic.headers.unwrap_or(Table::EMPTY));
    let mut written = Vec::new();
    basic.write(&mut written);
    // Compares what was written, since a float may be NaN, which equals nothing.
    let (_, again) = Properties::parse(&written).unwrap();
    let mut twice = Vec::new();
    again.write(&mut twice);
    assert_eq!(written, twice);
}

fn visit(table: Table<'_>) {
    assert_eq!(Table::parse(table.encoded()), Ok(table));
    table.iter().for_each(|(_, value)| visit_value(value));
}

fn visit_value(value: Value<'_>) {
    match value {
        Value::Table(table) => visit(table),
        Value::Array(array) => visit_array(array),
        _ => {}
    }
}

fn visit_array(array: Array<'_>) {
    array.iter().for_each(visit_value);
}

/// One seed: some sessions' bytes.
pub fn run(seed: u64) -> Figures {
    let mut rng = Rng::with_seed(seed);
    let mut figures = Figures::default();
    for _ in 0..8 {
        let bytes = mutate::session(&mut rng, 60).concat();
        // The protocol header is not a frame.
        let bytes = bytes.strip_prefix(&amqp::PROTOCOL_HEADER).unwrap_or(&bytes);
        let frame_max = if rng.bool() { FRAME_MAX } else { 8192 };
        let whole = read(bytes, frame_max, || usize::MAX);
        let most = [2, 10, 100, 5000, 70_000][rng.usize(..5)];
        let cut = read(bytes, frame_max, || rng.usize(1..most));
        same(&whole, &cut);
        holds_what_came(bytes);
        understand(bytes);
        figures.frames += whole.frames + cut.frames;
    }
    figures
}

/// Cut or whole, the same is read. One exception: if a read ends before the end octet of a body
/// frame, its last piece is handed out before that octet is checked.
fn same(whole: &Reading, cut: &Reading) {
    assert_eq!(whole.error, cut.error);
    let body = |reading: &Reading| reading.bytes.len() + reading.body.len();
    if whole.error.is_none() {
        assert_eq!(whole.bytes, cut.bytes);
        assert_eq!(whole.body, cut.body);
    } else {
        assert!(cut.bytes.starts_with(&whole.bytes), "{} {}", body(whole), body(cut));
    }
}
