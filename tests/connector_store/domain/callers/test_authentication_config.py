"""Trusted issuers, and the callers that their claims identify."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.domain.callers.access import Identity
from connector_store.domain.callers.authentication_config import (
    CREDENTIAL_ID,
    MAX_GROUPS,
    MAX_ISSUERS,
    MAX_NAME_LENGTH,
    Issuer,
    PrefixedClaim,
    parse_authentication_configuration,
)
from lab.certificates import make_ca

URL = "https://ci.example"
CA = make_ca("issuer").pem.decode()


def entry(url: str = URL) -> dict[str, Any]:
    return {
        "issuer": {"url": url, "audiences": ["connectors"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": "ci:"}},
    }


def document(*entries: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": list(entries)}


def parse_one(**changes: Any) -> Issuer:
    (issuer,) = parse_authentication_configuration(document(entry() | changes))
    return issuer


def issuer_with(**changes: Any) -> dict[str, Any]:
    return entry() | {"issuer": entry()["issuer"] | changes}


def mapped(**mappings: Any) -> dict[str, Any]:
    return entry() | {"claimMappings": entry()["claimMappings"] | mappings}


def test_an_issuer_with_everything() -> None:
    issuers = parse_authentication_configuration(
        document(
            {
                "issuer": {
                    "url": URL + "/realm",
                    "discoveryURL": "https://inside.example/.well-known/openid-configuration",
                    "certificateAuthority": CA,
                    "audiences": ["a", "b"],
                    "audienceMatchPolicy": "MatchAny",
                },
                "claimMappings": {
                    "username": {"claim": "sub", "prefix": ""},
                    "groups": {"claim": "groups", "prefix": "ci:"},
                    "uid": {"claim": "uid"},
                },
                "claimValidationRules": [{"claim": "hd", "requiredValue": "example.com"}, {"claim": "empty"}],
            }
        )
    )
    assert issuers == (
        Issuer(
            url=URL + "/realm",
            discovery_url="https://inside.example/.well-known/openid-configuration",
            audiences=("a", "b"),
            ca=CA.encode(),
            username=PrefixedClaim(claim="sub"),
            groups=PrefixedClaim(claim="groups", prefix="ci:"),
            uid="uid",
            required_claims=(("hd", "example.com"), ("empty", "")),
        ),
    )


@pytest.mark.parametrize("url", [URL, URL + "/"])
def test_discovery_is_below_the_issuer(url: str) -> None:
    (issuer,) = parse_authentication_configuration(document(entry(url)))
    assert issuer.url == url
    assert issuer.discovery_url == "https://ci.example/.well-known/openid-configuration"


def test_the_beta_version_is_accepted_and_can_have_no_issuers() -> None:
    assert parse_authentication_configuration(document() | {"apiVersion": "apiserver.config.k8s.io/v1beta1"}) == ()


@pytest.mark.parametrize(
    ("value", "field", "reason"),
    [
        pytest.param([], "", "is not an object", id="a list"),
        pytest.param(document() | {"kind": "Config"}, "kind", "AuthenticationConfiguration", id="another kind"),
        pytest.param(document() | {"apiVersion": "v1"}, "apiVersion", "apiserver.config", id="another version"),
        pytest.param(document() | {"jwts": []}, "jwts", "unknown field", id="an unknown field"),
        pytest.param(document() | {"anonymous": {}}, "anonymous", "remove it", id="anonymous callers"),
        pytest.param(document() | {"jwt": {}}, "jwt", "not a list", id="issuers that are no list"),
        pytest.param(
            document(*[entry(f"{URL}/{n}") for n in range(MAX_ISSUERS + 1)]), "jwt", "more than", id="too many issuers"
        ),
        pytest.param(document(entry(), entry()), "jwt[1].issuer.url", "earlier issuer", id="two issuers with one url"),
        pytest.param(
            document(
                *[
                    entry(f"{URL}/{n}") | {"issuer": {"url": f"{URL}/{n}", "discoveryURL": URL, "audiences": ["a"]}}
                    for n in (1, 2)
                ]
            ),
            "jwt[1].issuer.discoveryURL",
            "earlier issuer",
            id="two issuers with one discovery",
        ),
        pytest.param(document(entry() | {"x": 1}), "jwt[0].x", "unknown field", id="an unknown field of an issuer"),
        pytest.param(
            document(entry() | {"userValidationRules": [{"expression": "true"}]}),
            "jwt[0].userValidationRules",
            "CEL",
            id="rules for users",
        ),
        pytest.param(document(issuer_with(uri="")), "jwt[0].issuer.uri", "unknown field", id="a misspelt url"),
        pytest.param(document(issuer_with(url=None)), "jwt[0].issuer.url", "is empty", id="no url"),
        pytest.param(document(issuer_with(url="http://ci.example")), "jwt[0].issuer.url", "https", id="plain http"),
        pytest.param(document(issuer_with(url="https://")), "jwt[0].issuer.url", "https", id="no host"),
        pytest.param(document(issuer_with(url="https://[::1")), "jwt[0].issuer.url", "https", id="half an address"),
        pytest.param(document(issuer_with(url="https://h:99999")), "jwt[0].issuer.url", "https", id="no port"),
        pytest.param(document(issuer_with(url="https://h\n.x")), "jwt[0].issuer.url", "https", id="a line end"),
        pytest.param(document(issuer_with(url=URL + "?a")), "jwt[0].issuer.url", "a query", id="a query"),
        pytest.param(document(issuer_with(url=URL + "#")), "jwt[0].issuer.url", "a query", id="a fragment"),
        pytest.param(
            document(issuer_with(url="https://u:p@ci.example")), "jwt[0].issuer.url", "user information", id="a user"
        ),
        pytest.param(
            document(issuer_with(discoveryURL=URL)), "jwt[0].issuer.discoveryURL", "same as url", id="discovery as url"
        ),
        pytest.param(
            document(issuer_with(discoveryURL="http://h")), "jwt[0].issuer.discoveryURL", "https", id="plain discovery"
        ),
        pytest.param(
            document(issuer_with(egressSelectorType="cluster")),
            "jwt[0].issuer.egressSelectorType",
            "remove it",
            id="an egress selector",
        ),
        pytest.param(
            document(issuer_with(certificateAuthority="x")),
            "jwt[0].issuer.certificateAuthority",
            "PEM",
            id="an invalid CA",
        ),
        pytest.param(document(issuer_with(audiences=[])), "jwt[0].issuer.audiences", "is empty", id="no audience"),
        pytest.param(
            document(issuer_with(audiences="a")), "jwt[0].issuer.audiences", "is empty", id="audiences as text"
        ),
        pytest.param(
            document(issuer_with(audiences=[""])), "jwt[0].issuer.audiences[0]", "not a text", id="an empty audience"
        ),
        pytest.param(
            document(issuer_with(audiences=["a", "a"])), "jwt[0].issuer.audiences", "twice", id="an audience twice"
        ),
        pytest.param(
            document(issuer_with(audiences=["a", "b"])),
            "jwt[0].issuer.audienceMatchPolicy",
            "MatchAny",
            id="several audiences and no policy",
        ),
        pytest.param(
            document(issuer_with(audienceMatchPolicy="MatchAll")),
            "jwt[0].issuer.audienceMatchPolicy",
            "MatchAny",
            id="another policy",
        ),
        pytest.param(
            document(entry() | {"claimMappings": {}}),
            "jwt[0].claimMappings.username.claim",
            "is empty",
            id="no username",
        ),
        pytest.param(
            document(mapped(username={"expression": "claims.sub"})),
            "jwt[0].claimMappings.username.expression",
            "CEL",
            id="a username by expression",
        ),
        pytest.param(
            document(mapped(username={"claim": "sub"})),
            "jwt[0].claimMappings.username.prefix",
            "missing",
            id="no word on the prefix",
        ),
        pytest.param(
            document(mapped(username={"claim": "sub", "prefix": "system:x:"})),
            "jwt[0].claimMappings.username.prefix",
            "Kubernetes' own",
            id="a reserved prefix",
        ),
        pytest.param(
            document(mapped(username={"claim": "sub", "prefix": " system:x:"})),
            "jwt[0].claimMappings.username.prefix",
            "begins with white space",
            id="a prefix that is reserved without its white space",
        ),
        pytest.param(
            document(mapped(groups={"claim": "groups"})),
            "jwt[0].claimMappings.groups.prefix",
            "missing",
            id="groups without a word on the prefix",
        ),
        pytest.param(
            document(mapped(uid={"expression": "claims.uid"})),
            "jwt[0].claimMappings.uid.expression",
            "CEL",
            id="a uid by expression",
        ),
        pytest.param(
            document(mapped(extra=[{"key": "k", "valueExpression": "claims.x"}])),
            "jwt[0].claimMappings.extra",
            "CEL",
            id="extra by expression",
        ),
        pytest.param(
            document(entry() | {"claimValidationRules": [{"expression": "true"}]}),
            "jwt[0].claimValidationRules[0].expression",
            "CEL",
            id="a rule by expression",
        ),
        pytest.param(
            document(entry() | {"claimValidationRules": [{"requiredValue": "x"}]}),
            "jwt[0].claimValidationRules[0].claim",
            "is empty",
            id="a rule without a claim",
        ),
        pytest.param(
            document(entry() | {"claimValidationRules": [{"claim": "a", "requiredValue": True}]}),
            "jwt[0].claimValidationRules[0].requiredValue",
            "quotes",
            id="a rule with a flag",
        ),
    ],
)
def test_an_invalid_field_is_named(value: object, field: str, reason: str) -> None:
    with pytest.raises(ParseError) as error:
        parse_authentication_configuration(value)
    assert error.value.path == field
    assert reason in error.value.reason


def test_claims_are_mapped_to_a_caller() -> None:
    issuer = parse_one(
        claimMappings={
            "username": {"claim": "sub", "prefix": "ci:"},
            "groups": {"claim": "groups", "prefix": "ci:"},
            "uid": {"claim": "oid"},
        },
        claimValidationRules=[{"claim": "hd", "requiredValue": "example.com"}],
    )
    claims = {"sub": "repo:a/b", "groups": ["x", "y"], "oid": "7", "hd": "example.com", "jti": "j1"}
    assert issuer.identify(claims) == Identity(
        user="ci:repo:a/b", uid="7", groups=("ci:x", "ci:y"), extra={CREDENTIAL_ID: ("JTI=j1",)}
    )


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        pytest.param("one", ("g:one",), id="one text"),
        pytest.param([], (), id="an empty list"),
        pytest.param(None, (), id="none"),
    ],
)
def test_groups_are_a_string_or_a_list(groups: object, expected: tuple[str, ...]) -> None:
    issuer = parse_one(**mapped(groups={"claim": "roles", "prefix": "g:"}))
    assert issuer.identify({"sub": "a", "roles": groups}).groups == expected


def test_names_and_groups_at_their_limits_are_accepted() -> None:
    claims = {"sub": "a" * MAX_NAME_LENGTH, "groups": ["g"] * MAX_GROUPS}
    identity = parse_one(**plain()).identify(claims)
    assert (identity.user, identity.groups) == (claims["sub"], tuple(claims["groups"]))


@pytest.mark.parametrize(
    ("claims", "user"),
    [
        pytest.param({"email": "a@b"}, "a@b", id="email_verified is absent"),
        pytest.param({"email": "a@b", "email_verified": True}, "a@b", id="a verified address"),
    ],
)
def test_an_email_address_can_be_the_username(claims: dict[str, object], user: str) -> None:
    assert parse_one(**mapped(username={"claim": "email", "prefix": ""})).identify(claims).user == user


def plain(claim: str = "sub") -> dict[str, Any]:
    return mapped(username={"claim": claim, "prefix": ""}, groups={"claim": "groups", "prefix": ""})


@pytest.mark.parametrize(
    ("changes", "claims", "field", "reason"),
    [
        pytest.param({}, {}, "sub", "missing", id="no username"),
        pytest.param({}, {"sub": 5}, "sub", "not a string", id="a username that is a number"),
        pytest.param({}, {"sub": ""}, "sub", "is empty", id="an empty username"),
        pytest.param({}, {"sub": "a\nb"}, "sub", "control characters", id="a line end in the username"),
        pytest.param({}, {"sub": "a\u202eb"}, "sub", "control characters", id="a change of direction"),
        pytest.param({}, {"sub": "jane "}, "sub", "white space at an end", id="white space after the username"),
        pytest.param(plain(), {"sub": " system:a"}, "sub", "white space", id="white space before the username"),
        pytest.param(
            plain(), {"sub": "a", "groups": [" system:masters"]}, "groups", "white space", id="white space in a group"
        ),
        pytest.param(mapped(uid={"claim": "oid"}), {"sub": "a", "oid": "7 "}, "oid", "white space", id="in the UID"),
        pytest.param({}, {"sub": "a" * (MAX_NAME_LENGTH + 1)}, "sub", "longer", id="a long username"),
        pytest.param(plain(), {"sub": "system:serviceaccount:a:b"}, "sub", "Kubernetes' own", id="a system name"),
        pytest.param(
            plain(), {"sub": "a", "groups": ["system:masters"]}, "groups", "Kubernetes' own", id="a system group"
        ),
        pytest.param(
            mapped(username={"claim": "sub", "prefix": "sys"}), {"sub": "tem:x"}, "sub", "own", id="a name in two parts"
        ),
        pytest.param(plain(), {"sub": "a", "groups": [["b"]]}, "groups", "list of strings", id="nested groups"),
        pytest.param(plain(), {"sub": "a", "groups": {"b": 1}}, "groups", "list of strings", id="groups as an object"),
        pytest.param(
            plain(), {"sub": "a", "groups": ["g"] * (MAX_GROUPS + 1)}, "groups", "more than", id="too many groups"
        ),
        pytest.param(plain("email"), {"email": "a", "email_verified": False}, "email_verified", "not true", id="no"),
        pytest.param(plain("email"), {"email": "a", "email_verified": "true"}, "email_verified", "not", id="as a text"),
        pytest.param(mapped(uid={"claim": "oid"}), {"sub": "a"}, "oid", "missing", id="no uid"),
        pytest.param(
            {"claimValidationRules": [{"claim": "hd", "requiredValue": "x"}]},
            {"sub": "a", "hd": ["x"]},
            "hd",
            "claimValidationRules",
            id="a required value in a list",
        ),
        pytest.param(
            {"claimValidationRules": [{"claim": "hd"}]}, {"sub": "a"}, "hd", "claimValidationRules", id="not even empty"
        ),
    ],
)
def test_claims_without_a_valid_caller_are_refused(
    changes: dict[str, Any], claims: dict[str, object], field: str, reason: str
) -> None:
    with pytest.raises(ParseError) as error:
        parse_one(**changes).identify(claims)
    assert error.value.path == field
    assert reason in error.value.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(), each, max_size=3),
    max_leaves=20,
)


@given(st.dictionaries(st.sampled_from(["sub", "groups", "oid", "jti", "email"]), JSON))
def test_no_set_of_claims_maps_to_a_system_name(claims: dict[str, object]) -> None:
    issuer = parse_one(**mapped(username={"claim": "sub", "prefix": ""}, groups={"claim": "groups", "prefix": ""}))
    try:
        identity = issuer.identify(claims)
    except ParseError:
        return
    assert not any(name.startswith("system:") for name in (identity.user, *identity.groups))
    assert identity.user.isprintable()


@given(JSON)
def test_any_document_raises_only_parse_errors(value: object) -> None:
    with contextlib.suppress(ParseError):
        parse_authentication_configuration(value)


def test_an_issuer_of_the_clusters_own_tokens_is_refused() -> None:
    two = document(entry("https://a.example"), entry("https://b.example"))
    assert len(parse_authentication_configuration(two, disallowed_issuers=["https://c.example"])) == 2
    with pytest.raises(ParseError, match="own tokens") as error:
        parse_authentication_configuration(two, disallowed_issuers=["https://b.example"])
    assert error.value.path == "jwt[1].issuer.url"
