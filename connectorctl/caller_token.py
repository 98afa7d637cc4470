"""Token of a caller of a cluster: TokenRequest for the audience that the controller published."""

from collections.abc import Mapping
from typing import Any, Protocol

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.status.http_address import parse_http_address


class TokenClient(Protocol):
    """Part of `KubeClient` and `SmallClient` that a token and a kubeconfig need."""

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]: ...

    async def create_token(self, namespace: str, name: str, audience: str, ttl: int) -> str: ...


async def create_caller_token(
    client: TokenClient, connector: Mapping[str, Any], account: ObjectKey | None, ttl: int, default_audience: str
) -> str:
    """Return a token of the ServiceAccount for the proxy of a raw Connector. `ttl` is in seconds."""
    if account is None:
        raise ParseError(
            "--service-account", "is missing; name the ServiceAccount whose token to request, as NAMESPACE/NAME"
        )
    http_address = parse_http_address(connector)
    audience = (http_address.audience if http_address is not None else "") or default_audience
    return await client.create_token(account.namespace, account.name, audience, ttl)
