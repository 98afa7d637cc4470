"""Parser of Kubernetes' AuthenticationConfiguration: trusted issuers and the mapping of their claims to callers.

>>> issuers = parse_authentication_configuration({
...     "apiVersion": "apiserver.config.k8s.io/v1",
...     "kind": "AuthenticationConfiguration",
...     "jwt": [{
...         "issuer": {"url": "https://ci.example", "audiences": ["connectors"]},
...         "claimMappings": {"username": {"claim": "sub", "prefix": "ci:"}},
...     }],
... })
>>> issuers[0].identify({"sub": "repo:org/app"}).user
'ci:repo:org/app'

Fields have the same meaning as in the API server (KEP-3331, k8s.io/apiserver/pkg/apis/apiserver/validation). CEL
expressions are not supported. A configuration with one is refused. Two rules are stricter than the API server's:

- No username and no group begins with `system:`, with or without a prefix. A cluster authorizes the use of a
  Connector, and such names have a meaning there.
- No username, group or UID has white space at an end. A target that gets the name in a header would remove it.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from connector_store.domain.base.errors import ParseError, parse_errors_at
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.pem import parse_certificates
from connector_store.domain.base.schema import find_unknown_fields
from connector_store.domain.callers.access import Identity

GROUP: Final = "apiserver.config.k8s.io"
VERSIONS: Final = ("v1", "v1beta1")
KIND: Final = "AuthenticationConfiguration"
MAX_ISSUERS: Final = 64
"""Maximum number of issuers, as in the API server."""
MAX_GROUPS: Final = 1000
"""Maximum number of groups in one token. Every access review contains all of them."""
MAX_NAME_LENGTH: Final = 1024
"""Maximum length of a username, a group or a UID in characters."""
CREDENTIAL_ID: Final = "authentication.kubernetes.io/credential-id"
RESERVED_PREFIX: Final = "system:"

_EMAIL: Final = "email"
_EMAIL_VERIFIED: Final = "email_verified"
_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class PrefixedClaim:
    """A claim, and the prefix for its value."""

    claim: str
    prefix: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """An entry of `jwt`: a trusted issuer, its audiences, and the mapping of claims to a caller.

    `ca` is PEM. None means the system's trust store.
    """

    url: str
    """Exact value of `iss` in its tokens."""
    discovery_url: str
    audiences: tuple[str, ...]
    """Accepted audiences. A token must have one of them."""
    ca: bytes | None = None
    username: PrefixedClaim
    groups: PrefixedClaim | None = None
    uid: str | None = None
    required_claims: tuple[tuple[str, str], ...] = ()
    """Claims that a token must have, with exactly these values."""

    def identify(self, claims: Mapping[str, object]) -> Identity:
        """Map verified claims to a caller. ParseError names the claim and never quotes its value."""
        for claim, value in self.required_claims:
            if claims.get(claim) != value:
                raise ParseError(claim, "is not the value that claimValidationRules ask for")
        jti = claims.get("jti")
        return Identity(
            user=self._username(claims),
            uid=_read_claim(self.uid, claims) if self.uid is not None else "",
            groups=_read_groups(self.groups, claims) if self.groups is not None else (),
            extra={CREDENTIAL_ID: (f"JTI={jti}",)} if isinstance(jti, str) and _is_name(jti) else {},
        )

    def _username(self, claims: Mapping[str, object]) -> str:
        claim = self.username.claim
        if claim == _EMAIL and _EMAIL_VERIFIED in claims and claims[_EMAIL_VERIFIED] is not True:
            raise ParseError(_EMAIL_VERIFIED, "is not true: the issuer has not verified the address")
        return _add_prefix(self.username, _read_claim(claim, claims))


def parse_authentication_configuration(
    document: object, *, disallowed_issuers: Collection[str] = ()
) -> tuple[Issuer, ...]:
    """Parse the configuration. Raises ParseError for what the API server would refuse, and for unsupported fields.

    `disallowed_issuers` are those of the cluster's own tokens, which an entry would take away from the API server.
    """
    fields = Fields(document, "")
    if fields.text("kind") != KIND:
        raise ParseError("kind", f"is not {KIND}")
    if fields.text("apiVersion") not in [f"{GROUP}/{version}" for version in VERSIONS]:
        raise ParseError("apiVersion", f"is not {GROUP}/{VERSIONS[0]}")
    if unknown := find_unknown_fields(document if isinstance(document, Mapping) else {}):
        raise unknown[0]
    if fields.value("anonymous") is not None:
        raise ParseError(
            "anonymous", "has no meaning here, because every caller of a Connector needs a token; remove it"
        )
    entries = fields.items("jwt")
    if len(entries) > MAX_ISSUERS:
        raise ParseError("jwt", f"has more than {MAX_ISSUERS} issuers")
    issuers = tuple(_parse_issuer(entry) for entry in entries)
    for index, issuer in enumerate(issuers):
        if issuer.url in disallowed_issuers:
            raise ParseError(
                f"jwt[{index}].issuer.url", "is the issuer of this cluster's own tokens, which need no entry; remove it"
            )
    _require_distinct("jwt[{}].issuer.url", [issuer.url for issuer in issuers])
    _require_distinct("jwt[{}].issuer.discoveryURL", [issuer.discovery_url for issuer in issuers])
    return issuers


def _parse_issuer(entry: Fields) -> Issuer:
    if entry.items("userValidationRules"):
        raise ParseError(
            entry.path_of("userValidationRules"), "are CEL expressions, which are not run here; remove them"
        )
    issuer = entry.child("issuer")
    if issuer.text("egressSelectorType"):
        raise ParseError(issuer.path_of("egressSelectorType"), "has no meaning here; remove it")
    url = _parse_https_url(issuer, "url")
    discovery_url = issuer.text("discoveryURL")
    if discovery_url is not None and _parse_https_url(issuer, "discoveryURL") == url:
        raise ParseError(issuer.path_of("discoveryURL"), "is the same as url; remove it")
    mappings = entry.child("claimMappings")
    if mappings.items("extra"):
        raise ParseError(mappings.path_of("extra"), "is made by CEL expressions, which are not run here; remove it")
    return Issuer(
        url=url,
        discovery_url=discovery_url or url.rstrip("/") + "/.well-known/openid-configuration",
        audiences=_parse_audiences(issuer),
        ca=_parse_ca(issuer),
        username=_parse_prefixed_claim(mappings.child("username")),
        groups=_parse_prefixed_claim(mappings.child("groups")) if mappings.child("groups") else None,
        uid=_parse_uid_claim(mappings.child("uid")),
        required_claims=tuple(_parse_validation_rule(rule) for rule in entry.items("claimValidationRules")),
    )


def _parse_https_url(fields: Fields, name: str) -> str:
    text = fields.text(name)
    if text is None:
        raise ParseError(fields.path_of(name), "is empty; write https://HOST[:PORT][/PATH]")
    try:
        parts = urlsplit(text)
        is_valid = (
            parts.scheme == "https" and parts.hostname and parts.port != 0 and not _CONTROL_CHARACTERS.search(text)
        )
    except ValueError:
        is_valid = False
    if not is_valid:
        raise ParseError(fields.path_of(name), "is not an https URL; write https://HOST[:PORT][/PATH]")
    if "@" in parts.netloc or "?" in text or "#" in text:
        raise ParseError(
            fields.path_of(name), "has user information, a query or a fragment; write https://HOST[:PORT][/PATH]"
        )
    return text


def _parse_audiences(issuer: Fields) -> tuple[str, ...]:
    field, audiences = issuer.path_of("audiences"), issuer.value("audiences")
    if not isinstance(audiences, list) or not audiences:
        raise ParseError(field, "is empty; name the audience that callers ask the issuer for")
    for index, audience in enumerate(audiences):
        if not isinstance(audience, str) or not audience:
            raise ParseError(f"{field}[{index}]", "is not a text")
    if len(set(audiences)) != len(audiences):
        raise ParseError(field, "names an audience twice")
    policy = issuer.text("audienceMatchPolicy")
    if policy not in (None, "MatchAny"):
        raise ParseError(issuer.path_of("audienceMatchPolicy"), "is not MatchAny")
    if policy is None and len(audiences) > 1:
        raise ParseError(issuer.path_of("audienceMatchPolicy"), "is empty; with several audiences write MatchAny")
    return tuple(audiences)


def _parse_ca(issuer: Fields) -> bytes | None:
    text = issuer.text("certificateAuthority")
    if text is None:
        return None
    with parse_errors_at(issuer.path_of("certificateAuthority")):
        return b"".join(parse_certificates(text.encode()))


def _parse_prefixed_claim(fields: Fields) -> PrefixedClaim:
    _reject_expression(fields)
    claim, prefix = fields.text("claim"), fields.text("prefix") or ""
    if claim is None:
        raise ParseError(fields.path_of("claim"), "is empty; name a claim of the token, such as sub")
    # The API server also requires an explicit empty prefix, so that its omission is a decision.
    if fields.value("prefix") is None:
        raise ParseError(fields.path_of("prefix"), 'is missing; write one, or "" for none')
    if prefix != prefix.lstrip():
        raise ParseError(fields.path_of("prefix"), "begins with white space; remove it")
    if prefix.startswith(RESERVED_PREFIX):
        raise ParseError(
            fields.path_of("prefix"), f"begins with {RESERVED_PREFIX}, which is Kubernetes' own; choose another"
        )
    return PrefixedClaim(claim=claim, prefix=prefix)


def _parse_uid_claim(fields: Fields) -> str | None:
    _reject_expression(fields)
    return fields.text("claim")


def _parse_validation_rule(rule: Fields) -> tuple[str, str]:
    _reject_expression(rule)
    claim, value = rule.text("claim"), rule.value("requiredValue")
    if claim is None:
        raise ParseError(rule.path_of("claim"), "is empty; name a claim of the token")
    if value is not None and not isinstance(value, str):
        raise ParseError(rule.path_of("requiredValue"), "is not a string; put it in quotes")
    return claim, value or ""


def _reject_expression(fields: Fields) -> None:
    if fields.text("expression") is not None:
        raise ParseError(fields.path_of("expression"), "is CEL, which is not run here; name a claim")


def _require_distinct(field: str, values: list[str]) -> None:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ParseError(field.format(index), "stands in an earlier issuer too; each issuer has its own")


def _read_claim(claim: str, claims: Mapping[str, object]) -> str:
    value = claims.get(claim)
    if not isinstance(value, str):
        raise ParseError(claim, "is missing, or not a string")
    return _require_name(claim, value)


def _read_groups(mapping: PrefixedClaim, claims: Mapping[str, object]) -> tuple[str, ...]:
    """Read groups from a string or a list of strings. A missing claim means no groups, as in the API server."""
    value = claims.get(mapping.claim)
    if value is None:
        return ()
    groups = [value] if isinstance(value, str) else value
    if not isinstance(groups, list) or not all(isinstance(group, str) for group in groups):
        raise ParseError(mapping.claim, "is neither a string nor a list of strings")
    if len(groups) > MAX_GROUPS:
        raise ParseError(mapping.claim, f"has more than {MAX_GROUPS} groups")
    return tuple(_add_prefix(mapping, _require_name(mapping.claim, group)) for group in groups)


def _add_prefix(mapping: PrefixedClaim, value: str) -> str:
    name = mapping.prefix + value
    if name.startswith(RESERVED_PREFIX):
        raise ParseError(mapping.claim, f"begins with {RESERVED_PREFIX}, which is Kubernetes' own; give it a prefix")
    return name


def _require_name(claim: str, value: str) -> str:
    if not _is_name(value):
        raise ParseError(
            claim,
            f"is empty, longer than {MAX_NAME_LENGTH} characters, or has control characters or white space at an end",
        )
    return value


def _is_name(value: str) -> bool:
    return (
        0 < len(value) <= MAX_NAME_LENGTH
        and _CONTROL_CHARACTERS.search(value) is None
        and value.isprintable()
        and value == value.strip()
    )
