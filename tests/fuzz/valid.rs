//! Valid sessions: frames in an order that the protocol allows.

use amqp::frame::{write_body, write_header, write_heartbeat};
use amqp::{Method, Table};
use fastrand::Rng;

use crate::{methods, rig, tables};

/// The frames of a session; the protocol header counts as one.
pub type Frames = Vec<Vec<u8>>;

/// A whole session with up to `actions` actions on its channels.
pub fn session(rng: &mut Rng, actions: usize) -> Frames {
    let mut frames = handshake(rng);
    let channels = rng.u16(1..4);
    for channel in 1..=channels {
        frames.push(rig::encoded(channel, &Method::ChannelOpen { out_of_band: "" }));
        let methods = methods::preamble(rng);
        frames.extend(methods.iter().map(|method| rig::encoded(channel, method)));
    }
    for _ in 0..rng.usize(..=actions) {
        action(rng, channels, &mut frames);
    }
    if rng.bool() {
        frames.push(rig::encoded(0, &rig::close()));
    }
    frames
}

fn handshake(rng: &mut Rng) -> Frames {
    let properties = tables::content(rng);
    let properties = Table::parse(&properties).unwrap_or(Table::EMPTY);
    let start_ok = match rng.u8(..100) {
        0 => methods::start_ok(properties, "PLAIN", b"\0guest\0wrong"),
        1 => methods::start_ok(properties, "NONE", b""),
        2 => methods::start_ok(properties, "PLAIN", &[0; 300]),
        _ => methods::start_ok(properties, "PLAIN", b"\0guest\0guest"),
    };
    let (channel_max, frame_max, heartbeat) = match rng.u8(..20) {
        0 => (rng.u16(..), rng.u32(..), rng.u16(..)),
        1 => (2047, 8192, 1),
        _ => (2047, 131_072, 0),
    };
    let vhost = if rng.u8(..100) == 0 { "nosuch" } else { "/" };
    vec![
        amqp::PROTOCOL_HEADER.to_vec(),
        rig::encoded(0, &start_ok),
        rig::encoded(0, &Method::ConnectionTuneOk { channel_max, frame_max, heartbeat }),
        rig::encoded(0, &rig::open(vhost)),
    ]
}

fn action(rng: &mut Rng, channels: u16, frames: &mut Frames) {
    let channel = rng.u16(1..=channels);
    match rng.u8(..10) {
        0..4 => publish(rng, channel, frames),
        4 if rng.bool() => {
            let mut heartbeat = Vec::new();
            write_heartbeat(&mut heartbeat);
            frames.push(heartbeat);
        }
        _ => {
            let arguments = if rng.u8(..8) == 0 { tables::content(rng) } else { Vec::new() };
            let arguments = Table::parse(&arguments).unwrap_or(Table::EMPTY);
            frames.push(rig::encoded(channel, &methods::on_channel(rng, arguments)));
        }
    }
}

/// A publish whose body may be empty, small, at a limit, or in many frames.
fn publish(rng: &mut Rng, channel: u16, frames: &mut Frames) {
    let sizes = [0, 1, 100, 2048, 2049, 9000, 40_000, 150_000];
    let common = if rng.u8(..4) == 0 { sizes.len() } else { 5 };
    let size = sizes[rng.usize(..common)];
    frames.push(rig::encoded(channel, &methods::publish(rng)));
    let mut header = Vec::new();
    write_header(&mut header, channel, size as u64, &properties(rng));
    frames.push(header);
    let least = if size > 200 { 1000 } else { 9 };
    let mut left = size;
    while left > 0 {
        let piece = left.min(rng.usize(least..131_065));
        let mut body = Vec::new();
        write_body(&mut body, channel, &vec![rng.u8(..); piece], 0);
        frames.push(body);
        left -= piece;
    }
}

fn properties(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(..12) {
        0..6 => vec![0, 0],
        6..10 => vec![0x10, 0, 2],
        10 if rng.u8(..8) == 0 => vec![rng.u8(..), rng.u8(..), rng.u8(..)],
        10 => {
            let content = tables::content(rng);
            [&[0x20, 0], &(content.len() as u32).to_be_bytes()[..], &content].concat()
        }
        _ => vec![0x80, 0, 1, 0xFF],
    }
}
