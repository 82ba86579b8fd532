//! What a connection is sent, and the flow credit that returns to homes when bytes
//! are written to the socket.

use std::collections::VecDeque;

use model::{ChannelId, Now, Outbox, ShardId};

/// Bytes of output beyond which a connection's input is not read.
pub const OUTPUT_MARK: u64 = 1024 * 1024;

/// Flow credit that returns to a home once the output up to a position has left.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CreditDue {
    until: u64,
    pub home: ShardId,
    pub bytes: u64,
}

/// The output of one connection.
#[derive(Debug)]
pub(crate) struct ClientOutput {
    pub outbox: Outbox,
    /// When output was last made, in microseconds of the monotonic clock.
    pub sent_us: u64,
    written: u64,
    /// Bytes that were made, and those of them by reference, when nothing waited last.
    idle_at: (u64, u64),
    credit: VecDeque<CreditDue>,
    /// Channels whose commits wait until more output has left.
    commits: Vec<ChannelId>,
}

impl ClientOutput {
    pub fn new(now: Now) -> Self {
        Self {
            outbox: Outbox::default(),
            sent_us: now.monotonic_us,
            written: 0,
            idle_at: (0, 0),
            credit: VecDeque::new(),
            commits: Vec::new(),
        }
    }

    /// Bytes that have not left for the socket.
    pub fn unsent(&self) -> u64 {
        self.outbox.produced() - self.written
    }

    /// Bytes that have left for the socket.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Bytes of memory held for it, here and where it is written.
    #[inline]
    pub fn pinned(&self) -> usize {
        let credit = self.credit.capacity() * size_of::<CreditDue>();
        let elsewhere = self.unsent() as usize - self.outbox.len();
        self.own_share(elsewhere) + self.outbox.pinned() + credit
    }

    /// How many of those bytes are not parts of large bodies, which count elsewhere.
    fn own_share(&self, bytes: usize) -> usize {
        let (all, referred) = (self.outbox.produced(), self.outbox.referred());
        let (all, referred) = (all - self.idle_at.0, referred - self.idle_at.1);
        if referred == 0 || all == 0 {
            return bytes;
        }
        // As many as of all that was made since nothing waited.
        (bytes as u128 * u128::from(all - referred) / u128::from(all)) as usize
    }

    /// A delivery from `home` is at the end of the output.
    #[inline]
    pub fn delivered(&mut self, home: ShardId, bytes: u64) {
        const TOGETHER: u64 = 16 * 1024;
        let until = self.outbox.produced();
        match self.credit.back_mut() {
            Some(last) if last.home == home && last.bytes < TOGETHER => {
                last.until = until;
                last.bytes += bytes;
            }
            _ => self.credit.push_back(CreditDue { until, home, bytes }),
        }
    }

    /// So many bytes have left for the socket.
    pub fn wrote(&mut self, bytes: usize) {
        self.written += bytes as u64;
        if self.written == self.outbox.produced() {
            self.idle_at = (self.written, self.outbox.referred());
        }
    }

    /// Credit to return now that more output has left: that of a large message piece by piece, so
    /// that its home sees whether the client takes it.
    pub fn credit_due(&mut self) -> Option<CreditDue> {
        const PIECE: u64 = 256 * 1024;
        let written = self.written;
        let first = self.credit.front_mut()?;
        if first.until <= written {
            return self.credit.pop_front();
        }
        if first.bytes <= PIECE || written + (first.bytes - PIECE) < first.until {
            return None;
        }
        first.bytes -= PIECE;
        Some(CreditDue { bytes: PIECE, ..*first })
    }

    /// The channel's commit waits until more output has left.
    pub fn hold_commit(&mut self, channel: ChannelId) {
        self.commits.push(channel);
    }

    /// The commits that may go on, since output has left.
    pub fn take_commits(&mut self) -> Vec<ChannelId> {
        std::mem::take(&mut self.commits)
    }
}
