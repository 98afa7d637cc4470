from dataclasses import replace

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential import client_certificate, token_request
from connector_store.domain.credential.bearer_token import BEARER_TOKEN
from connector_store.domain.credential.client_certificate import CLIENT_CERTIFICATE
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.credential_kinds import (
    KINDS,
    SECRET_SELECTORS,
    SECRET_TYPES,
    accepted_secret_types,
    choose_auth_type,
    credential_kind,
    is_class_supported,
    is_supported,
)
from connector_store.domain.objects.models import Address, AuthType, Connector, ConnectorClass, InvalidConnector

KEY = ObjectKey("team-a", "k8s")
CONNECTOR = Connector(key=KEY, class_name="k8s", address=Address(host="h", port=6443), auth_name="bearerTokenAuth")
INVALID = InvalidConnector(key=KEY, class_name="k8s", reason="AddressInvalid", message="spec.address: has no host")
BASIC = ConnectorClass(name="git", auth_types=(AuthType(name="basic", secret_type="kubernetes.io/basic-auth"),))
BOTH = replace(BASIC, auth_types=(*BASIC.auth_types, *K8S.auth_types))
ONE = AuthType(name="bearerTokenAuth", secret_type="t")
TWO = AuthType(name="other", secret_type="u")
BEARER = AuthType(name="tokenAuth", secret_type=BEARER_TOKEN.name)


def test_each_type_of_secret_is_selected_once() -> None:
    assert tuple(f"type={name}" for name in SECRET_TYPES) == SECRET_SELECTORS
    assert {secret_type.name for kind in KINDS for secret_type in kind.secret_types} == set(SECRET_TYPES)


def test_other_classes_may_use_supported_kinds_under_their_own_names() -> None:
    kind = credential_kind(BEARER)
    assert kind is not None
    assert kind.name == "bearerTokenAuth"
    assert accepted_secret_types(kind, BEARER) == (BEARER_TOKEN,)
    assert credential_kind(TWO) is None
    assert credential_kind(AuthType(name="serviceAccountTokenAuth", secret_type="t")) is None
    assert is_class_supported(K8S)
    assert not is_class_supported(BASIC)


def test_the_auth_type_for_token_issuing_accepts_both_secret_types() -> None:
    auth_type = AuthType(name=token_request.KIND.name, secret_type=CLIENT_CERTIFICATE.name)
    assert credential_kind(auth_type) is token_request.KIND
    assert accepted_secret_types(token_request.KIND, auth_type) == (CLIENT_CERTIFICATE, BEARER_TOKEN)
    by_token = replace(auth_type, secret_type=BEARER_TOKEN.name)
    assert accepted_secret_types(token_request.KIND, by_token) == (BEARER_TOKEN, CLIENT_CERTIFICATE)
    assert credential_kind(replace(auth_type, name="certs")) is client_certificate.KIND


@pytest.mark.parametrize(
    ("types", "name", "expected"),
    [
        pytest.param((ONE,), None, ONE, id="without a name the only type"),
        pytest.param((ONE, TWO), None, None, id="without a name none of several"),
        pytest.param((ONE, TWO), "other", TWO, id="the one of that name"),
        pytest.param((ONE,), "missing", None, id="none of that name"),
        pytest.param((BEARER, BEARER), None, BEARER, id="without a name the first if all are supported"),
        pytest.param((), None, None, id="none where there is none"),
    ],
)
def test_choose_auth_type(types: tuple[AuthType, ...], name: str | None, expected: AuthType | None) -> None:
    assert choose_auth_type(ConnectorClass(name="c", auth_types=types), name) == expected


@pytest.mark.parametrize(
    ("connector", "cls", "supported"),
    [
        pytest.param(CONNECTOR, None, True, id="a missing class"),
        pytest.param(CONNECTOR, K8S, True, id="a bearer-token class"),
        pytest.param(replace(CONNECTOR, auth_name=None), K8S, True, id="a bearer-token class without auth.name"),
        pytest.param(replace(CONNECTOR, auth_name=None), BASIC, False, id="another class without auth.name"),
        pytest.param(replace(CONNECTOR, auth_name="basic"), BOTH, False, id="the other auth type of a class with both"),
        pytest.param(CONNECTOR, BOTH, True, id="the bearer-token type of a class with both"),
        pytest.param(replace(CONNECTOR, auth_name="nope"), BASIC, False, id="an unknown auth type of another class"),
        pytest.param(INVALID, BASIC, False, id="an invalid Connector of another class"),
        pytest.param(INVALID, K8S, True, id="an invalid Connector of a supported class"),
    ],
)
def test_connectors_with_a_supported_auth_type_are_supported(
    connector: Connector | InvalidConnector, cls: ConnectorClass | None, supported: bool
) -> None:
    assert is_supported(connector, cls) is supported
