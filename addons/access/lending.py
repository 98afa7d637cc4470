"""Between the store and the decision: a Connector that may only mint becomes one with a token that is good now.

It stands where the decision asks: as its `Access`, which waits for a first token after the caller has proved its
right, and as what finds its Connectors, which never waits. For all other Connectors both say what they are asked.
"""

from collections.abc import Callable
from dataclasses import replace

from connector_store.domain.access import Access, Answer, Granted, Identity
from connector_store.domain.minting import MintedToken, MintingRight
from connector_store.domain.models import NOT_LENT, Target, Unusable
from connector_store.domain.names import ObjectKey
from connector_store.domain.verdict import Found
from connector_store.minter import Minter, Source


class Lending:
    """`find` and `changed` are for the decision and the store; the rest is an `Access`."""

    def __init__(self, access: Access, held: Callable[[ObjectKey], Found], minter: Minter) -> None:
        self._access = access
        self._held = held
        self._minter = minter

    def find(self, key: ObjectKey) -> Found:
        """What there is now; Unusable while there is no token, with the reason that the target gave."""
        found = self._held(key)
        if not isinstance(found, Target) or not isinstance(found.credential, MintingRight):
            return found
        source = _source(found, found.credential)
        token = self._minter.current(source)
        if token is not None:
            return replace(found, credential=token)
        failure = self._minter.failure(source)
        why = failure.message if failure is not None else "no token of the target is there yet; try again"
        return Unusable(key=key, reason=NOT_LENT, message=why)

    def cached(self, token: str, key: ObjectKey) -> Answer | None:
        """None also where a token of the target has to be waited for: then `check` is asked."""
        answer = self._access.cached(token, key)
        if isinstance(answer, Granted):
            found = self._held(key)
            if isinstance(found, Target) and isinstance(found.credential, MintingRight):
                source = _source(found, found.credential)
                if self._minter.current(source) is None and self._minter.failure(source) is None:
                    return None
        return answer

    async def check(self, token: str, key: ObjectKey) -> Answer:
        answer = await self._access.check(token, key)
        found = self._held(key) if isinstance(answer, Granted) else None
        if isinstance(found, Target) and isinstance(found.credential, MintingRight):
            # How that went is what `find` says.
            await self._minter.lend(_source(found, found.credential))
        return answer

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> Answer:
        return await self._access.recheck(token, identity, key)

    def refused(self, target: Target) -> None:
        """The target has answered 401 to what was lent: one that was minted is not lent again."""
        if isinstance(target.credential, MintedToken):
            self._minter.refused(target.key, target.credential)

    def changed(self, keys: frozenset[ObjectKey]) -> None:
        """A subscriber of the store: tokens of what is another now are dropped at once."""
        for key in keys:
            found = self._held(key)
            if isinstance(found, Target) and isinstance(found.credential, MintingRight):
                self._minter.keep(_source(found, found.credential))
            else:
                self._minter.forget(key)


def _source(found: Target, right: MintingRight) -> Source:
    return Source(found.key, found.address, found.ca, right, found.secret_name or "")
