"""Each row of the conditions table, reached and left again, with real targets."""

import pytest

from tests.cluster.controller.world import Controller, World

pytestmark = pytest.mark.usefixtures("controller")


def test_the_api_server_itself_is_a_ready_target(world: World, controller: Controller, namespace: str) -> None:
    world.put_secret(namespace, token=world.token(namespace), ca_crt=world.plane.ca_pem)
    world.put_connector(namespace, address=world.plane.url)
    world.until_condition(namespace, "Ready", "True")
