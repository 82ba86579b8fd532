"""What the users' client libraries do all day, each through its ordinary interface."""

import pika
import pytest

import catalogue
from support import eventually

SPECIAL = ("heartbeat", "blocked", "reconnect")
COMMON = [each for each in catalogue.SCENARIOS if each not in SPECIAL]


@pytest.fixture(autouse=True)
def built(request, pytestconfig):
    """A scenario that Ringtail cannot serve yet must fail."""
    scenario = getattr(request.node, "callspec", None) and request.getfixturevalue("scenario")
    if pytestconfig.option.target == "ringtail" and scenario in catalogue.NOT_BUILT:
        request.applymarker(pytest.mark.xfail(strict=True, reason=f"{scenario} is not built yet"))


@pytest.mark.parametrize(("client", "scenario"), catalogue.pairs(*COMMON))
def test_scenario(run, broker, client, scenario):
    ends_well(run(client, scenario, broker), scenario)


@pytest.mark.parametrize(("client", "scenario"), catalogue.pairs("heartbeat"))
def test_an_idle_connection_lives_on_heartbeats(heartbeats, client, scenario):
    ends_well(heartbeats[client], scenario)


@pytest.mark.parametrize(("client", "scenario"), catalogue.pairs("blocked"))
def test_a_publisher_hears_of_an_alarm_and_of_its_end(run, alarm, client, scenario):
    says = "blocked" if client in catalogue.WITHOUT_REASON else "blocked: low on memory"
    with alarm:
        program = run(client, scenario, alarm.broker).says(says)
        alarm.lift()
        ends_well(program, scenario)


@pytest.mark.parametrize(("client", "scenario"), catalogue.pairs("reconnect"))
def test_a_client_comes_back_after_the_broker_closed_its_connection(
        run, own_broker, connect, client, scenario):
    broker = own_broker()
    program = run(client, scenario, broker).says("ready")
    publish(connect, broker, program.prefix + "queue", b"before")
    program.says("got before")
    broker.stop()
    broker.start()
    publish(connect, broker, program.prefix + "queue", b"after")
    program.says("got after")
    ends_well(program, scenario)


def publish(connect, broker, queue, body):
    """Publishes until the queue, which the client may have to declare again, has taken it."""
    connection = connect(to=broker)
    channel = connection.channel()
    channel.confirm_delivery()

    def taken():
        try:
            channel.basic_publish("", queue, body, mandatory=True)
        except pika.exceptions.UnroutableError:
            return False
        return True

    eventually(taken)
    connection.close()


def ends_well(program, scenario):
    """It came to its end, which is also the end of this scenario."""
    assert program.finish().splitlines()[-1] == f"ok {scenario}", program.text()
