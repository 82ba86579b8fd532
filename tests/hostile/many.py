"""Many clients at once: all their handshakes are under way together, and what they send."""

import threading
import time

from pika import frame, spec

from wire import CAPABILITIES, HEADER, Wire


def open_all(broker, many, channels=1, seconds=60, heartbeat=0):
    """So many clients with so many open channels each."""
    start_ok = spec.Connection.StartOk(
        {"product": "load", "capabilities": CAPABILITIES}, "PLAIN",
        f"\0{broker.user}\0{broker.password}", "en_US")
    methods = [start_ok, spec.Connection.TuneOk(2047, 131072, heartbeat), spec.Connection.Open("/")]
    data = HEADER + b"".join(frame.Method(0, method).marshal() for method in methods)
    data += b"".join(
        frame.Method(number, spec.Channel.Open()).marshal() for number in range(1, channels + 1))
    clients = [Wire(broker, seconds=seconds) for _ in range(many)]
    for client in clients:
        client.write(data)
    for client in clients:
        for answer in (spec.Connection.Start, spec.Connection.Tune, spec.Connection.OpenOk):
            client.expect(answer, 0)
        for number in range(1, channels + 1):
            client.expect(spec.Channel.OpenOk, number)
    return clients


def push(each, data, seconds=2):
    """Sends as much as the broker takes until it has taken nothing for a moment, or all."""
    each.setblocking(False)
    view, deadline = memoryview(data), time.monotonic() + seconds
    while view and time.monotonic() < deadline:
        try:
            sent = each.send(view[:1 << 20])
            view, deadline = view[sent:], time.monotonic() + seconds
        except BlockingIOError:
            time.sleep(0.01)
        except OSError:
            break
    each.setblocking(True)
    return len(data) - len(view)


def together(clients, data):
    """All clients send the same at once, as much as the broker takes."""
    threads = [threading.Thread(target=push, args=(client.socket, data)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
