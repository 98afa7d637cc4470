import base64
import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.names import CA_LABEL, ObjectKey
from connector_store.domain.base.pem import parse_certificates
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET, MAX_TOKEN_BYTES, BearerToken
from connector_store.domain.objects.manifest_secret import parse_secret
from connector_store.domain.objects.models import ADDRESS_ANNOTATION, Address, Secret, SecretProblem

CA = b"-----BEGIN CERTIFICATE-----\nMAECAgI=\n-----END CERTIFICATE-----\n".replace(b"MAECAgI=", b"MAMCAQE=")
CA2 = CA.replace(b"MAMCAQE=", b"MAMCAQI=")


def encoded(value: str | bytes) -> str:
    return base64.b64encode(value.encode() if isinstance(value, str) else value).decode()


GOOD: dict[str, object] = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "namespace": "a"},
    "type": BEARER_TOKEN_SECRET,
}


def read(**changes: object) -> Secret:
    return parse_secret({**copy.deepcopy(GOOD), **changes}, system_namespace="system")


def test_a_good_secret() -> None:
    secret = read(data={"token": encoded("s3cret"), "ca.crt": encoded(CA)})
    assert secret == Secret(
        key=ObjectKey("a", "s"),
        type=BEARER_TOKEN_SECRET,
        credential=BearerToken("s3cret"),
        ca=b"".join(parse_certificates(CA)),
    )
    assert "s3cret" not in repr(secret)


def test_the_resource_version_is_parsed_and_ignored_by_comparisons() -> None:
    metadata = {"name": "s", "namespace": "a", "resourceVersion": "17"}
    assert read(metadata=metadata).resource_version == "17"
    assert read(metadata=metadata) == read()


@pytest.mark.parametrize(
    ("changes", "token"),
    [
        pytest.param({"stringData": {"token": "abc"}}, "abc", id="plain"),
        pytest.param({"data": {"token": encoded("abc")}}, "abc", id="base64"),
        pytest.param(
            {"data": {"token": encoded("a" * 60)[:40] + "\n" + encoded("a" * 60)[40:]}}, "a" * 60, id="folded"
        ),
        pytest.param({"data": {"token": encoded("old")}, "stringData": {"token": "new"}}, "new", id="stringData wins"),
        pytest.param({"stringData": {"token": "abc\n"}}, "abc", id="an editor's final newline"),
        pytest.param({"stringData": {"token": " \tabc\r\n\n"}}, "abc", id="white space around it"),
        pytest.param({"stringData": {"token": "a:b!~"}}, "a:b!~", id="any visible ASCII"),
        pytest.param({"stringData": {"token": "a" * MAX_TOKEN_BYTES}}, "a" * MAX_TOKEN_BYTES, id="the longest"),
    ],
)
def test_tokens(changes: dict[str, object], token: str) -> None:
    secret = read(**changes)
    assert (secret.credential, secret.credential_problem) == (BearerToken(token), None)


@pytest.mark.parametrize("changes", [{}, {"data": None}, {"data": {"other": "YQ=="}}])
def test_a_missing_token_is_not_a_credential_problem(changes: dict[str, object]) -> None:
    secret = read(**changes)
    assert (secret.credential, secret.credential_problem, secret.missing_key) == (None, None, "token")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"stringData": {"token": "s3cret s3cret"}}, "spaces", id="a space inside"),
        pytest.param({"stringData": {"token": "s3cret\ns3cret"}}, "line breaks", id="a newline inside"),
        pytest.param({"stringData": {"token": "s3cret\x00"}}, "ASCII", id="a control character"),
        pytest.param({"stringData": {"token": "s3cret\u00e9"}}, "ASCII", id="not ASCII"),
        pytest.param({"stringData": {"token": "s3cret\ud800"}}, "ASCII", id="half a character"),
        pytest.param({"stringData": {"token": ""}}, "empty", id="empty"),
        pytest.param({"stringData": {"token": None}}, "empty", id="null"),
        pytest.param({"data": {"token": encoded(" \n")}}, "empty", id="white space alone"),
        pytest.param({"stringData": {"token": "s3cret" * MAX_TOKEN_BYTES}}, "longer", id="too long"),
        pytest.param({"stringData": {"token": 83}}, "stringData.token: is not a string", id="a number"),
        pytest.param({"data": {"token": "s3cret!"}}, r"data\[token\]: is not base64", id="no base64"),
        pytest.param({"data": {"token": "s3cr\u00e9t"}}, "is not base64", id="no base64 and no ASCII"),
        pytest.param({"data": "s3cret"}, "data: is not an object", id="data of another type"),
    ],
)
def test_an_invalid_token_is_reported_without_quoting_it(changes: dict[str, object], message: str) -> None:
    secret = read(**changes)
    assert secret.credential is None
    with pytest.raises(ValueError, match=message):
        raise ValueError(secret.credential_problem)
    assert "s3cr" not in repr(secret)


BOTH = b"".join(parse_certificates(CA) + parse_certificates(CA2))
ONE = b"".join(parse_certificates(CA))


@pytest.mark.parametrize(
    ("kind", "data", "ca"),
    [
        pytest.param(BEARER_TOKEN_SECRET, {"ca.crt": CA}, ONE, id="ca.crt next to the token"),
        pytest.param(BEARER_TOKEN_SECRET, {"client.crt": CA, "x": CA}, None, id="no other key next to a token"),
        pytest.param("Opaque", {"ca.crt": CA, "b.pem": CA2}, ONE, id="ca.crt before all others"),
        pytest.param("Opaque", {"b.pem": CA2, "a.crt": CA, "c": b"-"}, BOTH, id="all *.crt and *.pem in order"),
        pytest.param("Opaque", {"two": CA2, "one": CA, "key": b"x"}, BOTH, id="any PEM if no key has such a name"),
        pytest.param("Opaque", {"key": b"x"}, None, id="none"),
        pytest.param("Opaque", {}, None, id="nothing"),
    ],
)
def test_certificates_are_read_from_the_keys_for_cas(kind: str, data: dict[str, bytes], ca: bytes | None) -> None:
    secret = read(type=kind, data={name: encoded(value) for name, value in data.items()})
    assert (secret.ca, secret.ca_problem) == (ca, None)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        pytest.param(
            {"stringData": {"ca.crt": "s3cret"}},
            'key "ca.crt" has no whole PEM certificate; it begins with -----BEGIN CERTIFICATE-----',
            id="no PEM",
        ),
        pytest.param(
            {"data": {"ca.crt": "s3cret!"}}, 'key "ca.crt" is not base64; use stringData for plain text', id="no base64"
        ),
        pytest.param({"data": ["s3cret"]}, 'key "data" is not an object', id="data of another type"),
    ],
)
def test_an_invalid_ca_is_reported(changes: dict[str, object], problem: str) -> None:
    secret = read(**changes)
    key = problem.split('"')[1]
    assert (secret.ca, secret.ca_problem) == (None, SecretProblem(key, "", problem))


def test_invalid_keys_without_a_ca_are_ignored() -> None:
    assert read(type="Opaque", data={"blob": "!", "ca": encoded(CA)}).ca == ONE


def pinned(value: object) -> Secret:
    return read(metadata={"name": "s", "namespace": "a", "annotations": {ADDRESS_ANNOTATION: value}})


def test_a_pinned_secret_has_its_address() -> None:
    assert pinned("https://H:6443/").pinned_address == Address(host="h", port=6443)
    assert read().pinned_address is None


@pytest.mark.parametrize("value", ["http://h", 5])
def test_an_invalid_pinned_address_is_reported(value: object) -> None:
    secret = pinned(value)
    assert secret.pinned_address is None
    assert secret.pinned_address_problem is not None
    assert secret.pinned_address_problem.path == f"metadata.annotations[{ADDRESS_ANNOTATION}]"
    assert secret.pinned_address_problem.text.startswith(f"metadata.annotations[{ADDRESS_ANNOTATION}]: ")


@pytest.mark.parametrize(
    ("namespace", "label", "shared"),
    [
        pytest.param("system", "true", True, id="labelled in the system namespace"),
        pytest.param("system", "false", False, id="labelled otherwise"),
        pytest.param("system", True, False, id="a label that is not a string"),
        pytest.param("system", None, False, id="not labelled"),
        pytest.param("a", "true", False, id="in any other namespace"),
    ],
)
def test_only_the_system_namespace_has_shared_cas(namespace: str, label: object, shared: bool) -> None:
    metadata = {"name": "s", "namespace": namespace, "labels": {CA_LABEL: label}}
    assert read(metadata=metadata).is_shared_ca is shared


@pytest.mark.parametrize("kind", [None, "", 5])
def test_without_a_type_it_is_opaque(kind: object) -> None:
    assert read(type=kind).type == "Opaque"


@given(st.dictionaries(st.sampled_from(["token", "ca.crt", "x.pem"]), st.text() | st.binary().map(encoded) | st.none()))
def test_every_data_can_be_parsed(data: dict[str, str | None]) -> None:
    for kind in (BEARER_TOKEN_SECRET, "Opaque"):
        secret = read(type=kind, data=data)
        assert secret.credential is None or secret.credential_problem is None
