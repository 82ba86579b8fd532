//! The system calls that the standard library does not offer, each behind a safe function.
//!
//! Invariants, for every `unsafe` here: pointers handed to the kernel point into a slice or a local
//! that outlives the call, with that slice's length; the kernel keeps none of them after it
//! returned. A descriptor becomes an `OwnedFd` (or a type that closes it) exactly once, right after
//! the call that made it or after its former owner gave it up.
#![allow(unsafe_code)]

use std::io::{self, IoSlice};
use std::mem;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::time::Duration;

/// At most this many slices go into one [`send`].
pub const SLICES_MAX: usize = 1024;

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// A new eventfd that is closed on exec. Reading it blocks while it is zero.
///
/// # Errors
///
/// The system's: no descriptors, no memory.
pub fn eventfd() -> io::Result<OwnedFd> {
    // SAFETY: no pointers; the result is a new descriptor that nobody else owns.
    unsafe { Ok(OwnedFd::from_raw_fd(check(libc::eventfd(0, libc::EFD_CLOEXEC))?)) }
}

/// Puts everything in the file system of an open file on stable storage.
///
/// # Errors
///
/// The system's, also of writes in the past that nobody else was told of.
pub fn sync_file_system(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::syncfs(fd.as_raw_fd()) }).map(drop)
}

/// Adds one to an eventfd.
///
/// # Errors
///
/// The system's; none is expected of an open eventfd far below 2^64.
pub fn add_one(fd: BorrowedFd<'_>) -> io::Result<()> {
    let one = 1u64.to_ne_bytes();
    // SAFETY: `one` is eight bytes.
    count(unsafe { libc::write(fd.as_raw_fd(), one.as_ptr().cast(), one.len()) }).map(drop)
}

/// Takes what is in an eventfd or one report of a signalfd; waits for it.
///
/// # Errors
///
/// The system's.
pub fn take(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut report = [0u8; size_of::<libc::signalfd_siginfo>()];
    // SAFETY: `report` has that length.
    count(unsafe { libc::read(fd.as_raw_fd(), report.as_mut_ptr().cast(), report.len()) }).map(drop)
}

/// Waits until one of the descriptors can be read, at most `timeout`. Says in `ready`, in the same
/// order, which can.
///
/// # Errors
///
/// The system's; being interrupted is none, then no descriptor can be read.
pub fn wait_any<R: AsMut<[bool]>>(
    fds: &[BorrowedFd<'_>],
    timeout: Option<Duration>,
    mut ready: R,
) -> io::Result<R> {
    let entry =
        |fd: &BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut entries: Vec<libc::pollfd> = fds.iter().map(entry).collect();
    let ms = |time: Duration| i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
    let ms = timeout.map_or(-1, ms);
    // SAFETY: `entries` is a vector of that length.
    let result = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, ms) };
    match check(result) {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
        _ => {}
    }
    for (flag, entry) in ready.as_mut().iter_mut().zip(&entries) {
        *flag = entry.revents != 0;
    }
    Ok(ready)
}

/// Blocks SIGTERM and SIGINT in this thread and those it starts, and gives a descriptor on which
/// they arrive instead.
///
/// # Errors
///
/// The system's.
pub fn stop_signals() -> io::Result<OwnedFd> {
    // SAFETY: an all-zero sigset_t is a valid value; sigemptyset then sets it properly.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is a local; the descriptor is new.
    unsafe {
        check(libc::sigemptyset(&mut set))?;
        check(libc::sigaddset(&mut set, libc::SIGTERM))?;
        check(libc::sigaddset(&mut set, libc::SIGINT))?;
        check(-libc::pthread_sigmask(libc::SIG_BLOCK, &set, ptr::null_mut()))?;
        Ok(OwnedFd::from_raw_fd(check(libc::signalfd(-1, &set, libc::SFD_CLOEXEC))?))
    }
}

/// Receives what is there, without waiting: `WouldBlock` if nothing is; 0 at the end.
///
/// # Errors
///
/// The system's.
pub fn receive(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: `buffer` has that length and is ours to write.
    count(unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) })
}

/// Sends what fits, without waiting: `WouldBlock` if nothing does. Takes the first [`SLICES_MAX`].
///
/// # Errors
///
/// The system's.
pub fn send(fd: RawFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: an all-zero msghdr is a valid value.
    let mut message: libc::msghdr = unsafe { mem::zeroed() };
    // The kernel only reads; IoSlice is an iovec by its documentation.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len().min(SLICES_MAX) as _;
    // SAFETY: `message` describes `slices`, which live until the call returns.
    count(unsafe { libc::sendmsg(fd, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) })
}

/// Shuts one or both directions of a socket. That the peer did so first is no error.
pub fn shut(fd: RawFd, how: Shutdown) {
    let how = match how {
        Shutdown::Read => libc::SHUT_RD,
        Shutdown::Write => libc::SHUT_WR,
        Shutdown::Both => libc::SHUT_RDWR,
    };
    // SAFETY: no pointers. The only error for an open socket is ENOTCONN: then it is shut.
    unsafe { libc::shutdown(fd, how) };
}

/// Lets so many connections wait to be accepted.
///
/// # Errors
///
/// The system's.
pub fn backlog(listener: &TcpListener, connections: i32) -> io::Result<()> {
    // SAFETY: no pointers.
    check(unsafe { libc::listen(listener.as_raw_fd(), connections) }).map(drop)
}

/// An option of a socket that is a whole number or a boolean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketOption {
    /// TCP_NODELAY.
    NoDelay,
    /// SO_KEEPALIVE.
    KeepAlive,
    /// SO_SNDBUF, bytes.
    SendBuffer,
    /// SO_RCVBUF, bytes.
    ReceiveBuffer,
}

/// Sets an option; the sockets that a listener accepts later have it too.
///
/// # Errors
///
/// The system's.
pub fn set_option(
    listener: &TcpListener,
    option: SocketOption,
    value: libc::c_int,
) -> io::Result<()> {
    let (level, name) = match option {
        SocketOption::NoDelay => (libc::IPPROTO_TCP, libc::TCP_NODELAY),
        SocketOption::KeepAlive => (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
        SocketOption::SendBuffer => (libc::SOL_SOCKET, libc::SO_SNDBUF),
        SocketOption::ReceiveBuffer => (libc::SOL_SOCKET, libc::SO_RCVBUF),
    };
    set(listener, level, name, &value)
}

/// Sets how many seconds a closed socket goes on sending; accepted sockets have it too.
///
/// # Errors
///
/// The system's.
pub fn set_linger(listener: &TcpListener, seconds: u16) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: seconds.into() };
    set(listener, libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

fn set<T: Copy>(
    listener: &TcpListener,
    level: libc::c_int,
    name: libc::c_int,
    value: &T,
) -> io::Result<()> {
    let (place, len) = (ptr::from_ref(value).cast(), size_of::<T>() as libc::socklen_t);
    // SAFETY: `place` is a value of that length, of the type that the option has.
    check(unsafe { libc::setsockopt(listener.as_raw_fd(), level, name, place, len) }).map(drop)
}

/// Gives a descriptor to a type that closes it.
#[must_use]
pub fn adopt<T: FromRawFd>(fd: impl Into<OwnedFd>) -> T {
    let fd: OwnedFd = fd.into();
    // SAFETY: `into_raw_fd` gave the open descriptor up.
    unsafe { T::from_raw_fd(fd.into_raw_fd()) }
}

/// One event of an epoll.
pub use libc::epoll_event as EpollEvent;

/// An event that says nothing.
pub const NO_EVENT: EpollEvent = EpollEvent { events: 0, u64: 0 };

/// Waits for events of an epoll, at most `timeout` rounded up to milliseconds. Says how many there
/// are now in the front of `events`; 0 also if a signal came.
///
/// # Errors
///
/// The system's.
pub fn epoll_wait(
    epoll: BorrowedFd<'_>,
    events: &mut [EpollEvent],
    timeout: Option<Duration>,
) -> io::Result<usize> {
    let ms =
        |time: Duration| i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
    let ms = timeout.map_or(-1, ms);
    let most = i32::try_from(events.len()).unwrap_or(i32::MAX);
    // Not epoll_pwait2, which some sandboxes do not know.
    // SAFETY: `events` has at least that length and is ours to write.
    let result = unsafe { libc::epoll_wait(epoll.as_raw_fd(), events.as_mut_ptr(), most, ms) };
    match check(result) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(0),
        ready => ready.map(|ready| usize::try_from(ready).unwrap_or(0)),
    }
}

/// Returns memory to the system that this thread allocated and that has been freed since, by
/// whichever thread. Takes up to some milliseconds for each GiB in use.
pub fn give_memory_back() {
    // SAFETY: no pointers; it may be called by any thread at any time.
    unsafe { libmimalloc_sys::mi_collect(true) }
}

/// Random bytes from the kernel.
///
/// # Errors
///
/// The system's; none is expected for up to 256 bytes.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0u8; N];
    // SAFETY: `bytes` has that length.
    let got = count(unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) })?;
    if got == bytes.len() { Ok(bytes) } else { Err(io::ErrorKind::Other.into()) }
}

/// The CPUs this process may use.
///
/// # Errors
///
/// The system's.
pub fn allowed_cpus() -> io::Result<Vec<usize>> {
    // SAFETY: an all-zero cpu_set_t is the empty set.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: `set` is a local of that size.
    check(unsafe { libc::sched_getaffinity(0, size_of_val(&set), &mut set) })?;
    // SAFETY: CPU_ISSET reads inside the set for all numbers below CPU_SETSIZE.
    let allowed = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &set) };
    Ok((0..libc::CPU_SETSIZE as usize).filter(allowed).collect())
}

/// A limit of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessLimit {
    /// Open descriptors.
    Files,
    /// Bytes of memory that may be locked.
    LockedMemory,
}

/// Raises the soft limit to the hard one. What it is then.
///
/// # Errors
///
/// The system's.
pub fn raise(limit: ProcessLimit) -> io::Result<u64> {
    let which = match limit {
        ProcessLimit::Files => libc::RLIMIT_NOFILE,
        ProcessLimit::LockedMemory => libc::RLIMIT_MEMLOCK,
    };
    let mut values = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `values` is a local.
    unsafe {
        check(libc::getrlimit(which, &mut values))?;
        values.rlim_cur = values.rlim_max;
        check(libc::setrlimit(which, &values))?;
    }
    Ok(values.rlim_cur)
}

/// Tries the three calls of io_uring: sets a ring up, enters it, asks which operations it knows.
///
/// # Errors
///
/// The system's: EPERM, ENOSYS, ENOMEM. ENOSYS also if the kernel is older than 5.8.
pub fn try_io_uring() -> io::Result<()> {
    /// IORING_REGISTER_PROBE.
    const PROBE: u32 = 8;
    /// IORING_OP_TEE, which came with Linux 5.8.
    const NEWEST: u8 = 33;
    // struct io_uring_params: 120 bytes, all zero but what the kernel fills in.
    let mut params = [0u64; 15];
    // SAFETY: `params` is as large as the structure and as aligned; the result is a new descriptor.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 8u32, params.as_mut_ptr()) };
    let ring = check(RawFd::try_from(ring).unwrap_or(-1))?;
    // SAFETY: the descriptor is new and nobody else's.
    let ring = unsafe { OwnedFd::from_raw_fd(ring) };
    let (fd, none) = (ring.as_raw_fd(), ptr::null::<u8>());
    // SAFETY: nothing is submitted or waited for, and the null pointer has the length 0.
    let entered = unsafe { libc::syscall(libc::SYS_io_uring_enter, fd, 0u32, 0u32, 0u32, none, 0) };
    check(i32::try_from(entered).unwrap_or(-1))?;
    // struct io_uring_probe: 16 bytes, then 8 for each of 256 operations.
    let mut probe = [0u64; 2 + 256];
    let place = probe.as_mut_ptr();
    // SAFETY: `probe` is as large as the structure with so many operations.
    let asked = unsafe { libc::syscall(libc::SYS_io_uring_register, fd, PROBE, place, 256u32) };
    check(i32::try_from(asked).unwrap_or(-1))?;
    // Its first byte is the newest operation.
    let [newest, ..] = probe[0].to_ne_bytes();
    if newest < NEWEST { Err(io::Error::from_raw_os_error(libc::ENOSYS)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::AsFd;
    use std::time::Instant;

    use rustix::event::epoll;

    use super::*;

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        backlog(&listener, 16).unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn an_eventfd_is_readable_after_it_was_rung() {
        let fd = eventfd().unwrap();
        assert_eq!(wait_any(&[fd.as_fd()], Some(Duration::ZERO), [false]).unwrap(), [false]);
        add_one(fd.as_fd()).unwrap();
        add_one(fd.as_fd()).unwrap();
        assert_eq!(wait_any(&[fd.as_fd()], None, [false]).unwrap(), [true]);
        take(fd.as_fd()).unwrap();
        assert_eq!(wait_any(&[fd.as_fd()], Some(Duration::ZERO), [false]).unwrap(), [false]);
    }

    #[test]
    fn an_epoll_tells_the_key_of_what_is_ready() {
        let flags = epoll::EventFlags::IN;
        let (epoll, fd) = (epoll::create(epoll::CreateFlags::CLOEXEC).unwrap(), eventfd().unwrap());
        epoll::add(&epoll, &fd, epoll::EventData::new_u64(7), flags).unwrap();
        let mut events = [NO_EVENT; 2];
        let begin = Instant::now();
        let timeout = Some(Duration::from_micros(1));
        assert_eq!(epoll_wait(epoll.as_fd(), &mut events, timeout).unwrap(), 0);
        // Rounded up: a wait that ends too early would have the caller spin.
        assert!(begin.elapsed() >= Duration::from_micros(500));
        add_one(fd.as_fd()).unwrap();
        assert_eq!(epoll_wait(epoll.as_fd(), &mut events, None).unwrap(), 1);
        let EpollEvent { events: ready, u64: key } = events[0];
        assert_eq!((ready, key), (flags.bits(), 7));
    }

    #[test]
    fn bytes_go_through_a_socket_without_waiting() {
        let (near, mut far) = pair();
        let mut buffer = [0; 8];
        let nothing = receive(near.as_raw_fd(), &mut buffer).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        far.write_all(b"abc").unwrap();
        wait_any(&[near.as_fd()], None, [false]).unwrap();
        assert_eq!(receive(near.as_raw_fd(), &mut buffer).unwrap(), 3);
        let slices = [IoSlice::new(b"de"), IoSlice::new(b""), IoSlice::new(b"f")];
        assert_eq!(send(near.as_raw_fd(), &slices).unwrap(), 3);
        shut(near.as_raw_fd(), Shutdown::Write);
        let mut text = String::new();
        far.read_to_string(&mut text).unwrap();
        assert_eq!(text, "def");
        drop(far);
        assert_eq!(receive(near.as_raw_fd(), &mut buffer).unwrap(), 0);
    }

    #[test]
    fn more_slices_than_the_kernel_takes_are_cut() {
        let (near, _far) = pair();
        let slices = vec![IoSlice::new(b"x"); SLICES_MAX + 1];
        assert_eq!(send(near.as_raw_fd(), &slices).unwrap(), SLICES_MAX);
    }

    #[test]
    fn a_full_socket_would_block() {
        let (near, _far) = pair();
        let bytes = vec![0; 1 << 20];
        let error = loop {
            if let Err(error) = send(near.as_raw_fd(), &[IoSlice::new(&bytes)]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn the_machine_answers() {
        assert!(!allowed_cpus().unwrap().is_empty());
        assert_ne!(random::<16>().unwrap(), random().unwrap());
        assert!(raise(ProcessLimit::Files).unwrap() > 0);
        try_io_uring().unwrap();
    }
}
