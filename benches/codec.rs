//! The wire alone: a chunk of small publishes parsed, a burst of deliveries written, a table read.

use amqp::frame::{write_body, write_header, write_method};
use amqp::{ArrayWriter, Assembler, Frame, Method, Parser, Step, Table, TableWriter, Value};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;

const CHUNK: usize = 64 * 1024;
const DELIVERIES: u64 = 1000;
const FRAME_MAX: u32 = 131_072;
/// Only a delivery mode of 2.
const PROPERTIES: [u8; 3] = [0x10, 0, 2];

fn publish(out: &mut Vec<u8>) {
    let method = Method::BasicPublish {
        ticket: 0,
        exchange: "amq.direct",
        routing_key: "orders.created",
        mandatory: false,
        immediate: false,
    };
    write_method(out, 1, &method);
    write_header(out, 1, 16, &PROPERTIES);
    write_body(out, 1, &[7; 16], FRAME_MAX);
}

/// What one read of a busy socket returns: whole publishes and the beginning of the next.
fn chunk() -> (Vec<u8>, u64) {
    let mut chunk = Vec::new();
    publish(&mut chunk);
    let publishes = CHUNK / chunk.len();
    while chunk.len() < CHUNK {
        publish(&mut chunk);
    }
    chunk.truncate(CHUNK);
    (chunk, publishes as u64)
}

/// Reads every whole frame and counts the contents that became complete.
fn read(parser: &mut Parser, assembler: &mut Assembler, chunk: &[u8]) -> u64 {
    let (mut at, mut complete) = (0, 0);
    while let Ok(Some(frame)) = parser.next(chunk, &mut at) {
        let step = match frame {
            Frame::Method { payload, .. } => assembler.method(payload),
            Frame::Header { payload, .. } => assembler.header(payload),
            Frame::Body { piece, last, .. } => assembler.body_piece(piece, last),
            Frame::Heartbeat { .. } => continue,
        };
        if let Ok(Step::Body { complete: true, .. }) = black_box(step) {
            complete += 1;
        }
    }
    complete
}

fn parse_publishes(criterion: &mut Criterion) {
    let (chunk, publishes) = chunk();
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(publishes));
    group.bench_function("parse 64 KiB of 16-byte publishes", |bencher| {
        bencher.iter_batched_ref(
            || (Parser::new(FRAME_MAX), Assembler::default()),
            |(parser, assembler)| {
                assert_eq!(read(parser, assembler, black_box(&chunk)), publishes);
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn write_deliveries(criterion: &mut Criterion) {
    let mut out = Vec::with_capacity(1 << 20);
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Elements(DELIVERIES));
    group.bench_function("write 1000 deliveries of 16 bytes", |bencher| {
        bencher.iter(|| {
            out.clear();
            for delivery_tag in 0..DELIVERIES {
                deliver(&mut out, delivery_tag);
            }
            black_box(out.len())
        });
    });
    group.finish();
}

fn deliver(out: &mut Vec<u8>, delivery_tag: u64) {
    let method = Method::BasicDeliver {
        consumer_tag: "amq.ctag-3VoFM0OWUEZJFcH3",
        delivery_tag,
        redelivered: false,
        exchange: "amq.direct",
        routing_key: "orders.created",
    };
    write_method(out, 1, &method);
    write_header(out, 1, 16, &PROPERTIES);
    write_body(out, 1, black_box(&[7; 16]), FRAME_MAX);
}

fn parse_table(criterion: &mut Criterion) {
    let keys = ArrayWriter::new().with(Value::LongString(b"orders.created"));
    let death = TableWriter::new()
        .with("count", Value::Long(1))
        .with("reason", Value::LongString(b"rejected"))
        .with("queue", Value::LongString(b"orders"))
        .with("time", Value::Timestamp(1_700_000_000))
        .with("exchange", Value::LongString(b"amq.direct"))
        .with("routing-keys", Value::Array(keys.array()));
    let deaths = ArrayWriter::new().with(Value::Table(death.table()));
    let headers = TableWriter::new()
        .with("x-death", Value::Array(deaths.array()))
        .with("x-first-death-reason", Value::LongString(b"rejected"))
        .with("tenant", Value::Int(42));
    let encoded = headers.table().encoded();
    let mut group = criterion.benchmark_group("codec");
    group.throughput(Throughput::Bytes(encoded.len() as u64));
    group.bench_function("check a table with x-death and look up its last entry", |bencher| {
        bencher
            .iter(|| Table::parse(black_box(encoded)).map(|table| table.get("tenant").is_some()));
    });
    group.finish();
}

criterion_group!(codec, parse_publishes, write_deliveries, parse_table);
criterion_main!(codec);
