"""Kubernetes' AuthenticationConfiguration -> the issuers whose tokens are verified here, and what their claims mean.

>>> issuers = parse_authentication({
...     "apiVersion": "apiserver.config.k8s.io/v1",
...     "kind": "AuthenticationConfiguration",
...     "jwt": [{
...         "issuer": {"url": "https://ci.example", "audiences": ["connectors"]},
...         "claimMappings": {"username": {"claim": "sub", "prefix": "ci:"}},
...     }],
... })
>>> issuers[0].identity({"sub": "repo:org/app"}).user
'ci:repo:org/app'

Fields and meaning are the API server's (KEP-3331, k8s.io/apiserver/pkg/apis/apiserver/validation); CEL expressions are
not run here and refused by name. Two things are stricter: no username and no group may begin with `system:`, with or
without a prefix, since the right to use a Connector is asked of a cluster in which those names mean something.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.pem import certificates
from connector_store.domain.base.schema import unknown_fields
from connector_store.domain.callers.access import Identity

GROUP: Final = "apiserver.config.k8s.io"
VERSIONS: Final = ("v1", "v1beta1")
KIND: Final = "AuthenticationConfiguration"
MAX_ISSUERS: Final = 64
"""As the API server."""
MAX_GROUPS: Final = 1000
"""Of one token: each goes into every access review."""
MAX_NAME: Final = 1024
"""Characters of a username, a group or a uid."""
CREDENTIAL_ID: Final = "authentication.kubernetes.io/credential-id"
RESERVED: Final = "system:"

_EMAIL: Final = "email"
_EMAIL_VERIFIED: Final = "email_verified"
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mapped:
    """A claim, and what is put before its value."""

    claim: str
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """`jwt[]`: who signs, for whom, and how claims become a caller. `ca` is PEM; None: the system's trust."""

    url: str
    """`iss` of its tokens, to the letter."""
    discovery_url: str
    audiences: tuple[str, ...]
    """A token must be for one of them."""
    ca: bytes | None = None
    username: Mapped
    groups: Mapped | None = None
    uid: str | None = None
    required: tuple[tuple[str, str], ...] = ()
    """Claims that must be there with exactly this text."""

    def identity(self, claims: Mapping[str, object]) -> Identity:
        """The caller that verified claims stand for; ParseError names the claim, and never quotes its value."""
        for claim, value in self.required:
            if claims.get(claim) != value:
                raise ParseError(claim, "is not the value that claimValidationRules ask for")
        jti = claims.get("jti")
        return Identity(
            user=self._user(claims),
            uid=_text(self.uid, claims) if self.uid is not None else "",
            groups=_groups(self.groups, claims) if self.groups is not None else (),
            extra={CREDENTIAL_ID: (f"JTI={jti}",)} if isinstance(jti, str) and _is_name(jti) else {},
        )

    def _user(self, claims: Mapping[str, object]) -> str:
        claim = self.username.claim
        if claim == _EMAIL and _EMAIL_VERIFIED in claims and claims[_EMAIL_VERIFIED] is not True:
            raise ParseError(_EMAIL_VERIFIED, "is not true: the issuer has not verified the address")
        return _prefixed(self.username, _text(claim, claims))


def parse_authentication(document: object) -> tuple[Issuer, ...]:
    """Read the configuration; ParseError for what the API server would refuse, and for what is not run here."""
    fields = Fields(document, "")
    if fields.text("kind") != KIND:
        raise ParseError("kind", f"is not {KIND}")
    if fields.text("apiVersion") not in [f"{GROUP}/{each}" for each in VERSIONS]:
        raise ParseError("apiVersion", f"is not {GROUP}/{VERSIONS[0]}")
    if unknown := unknown_fields(document if isinstance(document, Mapping) else {}):
        raise unknown[0]
    if fields.value("anonymous") is not None:
        raise ParseError("anonymous", "has no meaning here: nobody uses a Connector without a token; remove it")
    entries = fields.items("jwt")
    if len(entries) > MAX_ISSUERS:
        raise ParseError("jwt", f"has more than {MAX_ISSUERS} issuers")
    issuers = tuple(_issuer(each) for each in entries)
    _distinct("jwt[{}].issuer.url", [each.url for each in issuers])
    _distinct("jwt[{}].issuer.discoveryURL", [each.discovery_url for each in issuers])
    return issuers


def _issuer(entry: Fields) -> Issuer:
    if entry.items("userValidationRules"):
        raise ParseError(entry.at("userValidationRules"), "are CEL expressions, which are not run here; remove them")
    issuer = entry.child("issuer")
    if issuer.text("egressSelectorType"):
        raise ParseError(issuer.at("egressSelectorType"), "has no meaning here; remove it")
    url = _https(issuer, "url")
    named = issuer.text("discoveryURL")
    if named is not None and _https(issuer, "discoveryURL") == url:
        raise ParseError(issuer.at("discoveryURL"), "is the same as url; remove it")
    mappings = entry.child("claimMappings")
    if mappings.items("extra"):
        raise ParseError(mappings.at("extra"), "is made by CEL expressions, which are not run here; remove it")
    return Issuer(
        url=url,
        discovery_url=named or url.rstrip("/") + "/.well-known/openid-configuration",
        audiences=_audiences(issuer),
        ca=_ca(issuer),
        username=_mapped(mappings.child("username")),
        groups=_mapped(mappings.child("groups")) if mappings.child("groups") else None,
        uid=_uid(mappings.child("uid")),
        required=tuple(_rule(each) for each in entry.items("claimValidationRules")),
    )


def _https(fields: Fields, name: str) -> str:
    text = fields.text(name)
    if text is None:
        raise ParseError(fields.at(name), "is empty; write https://HOST[:PORT][/PATH]")
    try:
        parts = urlsplit(text)
        good = parts.scheme == "https" and parts.hostname and parts.port != 0 and not _CONTROL.search(text)
    except ValueError:
        good = False
    if not good:
        raise ParseError(fields.at(name), "is not an https URL; write https://HOST[:PORT][/PATH]")
    if "@" in parts.netloc or "?" in text or "#" in text:
        raise ParseError(
            fields.at(name), "has user information, a query or a fragment; write https://HOST[:PORT][/PATH]"
        )
    return text


def _audiences(issuer: Fields) -> tuple[str, ...]:
    field, found = issuer.at("audiences"), issuer.value("audiences")
    if not isinstance(found, list) or not found:
        raise ParseError(field, "is empty; name the audience that callers ask the issuer for")
    for index, each in enumerate(found):
        if not isinstance(each, str) or not each:
            raise ParseError(f"{field}[{index}]", "is not a text")
    if len(set(found)) != len(found):
        raise ParseError(field, "names an audience twice")
    policy = issuer.text("audienceMatchPolicy")
    if policy not in (None, "MatchAny"):
        raise ParseError(issuer.at("audienceMatchPolicy"), "is not MatchAny")
    if policy is None and len(found) > 1:
        raise ParseError(issuer.at("audienceMatchPolicy"), "is empty; with several audiences write MatchAny")
    return tuple(found)


def _ca(issuer: Fields) -> bytes | None:
    text = issuer.text("certificateAuthority")
    if text is None:
        return None
    try:
        return b"".join(certificates(text.encode()))
    except ParseError as error:
        raise ParseError(issuer.at("certificateAuthority"), error.reason) from None


def _mapped(fields: Fields) -> Mapped:
    _no_expression(fields)
    claim, prefix = fields.text("claim"), fields.text("prefix") or ""
    if claim is None:
        raise ParseError(fields.at("claim"), "is empty; name a claim of the token, such as sub")
    # None at all is a decision, so it has to be written: the API server asks for it too.
    if fields.value("prefix") is None:
        raise ParseError(fields.at("prefix"), 'is missing; write one, or "" for none')
    if prefix.startswith(RESERVED):
        raise ParseError(fields.at("prefix"), f"begins with {RESERVED}, which is Kubernetes' own; choose another")
    return Mapped(claim=claim, prefix=prefix)


def _uid(fields: Fields) -> str | None:
    _no_expression(fields)
    return fields.text("claim")


def _rule(rule: Fields) -> tuple[str, str]:
    _no_expression(rule)
    claim, value = rule.text("claim"), rule.value("requiredValue")
    if claim is None:
        raise ParseError(rule.at("claim"), "is empty; name a claim of the token")
    if value is not None and not isinstance(value, str):
        raise ParseError(rule.at("requiredValue"), "is not a string; put it in quotes")
    return claim, value or ""


def _no_expression(fields: Fields) -> None:
    if fields.text("expression") is not None:
        raise ParseError(fields.at("expression"), "is CEL, which is not run here; name a claim")


def _distinct(field: str, values: list[str]) -> None:
    for index, each in enumerate(values):
        if each in values[:index]:
            raise ParseError(field.format(index), "stands in an earlier issuer too; each issuer has its own")


def _text(claim: str, claims: Mapping[str, object]) -> str:
    value = claims.get(claim)
    if not isinstance(value, str):
        raise ParseError(claim, "is missing, or not a string")
    return _name(claim, value)


def _groups(mapped: Mapped, claims: Mapping[str, object]) -> tuple[str, ...]:
    """One text, or a list of texts; none where the claim is missing, as the API server has it."""
    value = claims.get(mapped.claim)
    if value is None:
        return ()
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise ParseError(mapped.claim, "is neither a string nor a list of strings")
    if len(found) > MAX_GROUPS:
        raise ParseError(mapped.claim, f"has more than {MAX_GROUPS} groups")
    return tuple(_prefixed(mapped, _name(mapped.claim, each)) for each in found)


def _prefixed(mapped: Mapped, value: str) -> str:
    name = mapped.prefix + value
    if name.startswith(RESERVED):
        raise ParseError(mapped.claim, f"begins with {RESERVED}, which is Kubernetes' own; give it a prefix")
    return name


def _name(claim: str, value: str) -> str:
    if not _is_name(value):
        raise ParseError(claim, f"is empty, longer than {MAX_NAME} characters, or has control characters")
    return value


def _is_name(value: str) -> bool:
    return 0 < len(value) <= MAX_NAME and _CONTROL.search(value) is None and value.isprintable()
