//! Damaged sessions.

use fastrand::Rng;

use crate::valid::{self, Frames};

/// False sizes, and sizes at a limit.
const LENGTHS: [u32; 12] =
    [0, 1, 3, 11, 8184, 8192, 131_064, 131_072, 131_073, 1 << 28, i32::MAX as u32, u32::MAX];

/// One session: valid in one of eight cases, noise in one of sixteen, else damaged.
pub fn session(rng: &mut Rng, actions: usize) -> Frames {
    let mut frames = valid::session(rng, actions);
    match rng.u8(..16) {
        0 | 1 => return frames,
        2 => return noise(rng, frames),
        _ => {}
    }
    for _ in 0..rng.u8(1..4) {
        change(rng, &mut frames);
    }
    if rng.u8(..8) == 0 {
        frames.truncate(rng.usize(1..=frames.len()));
    }
    frames
}

/// Noise, at once or after some valid frames.
fn noise(rng: &mut Rng, mut frames: Frames) -> Frames {
    frames.truncate(rng.usize(..frames.len()));
    frames.push((0..rng.usize(..2000)).map(|_| rng.u8(..)).collect());
    frames
}

fn change(rng: &mut Rng, frames: &mut Frames) {
    // A session that breaks early tests nothing after that, so only one change in four is early.
    let first = if rng.u8(..4) == 0 { 0 } else { frames.len() / 3 };
    let at = rng.usize(first..frames.len());
    match rng.u8(..16) {
        0 => drop(frames.remove(at)),
        1 => frames.insert(at, frames[at].clone()),
        2 => {
            let other = rng.usize(..frames.len());
            frames.swap(at, other);
        }
        3 => splice(rng, frames, at),
        4 => frames.insert(at, amqp::PROTOCOL_HEADER.to_vec()),
        5 => frames.insert(at, foreign(rng)),
        6 => frames[first..].rotate_left(1),
        7 => announced(rng, frames, at),
        8 => frames.insert(at, vec![8, 0, rng.u8(..2), 0, 0, 0, rng.u8(..2), 0xCE]),
        _ => damage(rng, &mut frames[at]),
    }
    if frames.is_empty() {
        frames.push(vec![rng.u8(..)]);
    }
}

/// The beginning of one frame and the end of another.
fn splice(rng: &mut Rng, frames: &mut Frames, at: usize) {
    let other = frames[rng.usize(..frames.len())].clone();
    let frame = &mut frames[at];
    frame.truncate(rng.usize(..=frame.len()));
    frame.extend(&other[rng.usize(..=other.len())..]);
}

/// A method frame of any class with any content.
fn foreign(rng: &mut Rng) -> Vec<u8> {
    let size = rng.usize(4..60);
    let mut bytes = vec![1, 0, rng.u8(..3), 0, 0, 0, size as u8];
    bytes.extend([0, [10, 20, 40, 50, 60, 85, 90, 30][rng.usize(..8)], 0, rng.u8(..130)]);
    bytes.extend((4..size).map(|_| rng.u8(..)));
    bytes.push(0xCE);
    bytes
}

/// A publish with a random announced size whose body comes in part, or not at all.
fn announced(rng: &mut Rng, frames: &mut Frames, at: usize) {
    let sizes =
        [1, 2048, 2049, 1 << 20, 134_217_728, 134_217_729, 1 << 29, (1 << 29) + 1, u64::MAX];
    let mut content = crate::rig::content("a", sizes[rng.usize(..sizes.len())]);
    if rng.bool() {
        amqp::frame::write_body(&mut content, 1, &vec![b'x'; rng.usize(1..5000)], 131_072);
    }
    frames.insert(at, content);
    if rng.bool() {
        frames.truncate(at + 1);
    }
}

/// Changes one thing about one frame.
fn damage(rng: &mut Rng, frame: &mut Vec<u8>) {
    if frame.len() < 8 {
        return frame.push(rng.u8(..));
    }
    let end = frame.len() - 1;
    match rng.u8(..8) {
        0 => frame[rng.usize(..=end)] ^= 1 << rng.u8(..8),
        1 => frame[rng.usize(..=end)] = rng.u8(..),
        2 => frame[end] = rng.u8(..),
        3 => frame[0] = rng.u8(..10),
        4 => frame[1..3].copy_from_slice(&[0, 1, 7, 255].map(|n| [0, n])[rng.usize(..4)]),
        5 => frame[1] = rng.u8(..),
        6 => {
            let length = LENGTHS[rng.usize(..LENGTHS.len())];
            frame[3..7].copy_from_slice(&length.to_be_bytes());
        }
        _ => frame.truncate(rng.usize(..end)),
    }
}
