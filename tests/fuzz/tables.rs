//! Field tables: plain, nested, and expensive ones.

use fastrand::Rng;

/// Deeper than any reader should follow.
const BOMB_DEPTH: usize = 20_000;
const KEYS: [&str; 8] =
    ["", "x-match", "capabilities", "x-message-ttl", "x-max-length", "é", "k", "x-queue-type"];

/// The content of a table, mostly small and mostly well formed.
pub fn content(rng: &mut Rng) -> Vec<u8> {
    match rng.u8(..64) {
        0..40 => Vec::new(),
        40..60 => entries(rng, 3),
        60 => bomb(rng, b'F'),
        61 => bomb(rng, b'A'),
        62 => wide(rng),
        _ => (0..rng.usize(..40)).map(|_| rng.u8(..)).collect(),
    }
}

fn entries(rng: &mut Rng, depth: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..rng.u8(..4) {
        let key = KEYS[rng.usize(..KEYS.len())];
        bytes.push(key.len() as u8);
        bytes.extend(key.as_bytes());
        value(rng, depth, &mut bytes);
    }
    bytes
}

fn value(rng: &mut Rng, depth: usize, bytes: &mut Vec<u8>) {
    let kinds = b"tbBsuIilLfdDTVSxAF";
    let kind = kinds[rng.usize(..kinds.len() - if depth == 0 { 2 } else { 0 })];
    bytes.push(kind);
    let content = match kind {
        b't' | b'b' | b'B' => vec![rng.u8(..)],
        b's' | b'u' => vec![rng.u8(..); 2],
        b'I' | b'i' | b'f' => vec![rng.u8(..); 4],
        b'D' => vec![rng.u8(..); 5],
        b'V' => Vec::new(),
        b'S' | b'x' => counted(&vec![rng.u8(b'a'..=b'z'); rng.usize(..30)]),
        b'A' => {
            let mut inner = Vec::new();
            (0..rng.u8(..3)).for_each(|_| value(rng, depth - 1, &mut inner));
            counted(&inner)
        }
        b'F' => counted(&entries(rng, depth - 1)),
        _ => vec![rng.u8(..); 8],
    };
    bytes.extend(content);
}

fn counted(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32).to_be_bytes(), content].concat()
}

/// Tables or arrays in each other; a reader that follows blindly loses its stack.
fn bomb(rng: &mut Rng, kind: u8) -> Vec<u8> {
    const LIMIT: usize = amqp::table::DEPTH_MAX;
    let depth = [1, 5, 100, LIMIT - 1, LIMIT, LIMIT + 1, BOMB_DEPTH][rng.usize(..7)];
    let per_level = if kind == b'F' { 6 } else { 5 };
    let mut bytes = Vec::new();
    // As many as one frame takes.
    for level in (0..depth.min(100_000 / per_level)).rev() {
        if kind == b'F' || bytes.is_empty() {
            bytes.push(0);
        }
        bytes.push(kind);
        bytes.extend(((level * per_level) as u32).to_be_bytes());
    }
    bytes
}

/// Thousands of empty entries.
fn wide(rng: &mut Rng) -> Vec<u8> {
    [0, b'V'].repeat(rng.usize(..20_000))
}
