"""Between the store and the decision: a Connector that may only mint becomes one with a token that is good now.

Decisions ask for those alone; all others are what the store holds. A first token is waited for after the caller has
proved its right, and only then.
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
    """Nobody has waited for a token of the target so far: `lend` does."""


class TargetTokens:
    """`find` and `lend` are for the decision, `changed` is for the store."""

    def __init__(self, get_stored: Callable[[ObjectKey], Resolution], minter: TokenManager) -> None:
        self.get_stored = get_stored
        """What the store holds, which may be a right to mint."""
        self._minter = minter

    def get(self, key: ObjectKey) -> Resolution:
        """What there is now; Unusable while there is no token, with the reason that the target gave."""
        resolution = self.get_stored(key)
        if not isinstance(resolution, Target) or not isinstance(resolution.credential, IssuingCredential):
            return resolution
        source = _source(resolution, resolution.credential)
        token = self._minter.cached_token(source)
        if token is not None:
            return replace(resolution, credential=token)
        failure = self._minter.current_failure(source)
        if failure is not None:
            return Unusable(key=resolution.key, reason=TOKEN_NOT_ISSUED, message=failure.message)
        return TokenPending(
            key=resolution.key, reason=TOKEN_NOT_ISSUED, message="no token of the target is there yet; try again"
        )

    async def wait_for_token(self, key: ObjectKey) -> None:
        """Wait for a token where one is needed. How that went is what `find` says."""
        resolution = self.get_stored(key)
        if isinstance(resolution, Target) and isinstance(resolution.credential, IssuingCredential):
            await self._minter.get_token(_source(resolution, resolution.credential))

    def discard_refused(self, target: Target) -> None:
        """The target has answered 401 to what was lent: one that was minted is not lent again."""
        if isinstance(target.credential, IssuedToken):
            self._minter.invalidate(target.key, target.credential)

    def on_connectors_changed(self, keys: frozenset[ObjectKey]) -> None:
        """A subscriber of the store: tokens of what is another now are dropped at once."""
        for key in keys:
            resolution = self.get_stored(key)
            if isinstance(resolution, Target) and isinstance(resolution.credential, IssuingCredential):
                self._minter.discard_unless(_source(resolution, resolution.credential))
            else:
                self._minter.forget(key)


def _source(target: Target, right: IssuingCredential) -> TokenEndpoint:
    return TokenEndpoint(target.key, target.address, target.ca, right, target.secret_name or "")
