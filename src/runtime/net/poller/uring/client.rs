//! A client's task: it reads while the shard lets it, and goes on writing once a full socket takes
//! something again. Everything else about output happens at the end of the turn.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::socket::UringSocket;
use super::turns::Turns;
use crate::runtime::net::client_socket::{ClientRc, End};
use crate::runtime::net::socket::Socket;
use crate::runtime::turn::Core;

/// A read of at least so many bytes means that more is on its way: the next attempt needs no
/// notice of readiness.
const BUSY: usize = 4096;

/// Runs until the connection is over, then tells the shard.
pub async fn serve(client: ClientRc<UringSocket>, turns: Rc<Turns>) {
    let end = poll_fn(|cx| poll(&client, &turns, cx)).await;
    turns.with(|core| core.closed(&client, end));
}

fn poll(client: &ClientRc<UringSocket>, turns: &Turns, cx: &mut Context<'_>) -> Poll<End> {
    client.socket.task.set(Some(cx.waker().clone()));
    if let Some(end) = client.failed() {
        return Poll::Ready(end);
    }
    if client.blocked.get()
        && let Poll::Ready(Err(error)) = turns.with(|core| poll_write(client, core, cx))
    {
        return Poll::Ready(End::Error(error.kind()));
    }
    if !client.reads() {
        return Poll::Pending;
    }
    poll_read(client, turns, cx)
}

fn poll_write(
    client: &ClientRc<UringSocket>,
    core: &mut Core<UringSocket>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    while client.blocked.get() {
        let mut output = client.output.borrow_mut();
        let polled = output
            .poll_write_first(core.clients.scratch(), |bytes| client.socket.poll_write(cx, bytes));
        drop(output);
        let wrote = match polled {
            Poll::Ready(wrote) => wrote?,
            Poll::Pending => return Poll::Pending,
        };
        core.wrote(client, wrote);
        if !wrote.all {
            core.write_more(client)?;
        }
    }
    Poll::Ready(Ok(()))
}

/// Reads once, at most a buffer; a busy connection then stands back for the others.
fn poll_read(client: &ClientRc<UringSocket>, turns: &Turns, cx: &mut Context<'_>) -> Poll<End> {
    loop {
        let bytes = match turns.with(|core| read(client, core, cx)) {
            Poll::Ready(Ok(0)) => return Poll::Ready(End::Peer),
            Poll::Ready(Ok(bytes)) => bytes,
            Poll::Ready(Err(error)) => return Poll::Ready(End::Error(error.kind())),
            Poll::Pending => return Poll::Pending,
        };
        client.socket.busy.set(bytes >= BUSY);
        if client.socket.busy.get() {
            turns.read_again(ClientRc::clone(client));
            return Poll::Pending;
        }
    }
}

fn read(
    client: &ClientRc<UringSocket>,
    core: &mut Core<UringSocket>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let socket = &client.socket;
    let read = if socket.busy.replace(false) {
        match socket.receive(&mut core.buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket.poll_read(cx, &mut core.buffer)
            }
            result => Poll::Ready(result),
        }
    } else {
        socket.poll_read(cx, &mut core.buffer)
    };
    if let Poll::Ready(Ok(bytes @ 1..)) = read {
        core.received(client, bytes);
    }
    read
}
