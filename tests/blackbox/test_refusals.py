"""What a connection is refused for, with the exact words: frames, methods, states, logins."""

import pytest
from pika import frame, spec

from support import expect
from wire import CAPABILITIES, HEADER, header, raw_frame

SILENT = "3.10 trusts nobody yet: it waits 3 s and drops the socket; Ringtail tells the client"
CRASH = "3.10 fails inside and drops the socket without a word"


def refused(broker, client, code, text, *, silent=None):
    """The refusal with these words, or none at all where `silent` says why RabbitMQ has none."""
    if silent and not expect(broker, why=silent, ringtail=True, rabbitmq=False):
        assert not any(
            isinstance(value.method, spec.Connection.Close) for value in client.until_closed())
        return None
    return client.refused(code, text)


# Frames.

QUOTES = [
    (b"", "all octets = <<>>"),
    (b"text", 'all octets = <<"text">>'),
    (b'a"b\\c\n', 'all octets = <<"a\\"b\\\\c\\n">>'),
    (b"\x00\x01\xff", "all octets = <<0,1,255>>"),
    (b"0123456789abcdef", 'all octets = <<"0123456789abcdef">>'),
    (b"0123456789abcdefg", 'first 16 octets = <<"0123456789abcdef">>'),
    (bytes(17), "first 16 octets = <<0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0>>"),
    (b"\x80" * 16, "all octets = <<128,128,128,128,128,128,128,128,128,128,128,128,128,128,\n"
     + 23 * " " + "128,128>>"),
]


@pytest.mark.row("Framing", "Unknown frame type")
@pytest.mark.parametrize(("payload", "quoted"), QUOTES, ids=lambda value: repr(value)[:20])
def test_what_a_refused_frame_held_is_quoted(raw, payload, quoted):
    client = raw().opened()
    client.write(raw_frame(9, 1, payload))
    close = client.expect(spec.Connection.Close, 0)
    assert (close.reply_code, close.reply_text) == (
        501, f"FRAME_ERROR - type 9, {quoted}: unknown_frame")


@pytest.mark.row("Framing", "Wrong end of frame")
@pytest.mark.parametrize("cuts", [[], [3], [9], [7, 25, 40]], ids=str)
def test_a_wrong_end_is_quoted_however_the_frame_was_cut(raw, shared, cuts):
    client, body = raw().opened(), b"a body of more than 16 bytes"
    client.send(1, spec.Basic.Publish(exchange="", routing_key=shared))
    client.write(header(1, 1000))
    sent, begin = raw_frame(3, 1, body, end=0), 0
    for cut in [*cuts, len(sent)]:
        client.write(sent[begin:cut])
        begin = cut
    client.refused(
        501, 'FRAME_ERROR - type 3, first 16 octets = <<"a body of more t">>: '
        "{invalid_frame_end_marker,0}")


TOO_SHORT = [(1, b""), (1, b"abc"), (2, b"abc"), (2, b"\x00\x3c\x00\x00"), (8, b"x"), (0, b"")]


@pytest.mark.row("Framing", "Unknown frame type")
@pytest.mark.parametrize("channel", [0, 1, 9])
@pytest.mark.parametrize(("kind", "payload"), TOO_SHORT, ids=str)
def test_no_frame_of_its_type(raw, kind, payload, channel):
    client = raw().opened()
    client.write(raw_frame(kind, channel, payload))
    if (kind, channel) == (2, 0):
        return  # A header on channel 0 is another matter.
    quoted = f'<<"{payload.decode()}">>' if payload.isalpha() else \
        f"<<{','.join(map(str, payload))}>>"
    client.refused(501, f"FRAME_ERROR - type {kind}, all octets = {quoted}: unknown_frame")


@pytest.mark.row("Framing", "Heartbeat on a channel")
@pytest.mark.row("Framing", "Content on channel 0")
@pytest.mark.row("Framing", "Content without a method")
@pytest.mark.parametrize(("sent", "text"), [
    (raw_frame(8, 1, b""), "type 8, all octets = <<>>"),
    (raw_frame(8, 77, b""), "type 8, all octets = <<>>"),
    (raw_frame(3, 0, b"abc"), 'type 3, all octets = <<"abc">>'),
    (header(0, 5), "type 2, all octets = <<0,60,0,0,0,0,0,0,0,0,0,5,0,0>>"),
    (raw_frame(3, 77, b"abc"), "expected method frame, got non method frame instead"),
    (header(77, 5), "expected method frame, got non method frame instead"),
], ids=str)
def test_a_frame_that_does_not_belong_there(raw, sent, text):
    client = raw().opened()
    client.write(sent)
    client.refused(505, f"UNEXPECTED_FRAME - {text}")


@pytest.mark.row("Framing", "Arguments that end too early")
@pytest.mark.parametrize(("arguments", "text"), [
    (b"\x00\x00", "<<0,0>>"),
    (b"\x00\x00\x01q\x00\x00\x00\x00\xff", "<<0,0,1,113,0,0,0,0,255>>"),
    (b"\x00\x00\x01q\x00\x00\x00\x00\x00abc", "<<0,0,1,113,0,0,0,0,0,97,98,99>>"),
], ids=str)
def test_arguments_that_do_not_fit_their_method(raw, arguments, text):
    client = raw().opened()
    client.write(raw_frame(1, 1, b"\x00\x32\x00\x0a" + arguments))
    close = client.refused(501, f"FRAME_ERROR - cannot decode {text}")
    assert (close.class_id, close.method_id) == (50, 10)


@pytest.mark.row("Framing", "Table that cannot be read")
@pytest.mark.parametrize(("table", "code", "text"), [
    (b"\x01aZ1", 502, "SYNTAX_ERROR - unknown field type 90"),
    (b"\x01aA\x00\x00\x00\x05Z....", 502, "SYNTAX_ERROR - unknown field type 90"),
], ids=str)
def test_a_table_that_cannot_be_read(broker, raw, table, code, text):
    client = raw().opened()
    arguments = b"\x00\x00\x01q\x00" + len(table).to_bytes(4, "big") + table
    client.write(raw_frame(1, 1, b"\x00\x32\x00\x0a" + arguments))
    refused(broker, client, code, text, silent=CRASH)


@pytest.mark.row("Framing", "Unknown class or method")
@pytest.mark.parametrize("channel", [0, 1, 7])
@pytest.mark.parametrize(("ids", "name"), [(b"\x00\x63\x00\x0a", "99.10"),
                                           (b"\x00\x3c\x00\x63", "60.99")])
def test_a_method_that_does_not_exist(broker, raw, ids, name, channel):
    client = raw().opened()
    client.write(raw_frame(1, channel, ids))
    refused(broker, client, 540, f"NOT_IMPLEMENTED - unknown method {name}", silent=CRASH)


SERVERS = [
    spec.Channel.OpenOk(), spec.Channel.FlowOk(True), spec.Channel.CloseOk(), spec.Basic.QosOk(),
    spec.Basic.ConsumeOk("x"), spec.Basic.GetEmpty(), spec.Basic.RecoverOk(),
    spec.Queue.DeclareOk("q", 0, 0), spec.Exchange.DeclareOk(), spec.Confirm.SelectOk(),
    spec.Connection.Open("/"), spec.Connection.Close(200, "", 0, 0), spec.Connection.TuneOk(1, 1)]


@pytest.mark.row("Channels", "Method of the server")
@pytest.mark.parametrize("method", SERVERS, ids=lambda method: method.NAME)
def test_a_method_that_no_client_sends_on_a_channel(raw, method):
    client = raw().opened()
    client.send(1, method)
    close = client.refused(503, "COMMAND_INVALID - unimplemented method")
    assert (close.class_id, close.method_id) == (method.INDEX >> 16, method.INDEX & 0xFFFF)


@pytest.mark.row("Channels", "Method on a closed channel")
@pytest.mark.row("Channels", "First method is not open")
@pytest.mark.parametrize("method", [
    spec.Basic.Qos(), spec.Channel.Close(200, "", 0, 0), spec.Confirm.Select(),
    spec.Queue.Declare(queue="q")], ids=lambda method: method.NAME)
@pytest.mark.parametrize("opened_before", [False, True])
def test_a_method_on_a_channel_that_is_not_open(raw, method, opened_before):
    client = raw().opened()
    if opened_before:
        client.call(7, spec.Channel.Open(), spec.Channel.OpenOk)
        client.call(7, spec.Channel.Close(200, "", 0, 0), spec.Channel.CloseOk)
    client.send(7, method)
    client.refused(504, "CHANNEL_ERROR - expected 'channel.open'")


# Logins.

LOGIN = "\x05LOGINS\x00\x00\x00\x05guest"
PASSWORD = "\x08PASSWORDS\x00\x00\x00\x05guest"


@pytest.mark.row("Handshake", "Malformed response")
@pytest.mark.parametrize(("mechanism", "response"), [
    ("PLAIN", ""), ("PLAIN", "guest"), ("PLAIN", "\0guest"), ("PLAIN", "guest\0guest"),
    ("PLAIN", "x\0guest\0guest"), ("PLAIN", "\0guest\0guest\0more"),
    ("AMQPLAIN", ""), ("AMQPLAIN", LOGIN), ("AMQPLAIN", PASSWORD), ("AMQPLAIN", "garbage"),
    ("AMQPLAIN", LOGIN.replace("S\0\0\0\5guest", "I\0\0\0\5") + PASSWORD)], ids=repr)
def test_a_response_that_is_none(broker, raw, mechanism, response):
    client = raw()
    client.started(mechanism=mechanism, response=response)
    refused(
        broker, client, 502, f"SYNTAX_ERROR - invalid {mechanism} response", silent=SILENT)


@pytest.mark.row("Handshake", "Unknown mechanism")
@pytest.mark.parametrize("mechanism", ["", "plain", "EXTERNAL", "RABBIT-CR-DEMO"])
def test_a_mechanism_that_is_not_offered(broker, raw, mechanism):
    client = raw()
    client.started(mechanism=mechanism)
    text = f"COMMAND_INVALID - unknown authentication mechanism '{mechanism}'"
    refused(broker, client, 503, text, silent=SILENT)


@pytest.mark.row("Handshake", "Refused login")
@pytest.mark.parametrize("user", ["nobody", ""])
def test_a_login_refused_by_amqplain(raw, user):
    client = raw()
    login = f"\x05LOGINS\x00\x00\x00{chr(len(user))}{user}{PASSWORD}"
    client.started(mechanism="AMQPLAIN", response=login)
    client.refused(
        403, "ACCESS_REFUSED - Login was refused using authentication mechanism AMQPLAIN. "
        "For details see the broker logfile.")


@pytest.mark.row("Handshake", "Refused login, older client")
@pytest.mark.parametrize("capabilities", [{}, {"authentication_failure_close": False}])
def test_a_silent_refusal_does_not_listen(raw, capabilities):
    client = raw(capabilities=capabilities)
    client.started("guest", "wrong")
    client.send(0, spec.Connection.TuneOk(10, 8192, 0), spec.Connection.Open("/"))
    assert client.until_closed() == []


# States. What is allowed in each is in test_handshake.

def after(client, *methods):
    """Protocol header, connection.start, then these methods in one write."""
    client.write(HEADER)
    client.expect(spec.Connection.Start)
    client.send(0, *methods)
    if isinstance(methods[0], spec.Connection.StartOk):
        client.expect(spec.Connection.Tune, 0)


START_OK = spec.Connection.StartOk({"capabilities": CAPABILITIES}, "PLAIN", "\0guest\0guest", "en")
TUNE_OK = spec.Connection.TuneOk(10, 8192, 0)
OPEN = spec.Connection.Open("/")
WRONG = [
    ([OPEN], "starting", SILENT), ([TUNE_OK], "starting", SILENT),
    ([spec.Basic.Qos()], "starting", SILENT),
    ([START_OK, START_OK], "tuning", SILENT), ([START_OK, OPEN], "tuning", SILENT),
    ([START_OK, spec.Connection.SecureOk("x")], "tuning", SILENT),
    ([START_OK, TUNE_OK, TUNE_OK], "opening", None),
    ([START_OK, TUNE_OK, START_OK], "opening", None),
    ([START_OK, TUNE_OK, OPEN, OPEN], "running", None),
    ([START_OK, TUNE_OK, OPEN, START_OK], "running", None),
    ([START_OK, TUNE_OK, OPEN, spec.Channel.Open()], "running", None),
    ([START_OK, TUNE_OK, OPEN, spec.Connection.CloseOk()], "running", None),
    ([START_OK, TUNE_OK, OPEN, spec.Connection.Blocked("x")], "running", None),
]


@pytest.mark.row("Handshake", "Method in the wrong state")
@pytest.mark.parametrize(
    ("methods", "state", "silent"), WRONG,
    ids=lambda value: "-".join(each.NAME for each in value) if isinstance(value, list) else "")
def test_a_method_in_the_wrong_state(broker, raw, methods, state, silent):
    client = raw()
    after(client, *methods)
    if state == "running":
        client.expect(spec.Connection.OpenOk, 0)
    text = f"CHANNEL_ERROR - unexpected method in connection state {state}"
    refused(broker, client, 504, text, silent=SILENT if silent else None)


@pytest.mark.row("Handshake", "Channel before connection.open")
@pytest.mark.parametrize("methods", [[], [START_OK], [START_OK, TUNE_OK]], ids=len)
def test_a_channel_before_the_connection_is_open(broker, raw, methods):
    client = raw()
    client.write(HEADER)
    client.expect(spec.Connection.Start)
    client.send(0, *methods)
    if methods:
        client.expect(spec.Connection.Tune)
    client.send(1, spec.Channel.Open())
    text = "UNEXPECTED_FRAME - type 1, all octets = <<0,20,0,10,0>>"
    refused(broker, client, 505, text, silent=None if len(methods) == 2 else SILENT)


def test_heartbeats_during_the_handshake(raw):
    client, beat = raw(), frame.Heartbeat().marshal()
    client.write(HEADER + beat)
    client.expect(spec.Connection.Start)
    for method, answer in ((START_OK, spec.Connection.Tune), (TUNE_OK, None),
                           (OPEN, spec.Connection.OpenOk)):
        client.write(beat)
        client.send(0, method)
        client.write(beat)
        if answer:
            client.expect(answer, 0)


@pytest.mark.row("Handshake", "Close during the handshake")
@pytest.mark.parametrize("methods", [[], [START_OK]], ids=len)
def test_a_close_during_the_handshake(broker, raw, methods):
    client = raw()
    client.write(HEADER)
    client.expect(spec.Connection.Start)
    client.send(0, *methods, spec.Connection.Close(200, "", 0, 0))
    if methods:
        client.expect(spec.Connection.Tune)
    if expect(
            broker, why="3.10 knows no close before the connection is open and drops the socket "
            "after 3 s; Ringtail answers", ringtail=True, rabbitmq=False):
        client.expect(spec.Connection.CloseOk, 0)
    assert client.until_closed() == []


@pytest.mark.row("Handshake", "Another protocol header")
@pytest.mark.parametrize("header", [
    b"AMQP\x00\x00\x09\x00", b"AMQP\x00\x01\x00\x00", b"AMQP\x02\x01\x00\x00",
    b"\x16\x03\x01\x02\x00\x01\x00\x01", b"AMQPAMQP", bytes(8), b"SSH-2.0-OpenSSH\r\n"])
def test_other_protocols_are_told_ours(raw, header):
    client, answer = raw(), b""
    client.write(header)
    try:
        while received := client.socket.recv(100):
            answer += received
    except ConnectionResetError:
        pass
    assert answer == HEADER
