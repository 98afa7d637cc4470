"""Tokens for Connectors whose credential may only issue tokens (`serviceAccountTokenAuth`).

Access decisions need a target with a valid token. This module replaces the issuing credential of a target from the
store by its current token. Other targets stay unchanged. The proxy requests the first token only after a caller has
proved its right to use the Connector.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.token_request import IssuedToken, IssuingCredential
from connector_store.domain.decision.decide import Resolution
from connector_store.domain.objects.models import TOKEN_NOT_ISSUED, Target, Unusable
from connector_store.token_manager import TokenEndpoint, TokenManager


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPending(Unusable):
    """The first token of the target has not been requested yet. `wait_for_token` requests it."""


class TargetTokens:
    """Lookup of targets with their current tokens."""

    def __init__(self, get_stored: Callable[[ObjectKey], Resolution], token_manager: TokenManager) -> None:
        self.get_stored = get_stored
        """Lookup in the store. A target may have an issuing credential instead of a token."""
        self._token_manager = token_manager

    def get(self, key: ObjectKey) -> Resolution:
        """Return the target with its current token. Without a token, return Unusable with the reason."""
        resolution = self.get_stored(key)
        if not isinstance(resolution, Target) or not isinstance(resolution.credential, IssuingCredential):
            return resolution
        endpoint = _endpoint(resolution, resolution.credential)
        token = self._token_manager.cached_token(endpoint)
        if token is not None:
            return replace(resolution, credential=token)
        failure = self._token_manager.current_failure(endpoint)
        if failure is not None:
            return Unusable(key=resolution.key, reason=TOKEN_NOT_ISSUED, message=failure.message)
        return TokenPending(
            key=resolution.key, reason=TOKEN_NOT_ISSUED, message="no token of the target is there yet; try again"
        )

    async def wait_for_token(self, key: ObjectKey) -> None:
        """Wait for a token if the Connector needs one. Afterwards, `get` returns the token or the failure."""
        resolution = self.get_stored(key)
        if isinstance(resolution, Target) and isinstance(resolution.credential, IssuingCredential):
            await self._token_manager.get_token(_endpoint(resolution, resolution.credential))

    def discard_refused(self, target: Target) -> None:
        """Discard the issued token of `target`, because the target responded with 401 to it."""
        if isinstance(target.credential, IssuedToken):
            self._token_manager.invalidate(target.key, target.credential)

    def on_connectors_changed(self, keys: frozenset[ObjectKey]) -> None:
        """Discard the tokens of changed Connectors. Subscribe this method to the store."""
        for key in keys:
            resolution = self.get_stored(key)
            if isinstance(resolution, Target) and isinstance(resolution.credential, IssuingCredential):
                self._token_manager.discard_unless(_endpoint(resolution, resolution.credential))
            else:
                self._token_manager.forget(key)


def _endpoint(target: Target, credential: IssuingCredential) -> TokenEndpoint:
    return TokenEndpoint(target.key, target.address, target.ca, credential, target.secret_name or "")
