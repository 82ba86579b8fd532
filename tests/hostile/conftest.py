"""Hostile and heavy load against a running broker. Not part of the black-box tests proper, since it
is run once and not for every number of shards:

    python -m pytest tests/hostile                       moderate, as part of tests/run
    python -m pytest tests/hostile --scale 10            ten times as much of everything

What was measured is printed at the end.
"""

import importlib.util
import pathlib
import resource
import sys

import pytest

BLACKBOX = pathlib.Path(__file__).resolve().parents[1] / "blackbox"
sys.path.insert(0, str(BLACKBOX))
_spec = importlib.util.spec_from_file_location("blackbox", BLACKBOX / "conftest.py")
sys.modules["blackbox"] = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(sys.modules["blackbox"])

import blackbox
import process
from blackbox import *  # its options, hooks and fixtures
from neighbour import Neighbour

FIGURES = []
TEST_SECONDS = 80


def pytest_addoption(parser):
    blackbox.pytest_addoption(parser)
    options = parser.getgroup("broker")
    options.addoption("--scale", type=float, default=1, help="how much load")
    options.addoption(
        "--longer", type=int, default=50,
        help="milliseconds that an attacked neighbour may wait longer than one in peace")


def pytest_configure(config):
    blackbox.pytest_configure(config)
    blackbox.TEST_SECONDS[config.option.target] = TEST_SECONDS * max(1, config.option.scale)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("measured")
    for figure in FIGURES:
        terminalreporter.write_line(figure)


@pytest.fixture
def measured(request):
    """Notes a figure for the end of the run."""
    return lambda text: FIGURES.append(f"{request.node.name}: {text}")


@pytest.fixture
def scaled(pytestconfig):
    """How many, at the scale asked for."""
    return lambda many: int(many * pytestconfig.option.scale)


@pytest.fixture(scope="session")
def make_broker(pytestconfig):
    """Makes brokers whose process is looked at."""
    option = pytestconfig.option
    if option.target != "ringtail":
        pytest.skip("what is measured here is this broker's process")

    def make(shards=option.shards, **settings):
        return process.Measured(shards, option.place, option.binary, option.io, **settings)

    return make


@pytest.fixture
def neighbour(broker):
    """An honest publisher and an honest consumer, who lose nothing whatever a test does."""
    with Neighbour(broker) as honest:
        yield honest
