"""What the users' client libraries do all day, each through its ordinary interface."""

import pika
import pytest

import catalogue
from catalogue import ends_well
from support import eventually

SPECIAL = ("heartbeat", "blocked", "reconnect")
COMMON = [each for each in catalogue.SCENARIOS if each not in SPECIAL]


@pytest.mark.parametrize(("client", "scenario"), catalogue.pairs(*COMMON))
def test_scenario(run, broker, client, scenario):
    ends_well(run(client, scenario, broker), scenario)


@pytest.mark.parametrize(("client", "scenario"), catalogue.pairs("orderly_close"))
def test_a_close_that_the_program_wants_is_no_error(run, broker, client, scenario):
    ends_well(run(client, scenario, broker), scenario)


@pytest.mark.parametrize(("client", "scenario"), catalogue.pairs("netty"))
def test_another_layer_of_input_and_output(run, broker, client, scenario):
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
