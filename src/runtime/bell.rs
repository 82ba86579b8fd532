//! How one thread wakes another: an eventfd that is only written to while the other sleeps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use super::sys;

/// A thread's bell.
///
/// Who sleeps says so first ([`announce_sleep`](Self::announce_sleep)) and then looks once more for
/// work. Who leaves work looks afterwards whether the other sleeps ([`ring`](Self::ring)). Between
/// the two steps of either stands a sequentially consistent fence, so at least one of the two sees
/// the other.
#[derive(Debug)]
#[repr(align(128))] // Its own cache lines: every sender reads the flag once a turn.
pub struct Bell {
    asleep: AtomicBool,
    fd: OwnedFd,
}

impl Bell {
    /// A new bell, of a thread that is awake.
    ///
    /// # Errors
    ///
    /// The system's: no descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self { asleep: AtomicBool::new(false), fd: sys::eventfd()? })
    }

    /// The owner is about to sleep. It must look for work once more before it does.
    pub fn announce_sleep(&self) {
        self.asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// The owner is awake.
    pub fn awake(&self) {
        if self.asleep.load(Ordering::Relaxed) {
            self.asleep.store(false, Ordering::Relaxed);
        }
    }

    /// There is work for the owner, left before this call.
    pub fn ring(&self) {
        fence(Ordering::SeqCst);
        self.ring_after_fence();
    }

    /// [`ring`](Self::ring) where a sequentially consistent fence stands behind the work already.
    pub fn ring_after_fence(&self) {
        let sleeps = self.asleep.load(Ordering::Relaxed);
        // Of several that see it asleep only one writes.
        if sleeps && self.asleep.swap(false, Ordering::Relaxed) {
            self.ring_always();
        }
    }

    /// Wakes the owner, whether it announced its sleep or not.
    pub fn ring_always(&self) {
        if let Err(error) = sys::add_one(self.fd.as_fd()) {
            tracing::error!(%error, "cannot wake a thread");
        }
    }

    /// Forgets that it was rung; waits until it is.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn take(&self) -> io::Result<()> {
        sys::take(self.fd.as_fd())
    }

    /// The descriptor once more, for an executor that waits on it.
    ///
    /// # Errors
    ///
    /// The system's: no descriptors.
    pub fn descriptor(&self) -> io::Result<OwnedFd> {
        self.fd.try_clone()
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rung(bell: &Bell) -> bool {
        sys::wait_any(&[bell.as_fd()], Some(Duration::ZERO), [false]).unwrap() == [true]
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let bell = Bell::new().unwrap();
        bell.ring();
        assert!(!rung(&bell));
        bell.announce_sleep();
        bell.ring();
        assert!(rung(&bell));
        bell.take().unwrap();
        bell.ring();
        assert!(!rung(&bell));
        bell.announce_sleep();
        bell.awake();
        bell.ring();
        assert!(!rung(&bell));
    }
}
