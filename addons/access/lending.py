"""Between the store and the decision: a Connector that may only mint becomes one with a token that is good now.

Decisions ask for those alone; all others are what the store holds. A first token is waited for after the caller has
proved its right, and only then.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.minting import IssuedToken, IssuingCredential
from connector_store.domain.decision.verdict import Resolution
from connector_store.domain.objects.models import TOKEN_NOT_ISSUED, Target, Unusable
from connector_store.minter import TokenEndpoint, TokenManager


@dataclass(frozen=True, slots=True, kw_only=True)
class NotYet(Unusable):
    """Nobody has waited for a token of the target so far: `lend` does."""


class Lending:
    """`find` and `lend` are for the decision, `changed` is for the store."""

    def __init__(self, held: Callable[[ObjectKey], Resolution], minter: TokenManager) -> None:
        self.held = held
        """What the store holds, which may be a right to mint."""
        self._minter = minter

    def find(self, key: ObjectKey) -> Resolution:
        """What there is now; Unusable while there is no token, with the reason that the target gave."""
        found = self.held(key)
        if not isinstance(found, Target) or not isinstance(found.credential, IssuingCredential):
            return found
        source = _source(found, found.credential)
        token = self._minter.cached_token(source)
        if token is not None:
            return replace(found, credential=token)
        failure = self._minter.current_failure(source)
        if failure is not None:
            return Unusable(key=found.key, reason=TOKEN_NOT_ISSUED, message=failure.message)
        return NotYet(key=found.key, reason=TOKEN_NOT_ISSUED, message="no token of the target is there yet; try again")

    async def lend(self, key: ObjectKey) -> None:
        """Wait for a token where one is needed. How that went is what `find` says."""
        found = self.held(key)
        if isinstance(found, Target) and isinstance(found.credential, IssuingCredential):
            await self._minter.get_token(_source(found, found.credential))

    def refused(self, target: Target) -> None:
        """The target has answered 401 to what was lent: one that was minted is not lent again."""
        if isinstance(target.credential, IssuedToken):
            self._minter.invalidate(target.key, target.credential)

    def changed(self, keys: frozenset[ObjectKey]) -> None:
        """A subscriber of the store: tokens of what is another now are dropped at once."""
        for key in keys:
            found = self.held(key)
            if isinstance(found, Target) and isinstance(found.credential, IssuingCredential):
                self._minter.discard_unless(_source(found, found.credential))
            else:
                self._minter.forget(key)


def _source(found: Target, right: IssuingCredential) -> TokenEndpoint:
    return TokenEndpoint(found.key, found.address, found.ca, right, found.secret_name or "")
