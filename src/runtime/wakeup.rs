//! How one thread wakes another: an eventfd that is only written to while the other sleeps.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering, fence};

use crate::runtime::sys;

/// What others wake a thread by.
///
/// The sleeper announces its sleep ([`announce_sleep`](Self::announce_sleep)) and then checks once
/// more for work. The other side leaves its work and then checks whether the owner sleeps
/// ([`wake`](Self::wake)). A sequentially consistent fence separates the two steps on both sides,
/// so at least one of them sees the other.
#[derive(Debug)]
#[repr(align(128))] // Its own cache lines: every sender reads the flag once a turn.
pub struct Wakeup {
    asleep: AtomicBool,
    fd: OwnedFd,
}

impl Wakeup {
    /// The wake-up of a thread that is awake.
    ///
    /// # Errors
    ///
    /// The system's: no descriptors.
    pub fn new() -> io::Result<Self> {
        Ok(Self { asleep: AtomicBool::new(false), fd: sys::eventfd()? })
    }

    /// The owner is about to sleep. It must check for work once more before it does.
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
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        self.wake_after_fence();
    }

    /// [`wake`](Self::wake) without its fence: the caller has a sequentially consistent fence
    /// between the work and this call.
    pub fn wake_after_fence(&self) {
        let sleeps = self.asleep.load(Ordering::Relaxed);
        // Only one of several wakers writes.
        if sleeps && self.asleep.swap(false, Ordering::Relaxed) {
            self.wake_always();
        }
    }

    /// Wakes the owner, whether it announced its sleep or not.
    pub fn wake_always(&self) {
        if let Err(error) = sys::add_one(self.fd.as_fd()) {
            tracing::error!(%error, "cannot wake a thread");
        }
    }

    /// Waits until the owner is woken, and resets that.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn wait(&self) -> io::Result<()> {
        sys::take(self.fd.as_fd())
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::runtime::wakeup::*;

    fn woken(wakeup: &Wakeup) -> bool {
        sys::wait_any(&[wakeup.as_fd()], Some(Duration::ZERO), [false]).unwrap() == [true]
    }

    #[test]
    fn only_a_sleeper_is_woken_and_only_once() {
        let wakeup = Wakeup::new().unwrap();
        wakeup.wake();
        assert!(!woken(&wakeup));
        wakeup.announce_sleep();
        wakeup.wake();
        assert!(woken(&wakeup));
        wakeup.wait().unwrap();
        wakeup.wake();
        assert!(!woken(&wakeup));
        wakeup.announce_sleep();
        wakeup.awake();
        wakeup.wake();
        assert!(!woken(&wakeup));
    }
}
