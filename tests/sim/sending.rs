//! The bytes that a client has sent and the broker has not read.

/// Bytes that are read from the front; what is left does not move for each read.
#[derive(Debug, Default)]
pub struct Sending {
    bytes: Vec<u8>,
    read: usize,
}

impl Sending {
    /// Bytes that were not read.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.read
    }

    /// All was read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where more is written to.
    pub fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Reads so many bytes.
    pub fn take(&mut self, count: usize) -> Vec<u8> {
        let taken = self.bytes[self.read..self.read + count].to_vec();
        self.read += count;
        if self.read * 2 > self.bytes.len() {
            self.bytes.drain(..std::mem::take(&mut self.read));
        }
        taken
    }

    /// Loses all but the first bytes.
    pub fn truncate(&mut self, count: usize) {
        self.bytes.truncate(self.read + count);
    }
}
