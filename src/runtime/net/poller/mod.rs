//! How a shard's thread waits: for its sockets, for other threads and for the time.
//!
//! Two implementations stand behind one interface. `uring` waits with io_uring, by way of glommio's
//! executor; only it names glommio. `epoll` needs no permission of any kind and is there for the
//! systems that refuse io_uring. What they do with a socket that is ready is the same code.

mod choose;
mod epoll;
mod uring;

pub use choose::{Choice, UringRefusal, choose, warn_once};
pub use epoll::EpollPoller;
pub use uring::{LOG_TARGET, UringPoller};

use crate::runtime::net::socket::Socket;
use crate::runtime::turn::Core;

/// A way to wait, made on the thread that will wait.
pub trait Poller: Sized {
    /// What it makes of a client's socket.
    type Socket: Socket;

    /// Pins the calling thread to that CPU and asks the system for what waiting takes.
    ///
    /// # Errors
    ///
    /// Why the system refuses; a phrase for the log.
    fn new(cpu: usize) -> Result<Self, String>;

    /// Serves until the core is over.
    ///
    /// # Errors
    ///
    /// Why the shard cannot go on; a phrase for the log.
    fn run(self, core: Core<Self::Socket>) -> Result<(), String>;
}
