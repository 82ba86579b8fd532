//! What a connection has to write: a shard's outbox, taken whole and written piece by piece.

use std::io::{self, IoSlice};
use std::task::Poll;

use crate::runtime::net::socket::Socket;
use crate::runtime::sys::SLICES_MAX;
use crate::shard::Outbox;

/// The outbox being written, and how much of it is.
#[derive(Debug, Default)]
pub struct Output {
    outbox: Outbox,
    done: usize,
}

/// What one attempt to write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrote {
    /// Bytes that left.
    pub bytes: usize,
    /// Nothing is left.
    pub all: bool,
}

impl Output {
    /// Takes everything over from a shard's outbox.
    pub fn take(&mut self, outbox: &mut Outbox) {
        outbox.drain_into(&mut self.outbox);
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outbox.is_empty()
    }

    /// Writes without waiting. One call to the kernel, and another only where all the slices of the
    /// first left: a kernel that took a part will not take more yet.
    ///
    /// # Errors
    ///
    /// The socket's.
    pub fn write(&mut self, socket: &impl Socket, scratch: &mut Scratch) -> io::Result<Wrote> {
        let before = self.done;
        let total = self.outbox.len();
        while self.done < total {
            let mut slices = scratch.take();
            self.outbox.slices(self.done, &mut slices);
            slices.truncate(SLICES_MAX);
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let result = socket.send(&slices);
            scratch.put(slices);
            let bytes = result?;
            self.done += bytes;
            if bytes < offered || offered == 0 {
                break;
            }
        }
        Ok(self.wrote(before))
    }

    /// Hands the first bytes that are left to `write`, which says how many of them left.
    pub fn poll_write_first(
        &mut self,
        scratch: &mut Scratch,
        write: impl FnOnce(&[u8]) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<Wrote>> {
        let mut slices = scratch.take();
        self.outbox.slices(self.done, &mut slices);
        let first = slices.iter().find(|slice| !slice.is_empty());
        let polled = first.map_or(Poll::Ready(Ok(0)), |first| write(first));
        scratch.put(slices);
        polled.map_ok(|bytes| {
            self.done += bytes;
            self.wrote(self.done - bytes)
        })
    }

    fn wrote(&mut self, before: usize) -> Wrote {
        let bytes = self.done - before;
        let all = self.done == self.outbox.len();
        if all {
            self.outbox.clear();
            self.done = 0;
        }
        Wrote { bytes, all }
    }
}

/// Room for slices, used again and again.
#[derive(Debug, Default)]
pub struct Scratch(Vec<IoSlice<'static>>);

impl Scratch {
    fn take<'a>(&mut self) -> Vec<IoSlice<'a>> {
        let mut slices = emptied(std::mem::take(&mut self.0));
        slices.reserve(SLICES_MAX);
        slices
    }

    fn put(&mut self, slices: Vec<IoSlice<'_>>) {
        self.0 = emptied(slices);
    }
}

/// The vector without its content and so with any lifetime: collecting in place keeps the memory.
fn emptied<'a>(mut slices: Vec<IoSlice<'_>>) -> Vec<IoSlice<'a>> {
    slices.clear();
    slices.into_iter().map(|_| IoSlice::new(&[])).collect()
}

#[cfg(test)]
mod tests {
    use crate::runtime::net::output::*;

    #[test]
    fn the_scratch_keeps_its_memory() {
        let mut scratch = Scratch::default();
        let bytes = vec![1, 2, 3];
        let mut slices = scratch.take();
        slices.push(IoSlice::new(&bytes));
        let memory = slices.as_ptr().addr();
        scratch.put(slices);
        let slices = scratch.take();
        assert!(slices.is_empty() && slices.capacity() >= SLICES_MAX);
        assert_eq!(slices.as_ptr().addr(), memory);
    }
}
