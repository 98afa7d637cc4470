"""The order of checks, as one pure function for CONNECT and one for a request in a tunnel.

synced -> parse -> authenticate -> may this caller use this key -> the object -> usable -> address. It is also the
order of knowledge: nobody learns about an object that he may not use.
"""

from dataclasses import dataclass

from connector_store.domain import denial
from connector_store.domain.access import Answer, Granted, Refused, Unavailable
from connector_store.domain.caller import Caller
from connector_store.domain.denial import Deny
from connector_store.domain.errors import ParseError
from connector_store.domain.headers import Fields
from connector_store.domain.matching import authority_matches, host_matches, path_within
from connector_store.domain.models import Target, Unusable
from connector_store.domain.names import ObjectKey

Found = Target | Unusable | None
"""What the store has for a key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inject:
    """Goes on to `target` with its credential."""

    target: Target
    granted: Granted


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """Goes on to `target` without a credential: its class makes authentication optional and no Secret is named."""

    target: Target
    granted: Granted


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer:
    """A tunnel for `key` may open; its caller comes inside, and nothing of the Connector is looked at before."""

    key: ObjectKey


Verdict = Inject | Deny | Forward


def before_access(*, synced: bool, caller: Caller | ParseError) -> Deny | Caller:
    """What of a CONNECT is decided before anybody is asked: Deny, or whom to check."""
    if not synced:
        return denial.not_synced()
    if isinstance(caller, ParseError):
        return denial.bad_credentials(caller, inside=False)
    return caller


def decide_connect(
    *, synced: bool, caller: Caller | ParseError, answer: Answer | None, found: Found, authority: str
) -> Verdict | Defer:
    """Decide on a CONNECT. `answer` is None where nobody was asked; `found` is the store's for the caller's key."""
    asked = before_access(synced=synced, caller=caller)
    if isinstance(asked, Deny):
        return asked
    if asked.token is None:
        return Defer(key=asked.key)
    return _admit(asked.key, answer, found, authority, inside=False)


def decide_request(
    *,
    synced: bool,
    key: ObjectKey,
    answer: Answer | ParseError | None,
    found: Found,
    authority: str,
    raw_target: bytes,
    headers: Fields,
) -> Verdict:
    """Decide on a request in a tunnel that was opened for `key` and `authority`.

    `answer` is the access check's for the tunnel's token or, where that comes inside, for this request's; a ParseError
    if this request has no readable one.
    """
    if not synced:
        return denial.not_synced()
    if isinstance(answer, ParseError):
        return denial.bad_credentials(answer, inside=True)
    verdict = _admit(key, answer, found, authority, inside=True)
    if isinstance(verdict, Deny):
        return verdict
    return _check_head(verdict.target, raw_target, headers) or verdict


def _admit(key: ObjectKey, answer: Answer | None, found: Found, authority: str, *, inside: bool) -> Verdict:
    if not isinstance(answer, Granted):
        return _refuse(key, answer, inside=inside)
    if found is None:
        return denial.not_allowed(key)
    if isinstance(found, Unusable):
        return denial.unusable(found)
    if not authority_matches(authority, found.address):
        return denial.wrong_address(key, found.address)
    if found.credential is None:
        return Forward(target=found, granted=answer)
    return Inject(target=found, granted=answer)


def _refuse(key: ObjectKey, answer: Refused | Unavailable | None, *, inside: bool) -> Deny:
    if answer is None:
        return denial.internal()
    if isinstance(answer, Unavailable):
        return denial.unavailable(answer.retry_after)
    return denial.bad_token(inside=inside) if answer.what == "token" else denial.not_allowed(key)


def _check_head(target: Target, raw_target: bytes, headers: Fields) -> Deny | None:
    host = headers.only(b"host")
    if host is None or not host_matches(host, target.address):
        return denial.wrong_host(target.key, target.address)
    if not path_within(raw_target, target.address):
        return denial.path_outside(target.key, target.address)
    return denial.acts_as_another(headers.acts_as) if headers.acts_as is not None else None
