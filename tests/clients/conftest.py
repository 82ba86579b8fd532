"""Client programs against a broker of the target; the brokers are those of the black-box tests."""

import importlib.util
import itertools
import pathlib
import sys

import pytest

BLACKBOX = pathlib.Path(__file__).resolve().parents[1] / "blackbox"
sys.path.insert(0, str(BLACKBOX))


def _blackbox():
    # Both folders have a conftest: this one takes from the other what needs a broker.
    spec = importlib.util.spec_from_file_location("blackbox_conftest", BLACKBOX / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_SHARED = _blackbox()
# A scenario may start and stop a broker and a client more than once.
_SHARED.TEST_SECONDS = {"ringtail": 120, "rabbitmq": 300}
pytest_addoption = _SHARED.pytest_addoption
pytest_runtest_protocol = _SHARED.pytest_runtest_protocol
pytest_report_header = _SHARED.pytest_report_header
make_broker = _SHARED.make_broker
own_broker = _SHARED.own_broker
broker = _SHARED.broker
survives = _SHARED.survives
connect = _SHARED.connect

import alarms
import catalogue
from programs import Program

NUMBERS = itertools.count(1)


def pytest_configure(config):
    _SHARED.pytest_configure(config)
    config.addinivalue_line("markers", "needs(*features, raises): of the broker")


def pytest_collection_modifyitems(config, items):
    """What needs a feature that Ringtail has not built must fail there."""
    for item in items if config.option.target == "ringtail" else ():
        scenario = getattr(item, "callspec", None) and item.callspec.params.get("scenario")
        needed, raises = [*catalogue.NEEDS.get(scenario, ())], None
        for mark in item.iter_markers("needs"):
            needed += mark.args
            raises = mark.kwargs.get("raises")
        missing = [each for each in needed if each in catalogue.NOT_BUILT]
        if missing:
            reason = f"not built yet: {', '.join(missing)}"
            item.add_marker(pytest.mark.xfail(strict=True, reason=reason, raises=raises))


@pytest.fixture
def run(tmp_path):
    """Starts a scenario of a client as a child process; what still runs at the end is killed."""
    started = []

    def start(client, scenario, broker):
        prefix = f"{client}.{scenario}.{next(NUMBERS)}."
        command = catalogue.command(client, scenario)
        started.append(Program(command, tmp_path, catalogue.environment(broker, prefix)))
        started[-1].prefix = prefix
        return started[-1]

    yield start
    for program in started:
        program.kill()


@pytest.fixture(scope="session")
def heartbeats(broker, tmp_path_factory):
    """The heartbeat scenario of every client, all at once: each is idle for seconds."""
    folder = tmp_path_factory.mktemp("heartbeats")
    running = {
        client: Program(
            catalogue.command(client, "heartbeat"), folder,
            catalogue.environment(broker, f"{client}.idle."))
        for client in catalogue.having("heartbeat")}
    yield running
    for program in running.values():
        program.kill()


@pytest.fixture(scope="session")
def alarm(pytestconfig, make_broker):
    """A broker whose memory alarm can be raised and lifted."""
    alarm = alarms.of_target(pytestconfig.option.target, make_broker)
    yield alarm
    alarm.broker.discard()
