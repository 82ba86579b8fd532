//! What a connection has to write: a shard's outbox, taken whole and written piece by piece.

use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use super::socket::Socket;
use super::sys::SLICES_MAX;
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
    /// Octets that left.
    pub octets: usize,
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
    pub fn write(&mut self, socket: &Socket, scratch: &mut Scratch) -> io::Result<Wrote> {
        let before = self.done;
        let total = self.outbox.len();
        while self.done < total {
            let mut slices = scratch.take();
            self.outbox.slices(self.done, &mut slices);
            slices.truncate(SLICES_MAX);
            let offered: usize = slices.iter().map(|slice| slice.len()).sum();
            let result = socket.write_now(&slices);
            scratch.put(slices);
            let octets = result?;
            self.done += octets;
            if octets < offered || offered == 0 {
                break;
            }
        }
        Ok(self.wrote(before))
    }

    /// Writes when the socket takes something again.
    pub fn poll_write(
        &mut self,
        socket: &mut Socket,
        cx: &mut Context<'_>,
        scratch: &mut Scratch,
    ) -> Poll<io::Result<Wrote>> {
        let mut slices = scratch.take();
        self.outbox.slices(self.done, &mut slices);
        let first = slices.iter().find(|slice| !slice.is_empty());
        let polled = first.map_or(Poll::Ready(Ok(0)), |first| socket.poll_write(cx, first));
        scratch.put(slices);
        polled.map_ok(|octets| {
            self.done += octets;
            self.wrote(self.done - octets)
        })
    }

    fn wrote(&mut self, before: usize) -> Wrote {
        let octets = self.done - before;
        let all = self.done == self.outbox.len();
        if all {
            self.outbox.clear();
            self.done = 0;
        }
        Wrote { octets, all }
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
    use super::*;

    #[test]
    fn the_scratch_keeps_its_memory() {
        let mut scratch = Scratch::default();
        let octets = vec![1, 2, 3];
        let mut slices = scratch.take();
        slices.push(IoSlice::new(&octets));
        let memory = slices.as_ptr().addr();
        scratch.put(slices);
        let slices = scratch.take();
        assert!(slices.is_empty() && slices.capacity() >= SLICES_MAX);
        assert_eq!(slices.as_ptr().addr(), memory);
    }
}
