//! Field tables: plain ones, ones that nest, and ones that are made to hurt.

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
    let mut octets = Vec::new();
    for _ in 0..rng.u8(..4) {
        let key = KEYS[rng.usize(..KEYS.len())];
        octets.push(key.len() as u8);
        octets.extend(key.as_bytes());
        value(rng, depth, &mut octets);
    }
    octets
}

fn value(rng: &mut Rng, depth: usize, octets: &mut Vec<u8>) {
    let kinds = b"tbBsuIilLfdDTVSxAF";
    let kind = kinds[rng.usize(..kinds.len() - if depth == 0 { 2 } else { 0 })];
    octets.push(kind);
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
    octets.extend(content);
}

fn counted(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u32).to_be_bytes(), content].concat()
}

/// Tables or arrays in each other; a reader that follows blindly loses its stack.
fn bomb(rng: &mut Rng, kind: u8) -> Vec<u8> {
    let depth = [1, 63, 64, 65, 100, BOMB_DEPTH][rng.usize(..6)];
    let per_level = if kind == b'F' { 6 } else { 5 };
    let mut octets = Vec::new();
    // As many as one frame takes.
    for level in (0..depth.min(100_000 / per_level)).rev() {
        if kind == b'F' || octets.is_empty() {
            octets.push(0);
        }
        octets.push(kind);
        octets.extend(((level * per_level) as u32).to_be_bytes());
    }
    octets
}

/// Thousands of entries that say nothing.
fn wide(rng: &mut Rng) -> Vec<u8> {
    [0, b'V'].repeat(rng.usize(..20_000))
}
