"""Options and fixtures. One broker serves the whole run; every test uses names of its own."""

import contextlib
import itertools
import signal

import pika
import pytest

pytest.register_assert_rewrite("support", "wire", "brokers")

import brokers
import wire

# RabbitMQ takes long to start, and some tests start a broker twice.
TEST_SECONDS = {"ringtail": 40, "rabbitmq": 150}
NUMBERS = itertools.count(1)


def pytest_addoption(parser):
    group = parser.getgroup("broker")
    group.addoption("--target", choices=["ringtail", "rabbitmq"], default="ringtail")
    group.addoption("--shards", type=int, default=1, help="threads of the ringtail under test")
    group.addoption("--io", choices=["auto", "uring", "epoll"], help="how it waits for sockets")
    group.addoption("--place", choices=["cross"], help="make every message cross shards")
    group.addoption("--binary", help="ringtail executable (default target/release/ringtail)")
    group.addoption("--programs", help="folder of client programs to run unchanged")


def pytest_configure(config):
    # SIGTERM ends the run through the fixtures, so the brokers are stopped.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    config.addinivalue_line("markers", "row(section, title): the test shows this behaviour")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    # A client library may wait for ever for an answer that does not come.
    seconds = TEST_SECONDS[item.config.option.target]
    signal.signal(signal.SIGALRM, _overdue)
    signal.setitimer(signal.ITIMER_REAL, seconds, seconds)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _overdue(*_):
    raise TimeoutError("the test takes too long")


def pytest_report_header(config):
    option = config.option
    place, io = option.place or "default", option.io or "default"
    return f"target: {option.target}, shards: {option.shards}, place: {place}, io: {io}"


@pytest.fixture(scope="session")
def make_broker(pytestconfig):
    """Makes a broker of the target that is not started yet; all are discarded at the end."""
    option = pytestconfig.option

    def make(**settings):
        if option.target == "rabbitmq":
            return brokers.RabbitMQ(**settings)
        return brokers.Ringtail(
            option.shards, option.place, option.binary, option.io, **settings)

    return make


@pytest.fixture
def own_broker(make_broker):
    """Starts brokers that one test has for itself, and may stop."""
    with contextlib.ExitStack() as stack:

        def start(**settings):
            broker = make_broker(**settings)
            stack.callback(broker.discard)
            return broker.start()

        yield start


@pytest.fixture(scope="session")
def broker(make_broker):
    """The broker under test."""
    broker = make_broker().start()
    yield broker
    broker.discard()


@pytest.fixture(autouse=True)
def survives(broker):
    """No test may cost the broker its life."""
    yield
    assert broker.process.poll() is None, broker.log()


@pytest.fixture
def connect(broker):
    """Opens pika connections that are closed when the test ends."""
    opened = []

    def open_connection(to=broker, **parameters):
        login = pika.PlainCredentials(to.user, to.password)
        given = {"host": to.host, "port": to.port, "credentials": login} | parameters
        opened.append(pika.BlockingConnection(pika.ConnectionParameters(**given)))
        return opened[-1]

    yield open_connection
    for connection in opened:
        if connection.is_open:
            connection.close()


@pytest.fixture
def connection(connect):
    """A connection."""
    return connect()


@pytest.fixture
def channel(connection):
    """A channel on a connection of its own."""
    return connection.channel()


@pytest.fixture
def raw(broker):
    """Opens connections that speak single frames."""
    with contextlib.ExitStack() as stack:
        yield lambda **settings: stack.enter_context(wire.Wire(broker, **settings))


@pytest.fixture
def name(request):
    """Gives a new name on each call, which tells the test it belongs to."""
    # Short, so that no reply text reaches the 255 bytes it is cut at.
    test = request.node.originalname.removeprefix("test_")[:30]
    return lambda: f"{test}.{next(NUMBERS)}"


@pytest.fixture
def queue(channel, name):
    """A transient queue of the test, deleted by the broker with the test's connection."""
    queue = name()
    channel.queue_declare(queue, exclusive=True)
    return queue


@pytest.fixture
def shared(channel, name):
    """A queue that every connection can use, deleted when the test ends."""
    queue = name()
    channel.queue_declare(queue)
    yield queue
    _tidy(channel, lambda fresh: fresh.queue_delete(queue))


@pytest.fixture
def exchange(channel, name):
    """Declares exchanges that are deleted when the test ends."""
    made = []

    def declare(kind, **settings):
        made.append(name())
        channel.exchange_declare(made[-1], kind, **settings)
        return made[-1]

    yield declare
    for each in made:
        _tidy(channel, lambda fresh, each=each: fresh.exchange_delete(each))


def _tidy(channel, action):
    # The test may have closed the channel or the connection; what is left then is never reused.
    if channel.connection.is_open:
        action(channel.connection.channel())
