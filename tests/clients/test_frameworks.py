"""What frameworks build on top of queues: retries, delays, requests, broadcasts."""

import pytest

import catalogue
from catalogue import ends_well


@pytest.mark.parametrize(("client", "scenario"), catalogue.of_frameworks())
def test_what_a_framework_builds_on_its_topology(run, broker, client, scenario):
    ends_well(run(client, scenario, broker), scenario)


@pytest.mark.parametrize(("client", "scenario"), catalogue.pairs("delayed_delivery"))
def test_a_chain_of_queues_that_delay(run, broker, client, scenario):
    ends_well(run(client, scenario, broker), scenario)
