"""Who may access the data folder, and what the broker says of it. Only this broker's own files."""

import contextlib
import os
import pathlib
import re
import stat

import pika
import pytest

from brokers import ROOT
from support import expect

OWN = "not compared, the files are Ringtail's own"
PERSISTENT = pika.BasicProperties(delivery_mode=2)
WIDE = "can be accessed by other users"


@pytest.fixture(autouse=True)
def only_ringtail(broker):
    """Another broker has other files."""
    if not expect(broker, why=OWN, ringtail=True, rabbitmq=False):
        pytest.skip(OWN)


@pytest.fixture
def idle(make_broker):
    """Makes a broker that is not started yet."""
    with contextlib.ExitStack() as stack:

        def make():
            broker = make_broker()
            stack.callback(broker.discard)
            return broker

        yield make


def use(connect, broker):
    """Has the broker write to its logs, its metadata, and at the next start its segments."""
    channel = connect(to=broker).channel()
    channel.confirm_delivery()
    channel.queue_declare("kept", durable=True)
    channel.basic_publish("", "kept", b"body", PERSISTENT)
    channel.connection.close()


def modes(folder):
    """The permission bits of a folder and of all that is in it."""
    paths = [folder, *folder.rglob("*")]
    return {path.relative_to(folder): stat.S_IMODE(path.stat().st_mode) for path in paths}


def test_what_is_created_is_for_its_owner_alone(idle, connect):
    broker = idle()
    old = os.umask(0)
    try:
        broker.start()
    finally:
        os.umask(old)
    use(connect, broker)
    broker.kill()
    broker.start()
    found = modes(broker.data)
    assert {path.suffix for path in found} >= {".log", ".seg", ".meta"}
    folders = {pathlib.Path(name) for name in [".", "log", "queues", "meta"]}
    assert {path for path, mode in found.items() if mode == 0o700} == folders
    assert {mode for path, mode in found.items() if path not in folders} == {0o600}
    assert WIDE not in broker.log()


def test_a_folder_that_others_may_access_is_told_with_the_command(idle, connect):
    broker = idle()
    broker.data.mkdir(mode=0o755)
    use(connect, broker.start())
    broker.stop()
    assert f"{broker.data} (mode 0755) {WIDE}" in broker.log()
    assert f"run `chmod -R go= {broker.data}`" in broker.log()
    # It may be wanted so: nobody's folder is changed.
    assert modes(broker.data)[pathlib.Path(".")] == 0o755
    broker.data.chmod(0o700)
    for file in (broker.data / "meta").iterdir():
        file.chmod(0o644)
    before = broker.log().count(WIDE)
    broker.start().stop()
    told = broker.log().split(WIDE)[before]
    assert broker.log().count(WIDE) == before + 1 and told.endswith("(mode 0644) ")


@pytest.mark.parametrize("name", ["lock", "format.new"])
def test_links_in_the_place_of_files_are_not_followed(idle, name):
    broker = idle()
    broker.data.mkdir(mode=0o700)
    target = broker.folder / "target"
    target.write_text("untouched")
    (broker.data / name).symlink_to(target)
    if name == "lock":
        broker.keep = True
        with pytest.raises(AssertionError, match="ringtail exited 1"):
            broker.start()
        broker.keep = False
        assert "remove the link" in broker.log()
    else:
        broker.start().stop()
        assert (broker.data / "format").read_text() == "ringtail 1\n"
    assert target.read_text() == "untouched"


def test_the_compose_file_publishes_to_this_machine_alone():
    text = (ROOT / "compose.yaml").read_text()
    assert re.findall(r'^\s*- "(.*5672)"$', text, re.MULTILINE) == ["127.0.0.1:5672:5672"]
    # One place to change it, which says so.
    assert re.findall(r"(.*)\n\s*RABBITMQ_DEFAULT_PASS: (.*)", text) == [
        ("      # CHANGE THIS PASSWORD before anybody but you can connect.", "ringtail")]
    assert "ringtail:ringtail" not in text
