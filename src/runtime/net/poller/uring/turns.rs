//! The task of the turn, and what the tasks of clients ask of it.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use glommio::timer::Timer;

use super::client;
use super::socket::UringSocket;
use crate::runtime::clock::until;
use crate::runtime::net::client_socket::ClientRc;
use crate::runtime::turn::Core;

/// The executor never sleeps for longer than so many microseconds.
const PULSE_US: u64 = 250_000;
/// So many microseconds busy connections are read without a look at who else is ready.
const STRAIGHT_US: u64 = 200;

/// The core, shared by the tasks of its thread. No borrow lives across an `await`.
pub struct Turns {
    core: RefCell<Core<UringSocket>>,
    /// Clients to be read again without a notice of readiness.
    again: RefCell<Vec<ClientRc<UringSocket>>>,
    /// When the executor was last made to look at the kernel.
    looked_us: Cell<u64>,
    /// A turn is due once the tasks just woken have run.
    behind: Cell<bool>,
    /// The task of the turn, while it waits.
    task: Cell<Option<Waker>>,
}

impl Turns {
    pub fn new(core: Core<UringSocket>) -> Self {
        Self {
            core: RefCell::new(core),
            again: RefCell::default(),
            looked_us: Cell::new(0),
            behind: Cell::new(false),
            task: Cell::new(None),
        }
    }

    /// Works on the core. If that asks for a turn, its task runs behind those that are ready.
    pub fn with<R>(&self, work: impl FnOnce(&mut Core<UringSocket>) -> R) -> R {
        let mut core = self.core.borrow_mut();
        let result = work(&mut core);
        if core.turn_requested()
            && let Some(waker) = self.task.take()
        {
            waker.wake();
        }
        result
    }

    /// The client's task is to read again after this turn, once the kernel was looked at for
    /// others. A task that woke itself would keep the executor from that.
    pub fn read_again(&self, client: ClientRc<UringSocket>) {
        self.again.borrow_mut().push(client);
    }

    /// The thread was woken: by another one, or by itself to go on reading.
    pub fn woken(&self) {
        self.wake_busy();
        self.with(Core::request_turn);
    }

    /// Has turns until the core is over.
    ///
    /// # Errors
    ///
    /// Why the shard cannot go on.
    pub async fn serve(self: Rc<Self>) -> Result<(), String> {
        let mut timer = None;
        loop {
            poll_fn(|cx| self.poll_turn(&mut timer, cx)).await;
            self.turn();
            let core = self.core.borrow();
            if let Some(why) = core.broken() {
                return Err(why.to_owned());
            }
            if core.is_over() {
                return Ok(());
            }
        }
    }

    /// Ready when a turn is due: requested, or by the clock. The one timer of the thread is only
    /// touched when the deadline comes nearer; one that fires too early costs an empty turn.
    fn poll_turn(&self, timer: &mut Option<(u64, Timer)>, cx: &mut Context<'_>) -> Poll<()> {
        let mut core = self.core.borrow_mut();
        if self.behind.take() {
            core.request_turn();
            cx.waker().wake_by_ref(); // Behind the tasks that were just woken.
        } else if core.turn_requested() {
            return Poll::Ready(());
        } else {
            self.task.set(Some(cx.waker().clone()));
        }
        let deadline = core.deadline_us();
        let nearer = |armed: u64| deadline.is_some_and(|deadline| deadline < armed);
        if timer.as_ref().is_none_or(|(armed, _)| nearer(*armed)) {
            let now = core.clock();
            let pulse = now.monotonic_us + PULSE_US;
            let deadline = deadline.map_or(pulse, |deadline| deadline.min(pulse));
            *timer = Some((deadline, Timer::new(until(deadline, now))));
        }
        let Some((_, armed)) = timer else {
            return Poll::Pending;
        };
        let fired = Pin::new(armed).poll(cx).map(drop);
        if fired.is_ready() {
            *timer = None;
        }
        fired
    }

    fn turn(self: &Rc<Self>) {
        let mut core = self.core.borrow_mut();
        core.turn();
        let (added, changed) = (core.clients.take_added(), core.clients.take_changed());
        drop(core);
        for client in added {
            // Runs up to its first wait at once; nothing of the core is borrowed here.
            glommio::spawn_local(client::serve(client, Rc::clone(self))).detach();
        }
        changed.iter().for_each(|client| client.socket.wake());
        let mut core = self.core.borrow_mut();
        if !self.again.borrow().is_empty() || core.unfinished() {
            self.go_on(&core); // A turn follows in any case: others need not wake this thread.
        } else if !core.may_sleep() {
            core.request_turn();
        }
    }

    /// Has the busy clients read again: straight away for a while, then by way of the wake-up, so
    /// that the executor looks at the kernel.
    fn go_on(&self, core: &Core<UringSocket>) {
        let now_us = core.clock().monotonic_us;
        if now_us < self.looked_us.get() + STRAIGHT_US {
            self.wake_busy();
            self.behind.set(true);
        } else {
            self.looked_us.set(now_us);
            core.wakeup().wake_always();
        }
    }

    fn wake_busy(&self) {
        self.again.borrow_mut().drain(..).for_each(|client| client.socket.wake());
    }
}
