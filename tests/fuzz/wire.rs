//! The wire alone: what is read does not depend on where the reads cut it, holds no more than what
//! came, and reads the same when it is written again.

use amqp::frame::write_frame;
use amqp::{Array, Assembler, Frame, Method, Parser, Properties, Step, Table, Value};
use fastrand::Rng;

use crate::meter;
use crate::mutate;
use crate::runner::Figures;

/// As negotiated most often.
const FRAME_MAX: u32 = 131_072;

/// Everything that octets were read as: frames with whole bodies written again, and the error.
#[derive(Debug, Default, PartialEq)]
struct Reading {
    octets: Vec<u8>,
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
                    write_frame(&mut self.octets, Frame::Body { channel, piece, last });
                }
            }
            other => write_frame(&mut self.octets, other),
        }
    }
}

/// Reads octets in chunks of at most `most`.
fn read(octets: &[u8], frame_max: u32, mut most: impl FnMut() -> usize) -> Reading {
    let (mut parser, mut reading) = (Parser::new(frame_max), Reading::default());
    let mut rest = octets;
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
        assert!(parser.carried() <= octets.len().min(frame_max as usize + 8));
    }
    reading
}

/// What the parser asks for grows with what came, whatever was announced.
fn holds_what_came(octets: &[u8]) {
    meter::take_largest();
    let (mut parser, mut at, mut came) = (Parser::new(0), 0, 0);
    for chunk in octets.chunks(977) {
        came += chunk.len();
        at = 0;
        while let Ok(Some(_)) = parser.next(chunk, &mut at) {}
        let largest = meter::take_largest();
        assert!(largest <= 2 * came + 16, "{largest} octets asked for when {came} had come");
    }
    drop((parser, at));
}

/// Hands the frames to an assembler, and their content to every reader there is.
fn understand(octets: &[u8]) {
    let (mut parser, mut assembler, mut at) = (Parser::new(0), Assembler::default(), 0);
    while let Ok(Some(frame)) = parser.next(octets, &mut at) {
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
    // Comparing what was written, since a float may be no number, which equals nothing.
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

/// One seed: some sessions' octets.
pub fn run(seed: u64) -> Figures {
    let mut rng = Rng::with_seed(seed);
    let mut figures = Figures::default();
    for _ in 0..8 {
        let octets = mutate::session(&mut rng, 60).concat();
        // The protocol header is no frame.
        let octets = octets.strip_prefix(&amqp::PROTOCOL_HEADER).unwrap_or(&octets);
        let frame_max = if rng.bool() { FRAME_MAX } else { 8192 };
        let whole = read(octets, frame_max, || usize::MAX);
        let most = [2, 10, 100, 5000, 70_000][rng.usize(..5)];
        let cut = read(octets, frame_max, || rng.usize(1..most));
        same(&whole, &cut);
        holds_what_came(octets);
        understand(octets);
        figures.frames += whole.frames + cut.frames;
    }
    figures
}

/// Cut or whole, the same was read. When a read ends in front of the end octet of a body frame, its
/// last piece is out before that octet is known to be wrong.
fn same(whole: &Reading, cut: &Reading) {
    assert_eq!(whole.error, cut.error);
    let body = |reading: &Reading| reading.octets.len() + reading.body.len();
    if whole.error.is_none() {
        assert_eq!(whole.octets, cut.octets);
        assert_eq!(whole.body, cut.body);
    } else {
        assert!(cut.octets.starts_with(&whole.octets), "{} {}", body(whole), body(cut));
    }
}
