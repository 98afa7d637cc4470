"""Token of a caller of a cluster: the audience of the request."""

from collections.abc import Mapping
from typing import Any

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connectorctl.caller_token import create_caller_token
from connectorctl.small_client import run
from tests.fakes.tls_api_server import CONNECTOR

ACCOUNT = ObjectKey("ci", "robot")


class Client:
    """Client whose token is its own request."""

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        raise NotImplementedError

    async def create_token(self, namespace: str, name: str, audience: str, ttl: int) -> str:
        return f"{namespace} {name} {audience} {ttl}"


@pytest.mark.parametrize(
    ("connector", "audience"),
    [pytest.param(CONNECTOR, "own", id="a published one"), pytest.param({}, "default", id="none is published")],
)
def test_the_audience_is_that_of_the_proxy(connector: dict[str, Any], audience: str) -> None:
    token = run(create_caller_token(Client(), connector, ACCOUNT, 600, "default"))
    assert token == f"ci robot {audience} 600"


def test_an_account_is_required() -> None:
    with pytest.raises(ParseError, match="--service-account: is missing"):
        run(create_caller_token(Client(), CONNECTOR, None, 600, "default"))
