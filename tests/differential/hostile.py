"""Ends of scripts that must be refused: wrong states, bad frames, bad logins."""

BASIC_PUBLISH = "003c0028" + "0000" + "00" + "00" + "00"
ACCESS_REQUEST = "001e000a"
CONTENT_HEADER = "003c0000" + "0000000000000003" + "0000"


def ending(writer):
    """A step that a broker refuses, or a list of such."""
    writer.at = writer.place()
    name, make = writer.dice.choice(sorted(ENDINGS.items()))
    if name == "update secret" and "update-secret" not in writer.features:
        return ending(writer)
    if name in ("tx", "rollback") and "tx" not in writer.features:
        return ending(writer)
    made = make(writer)
    if "framing" not in writer.features and "raw" in str(made):
        return ending(writer)
    return made


def on_channel(writer, *ops, **more):
    return {"c": writer.at[0], "ch": writer.at[1], "ops": [list(op) for op in ops]} | more


def raw(kind, payload, **more):
    return "raw", {"type": kind, "hex": payload} | more


def one(name, **arguments):
    """An ending that is a single method."""
    return lambda writer: on_channel(writer, (name.replace("_", "."), arguments))


def frames(*ops):
    """An ending that is a few ready frames on an open channel."""
    return lambda writer: on_channel(writer, *ops)


def unopened(*ops, channel=77):
    """An ending on a channel that is not open."""
    return lambda writer: {
        "c": writer.at[0], "ch": channel, "as_is": True, "ops": [list(op) for op in ops]}


def on_zero(*ops):
    """An ending on channel 0."""
    return lambda writer: {"c": writer.at[0], "ch": 0, "ops": [list(op) for op in ops]}


def login(**settings):
    """A handshake of its own."""
    return lambda writer: {"c": writer.at[0], "do": "handshake", "settings": settings}


def reuse_tag(writer):
    consume = ("basic.consume", {"queue": writer.some_queue(), "consumer_tag": "twice"})
    return [on_channel(writer, consume), on_channel(writer, consume)]


def immediate(writer):
    return on_channel(writer, ("publish", {
        "id": "now", "size": 3, "exchange": "", "routing_key": "@q0", "immediate": True}))


def interleaved(writer):
    """Two publishes whose frames alternate between two channels: allowed."""
    first, second = writer.at[1], writer.at[1] + 1
    body = "616263"
    return on_channel(
        writer, raw(1, "0014000a00", on=second + 30),
        raw(1, BASIC_PUBLISH), raw(1, BASIC_PUBLISH, on=second + 30),
        raw(2, CONTENT_HEADER, on=second + 30), raw(2, CONTENT_HEADER),
        raw(3, body), raw(3, body, on=second + 30), raw(1, "0014001400" + "01", on=first))


CLOSE = {"reply_code": 200, "reply_text": "", "class_id": 0, "method_id": 0}

ENDINGS = {
    "second open": one("channel.open"),
    "unknown exchange type": one("exchange.declare", exchange="@odd", type="nosuch"),
    "unknown passive queue": one("queue.declare", queue="@nosuch", passive=True),
    "unknown passive exchange": one("exchange.declare", exchange="@nosuch", passive=True),
    "tx": one("tx.commit"),
    "rollback": one("tx.rollback"),
    "prefetch size": one("basic.qos", prefetch_size=7),
    "recover false": one("basic.recover", requeue=False),
    "flow off": one("channel.flow", active=False),
    "flow ok": one("channel.flow-ok", active=True),
    "reuse tag": reuse_tag,
    "immediate": immediate,
    "unopened": unopened(("queue.declare", {"queue": "@q0"})),
    "unopened close": unopened(("channel.close", CLOSE)),
    "unopened close-ok": unopened(("channel.close-ok", {})),
    "unopened publish": unopened(("publish", {
        "id": "x", "size": 3, "exchange": "", "routing_key": "@q0"})),
    "beyond channel_max": unopened(("channel.open", {}), channel=3000),
    "channel method on 0": on_zero(("queue.declare", {"queue": "@q0"})),
    "channel open on 0": on_zero(("channel.open", {})),
    "open again": on_zero(("connection.open", {"virtual_host": "/"})),
    "tune-ok again": on_zero(("connection.tune-ok", {})),
    "start-ok again": on_zero(("connection.start-ok", {
        "client_properties": {}, "mechanism": "PLAIN", "response": "", "locale": "en_US"})),
    "close-ok unasked": on_zero(("connection.close-ok", {})),
    "connection method on a channel": one("connection.close", **CLOSE),
    "server's method": one("basic.consume-ok", consumer_tag="t"),
    "server's declare-ok": one("queue.declare-ok", queue="q", message_count=0, consumer_count=0),
    "cancel-ok": one("basic.cancel-ok", consumer_tag="t"),
    "method for header": frames(raw(1, BASIC_PUBLISH), raw(1, "0014001401")),
    "method for body": frames(
        raw(1, BASIC_PUBLISH), raw(2, CONTENT_HEADER), raw(1, "0014001401")),
    "header first": frames(raw(2, CONTENT_HEADER)),
    "body first": frames(raw(3, "616263")),
    "body for header": frames(raw(1, BASIC_PUBLISH), raw(3, "616263")),
    "header of another class": frames(
        raw(1, BASIC_PUBLISH), raw(2, "0032" + CONTENT_HEADER[4:])),
    "body too long": frames(
        raw(1, BASIC_PUBLISH), raw(2, CONTENT_HEADER), raw(3, "61626364")),
    "two headers": frames(raw(1, BASIC_PUBLISH), raw(2, CONTENT_HEADER), raw(2, CONTENT_HEADER)),
    "body in empty frames": frames(
        raw(1, BASIC_PUBLISH), raw(2, CONTENT_HEADER), raw(3, ""), raw(3, "616263")),
    "unknown class": frames(raw(1, "03e7000a")),
    "unknown method": frames(raw(1, "003c03e7")),
    "short method": frames(raw(1, "003c")),
    "truncated arguments": frames(raw(1, "0032000a0000")),
    "trailing bytes": frames(raw(1, "0014001401ff")),
    "unknown frame type": frames(raw(7, "00")),
    "heartbeat on a channel": frames(raw(8, "")),
    "heartbeat with payload": on_zero(raw(8, "00")),
    "wrong end": frames(raw(1, "0014001401", end=0xCD)),
    "bad utf-8": frames(raw(1, "0032000a0000" + "02c328" + "00" + "00000000")),
    "interleaved": interleaved,
    "error then more": lambda writer: on_channel(
        writer, ("queue.purge", {"queue": "@nosuch"}), ("queue.declare", {"queue": "@later"}),
        ("basic.get", {"queue": "@nosuch"})),
    "crossing closes": lambda writer: on_channel(
        writer, ("queue.purge", {"queue": "@nosuch"}), ("channel.close", CLOSE)),
    "no vhost": login(vhost="nosuch"),
    "wrong password": login(password="wrong"),
    "wrong mechanism": login(mechanism="NOSUCH"),
    "frame_max too large": login(frame_max=131073),
    "frame_max 0": login(frame_max=0),
    "channel_max too large": login(channel_max=2048),
    "channel_max 0": login(channel_max=0),
}
