"""Join of a Connector: one good set of objects, and one change for each row."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET, BearerToken
from connector_store.domain.credential.client_certificate import CLIENT_CERTIFICATE_SECRET
from connector_store.domain.credential.token_request import IssuingCredential
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.models import (
    Address,
    AuthType,
    Connector,
    ConnectorClass,
    InvalidConnector,
    Secret,
    SecretProblem,
    Target,
    Unusable,
)
from connector_store.domain.objects.resolve import resolve
from connector_store.domain.permissions.evaluator import PermissionEvaluator
from connector_store.domain.permissions.impersonation import Impersonation
from connector_store.domain.permissions.permissions import Permissions, RoleEntry
from connector_store.domain.permissions.rbac import ClusterRole, PolicyRule

KEY = ObjectKey("team-a", "k8s")
ADDRESS = Address(host="h", port=6443)
CONNECTOR = Connector(key=KEY, class_name="k8s", address=ADDRESS, auth_name="bearerTokenAuth", secret_name="s", uid="u")
SECRET = Secret(key=ObjectKey("team-a", "s"), type=BEARER_TOKEN_SECRET, credential=BearerToken("t"))
PINNED = replace(SECRET, pinned_address=ADDRESS)
CA_SECRET = Secret(key=ObjectKey("team-a", "ca"), type="Opaque", ca=b"ref")
BASIC = ConnectorClass(name="git", auth_types=(AuthType(name="basic", secret_type="kubernetes.io/basic-auth"),))
BOTH = replace(BASIC, auth_types=(*BASIC.auth_types, *K8S.auth_types))
ROLE = ClusterRole(name="view", rules=(PolicyRule(verbs=("get",), api_groups=("",), resources=("pods",)),))
LIMITED = replace(
    CONNECTOR, permissions=Permissions(allow=(RoleEntry(cluster_role="view"),)), impersonation=Impersonation()
)
OPTIONAL = replace(K8S, auth_types=(replace(K8S.auth_types[0], optional=True),))
ISSUING = replace(CONNECTOR, auth_name="serviceAccountTokenAuth", auth_params=(("serviceAccount", "ci/deployer"),))
REJECTED = InvalidConnector(key=KEY, class_name="k8s", reason="AddressInvalid", message="spec.address: has no host")


def join(
    connector: Connector | InvalidConnector = CONNECTOR,
    cls: ConnectorClass | None = K8S,
    secrets: tuple[Secret, ...] = (SECRET, CA_SECRET),
    shared_ca: bytes | None = None,
) -> Target | Unusable | None:
    by_key: Mapping[ObjectKey, Secret] = {secret.key: secret for secret in secrets}
    return resolve(connector, cls, by_key.get, shared_ca, {ROLE.name: ROLE}.get)


def test_a_whole_connector_is_a_target() -> None:
    assert join() == Target(key=KEY, uid="u", address=ADDRESS, credential=BearerToken("t"), secret_name="s", ca=None)


def test_a_target_has_permissions_and_impersonation() -> None:
    result = join(LIMITED)
    assert isinstance(result, Target)
    assert isinstance(result.permissions, PermissionEvaluator)
    assert result.impersonation == Impersonation()


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        pytest.param(
            {"connector": replace(LIMITED, permissions=Permissions(allow=(RoleEntry(cluster_role="edit"),)))},
            "RoleNotFound",
            'clusterroles.rbac.authorization.k8s.io "edit" not found',
            id="a missing role",
        ),
        pytest.param({"connector": REJECTED}, "AddressInvalid", "spec.address", id="an invalid spec"),
        pytest.param({"cls": None}, "ConnectorClassNotFound", '"k8s" not found', id="no such class"),
        pytest.param(
            {"connector": replace(CONNECTOR, auth_name="nope")},
            "SecretInvalid",
            "use one of: bearerTokenAuth",
            id="an auth type that the class does not have",
        ),
        pytest.param(
            {"connector": replace(CONNECTOR, auth_name=None), "cls": BOTH},
            "SecretInvalid",
            "use one of: basic, bearerTokenAuth",
            id="no auth type named where the class has two",
        ),
        pytest.param(
            {"connector": replace(CONNECTOR, secret_name=None)},
            "SecretNotFound",
            "spec.auth.secretRef.name is empty",
            id="no Secret named",
        ),
        pytest.param({"secrets": ()}, "SecretNotFound", '"s" not found in namespace "team-a"', id="no such Secret"),
        pytest.param(
            {"secrets": (replace(SECRET, type="Opaque"),)}, "SecretTypeMismatch", 'type "Opaque"', id="another type"
        ),
        pytest.param(
            {"secrets": (replace(SECRET, credential=None),)}, "SecretKeyMissing", '"token"', id="no key token"
        ),
        pytest.param(
            {
                "secrets": (
                    replace(
                        SECRET, credential=None, credential_problem=SecretProblem("", "", "data[token] has a space")
                    ),
                )
            },
            "SecretInvalid",
            "has a space",
            id="a token that cannot be sent",
        ),
        pytest.param(
            {"secrets": (replace(SECRET, pinned_address=Address(host="other", port=6443)),)},
            "SecretInvalid",
            "pinned to another address",
            id="pinned elsewhere",
        ),
        pytest.param(
            {"secrets": (replace(SECRET, pinned_address=replace(ADDRESS, port=8443)),)},
            "SecretInvalid",
            "pinned to another address",
            id="pinned to another port of the same host",
        ),
        pytest.param(
            {"secrets": (replace(SECRET, pinned_address=replace(ADDRESS, prefix="/other")),)},
            "SecretInvalid",
            "pinned to another address",
            id="pinned to another path of the same host",
        ),
        pytest.param(
            {
                "secrets": (
                    replace(SECRET, pinned_address_problem=SecretProblem("", "", "metadata.annotations: not https")),
                )
            },
            "SecretInvalid",
            "not https",
            id="an invalid pinned address",
        ),
        pytest.param(
            {"secrets": (replace(SECRET, ca_problem=SecretProblem("", "", "data[ca.crt] is no PEM")),)},
            "InvalidPEM",
            "no PEM",
            id="a broken ca.crt next to the token",
        ),
        pytest.param(
            {
                "connector": replace(CONNECTOR, ca_secret_name="ca"),
                "secrets": (replace(SECRET, ca_problem=SecretProblem("", "", "data[ca.crt] is no PEM")), CA_SECRET),
            },
            "InvalidPEM",
            "no PEM",
            id="a broken ca.crt does not fall back to spec.caCertSecretRef",
        ),
        pytest.param(
            {"connector": replace(CONNECTOR, ca_secret_name="gone"), "shared_ca": b"shared"},
            "SecretNotFound",
            "spec.caCertSecretRef",
            id="no such CA Secret does not fall back to wider trust",
        ),
        pytest.param(
            {"connector": replace(CONNECTOR, ca_secret_name="ca"), "secrets": (SECRET, replace(CA_SECRET, ca=None))},
            "InvalidPEM",
            "no certificate under",
            id="a CA Secret without certificate",
        ),
        pytest.param(
            {
                "connector": replace(CONNECTOR, ca_secret_name="ca"),
                "secrets": (SECRET, replace(CA_SECRET, ca_problem=SecretProblem("", "", "data[ca.crt] is no PEM"))),
            },
            "InvalidPEM",
            "no PEM",
            id="a CA Secret without PEM",
        ),
        pytest.param(
            {"connector": replace(CONNECTOR, ca_secret_name="ca"), "secrets": (PINNED, CA_SECRET), "shared_ca": b"c"},
            "CACertNotAllowed",
            'secrets "s" is pinned, so spec.caCertSecretRef is not allowed',
            id="a CA that the author of the Connector adds to a pinned Secret",
        ),
    ],
)
def test_an_unusable_connector_has_a_reason_and_a_message(change: dict[str, Any], reason: str, message: str) -> None:
    result = join(**change)
    assert isinstance(result, Unusable)
    assert result.reason == reason
    assert message in result.message


@pytest.mark.parametrize(
    ("change", "path", "secret"),
    [
        pytest.param({"secrets": ()}, "spec.auth.secretRef.name", None, id="no Secret"),
        pytest.param(
            {"connector": replace(CONNECTOR, ca_secret_name="gone")}, "spec.caCertSecretRef", None, id="no CA Secret"
        ),
        pytest.param(
            {"secrets": (replace(SECRET, credential=None, credential_problem=SecretProblem("", "", "is odd")),)},
            "spec.auth.secretRef.name",
            SECRET.key,
            id="an invalid Secret",
        ),
        pytest.param(
            {"connector": replace(CONNECTOR, ca_secret_name="ca"), "secrets": (PINNED, CA_SECRET)},
            "spec.caCertSecretRef",
            None,
            id="a CA next to a pin",
        ),
        pytest.param(
            {"connector": replace(ISSUING, auth_params=())}, "spec.auth.params[serviceAccount]", None, id="params"
        ),
    ],
)
def test_an_unusable_connector_has_the_field_and_the_secret_of_its_problem(
    change: dict[str, Any], path: str, secret: ObjectKey | None
) -> None:
    result = join(**change)
    assert isinstance(result, Unusable)
    assert (result.path, result.secret) == (path, secret)


@pytest.mark.parametrize(
    ("change", "ca"),
    [
        pytest.param({}, None, id="the system's store"),
        pytest.param({"shared_ca": b"shared"}, b"shared", id="the shared CAs"),
        pytest.param(
            {"shared_ca": b"shared", "connector": replace(CONNECTOR, ca_secret_name="ca")},
            b"ref",
            id="spec.caCertSecretRef before the shared CAs",
        ),
        pytest.param(
            {
                "shared_ca": b"shared",
                "connector": replace(CONNECTOR, ca_secret_name="ca"),
                "secrets": (replace(SECRET, ca=b"own"), CA_SECRET),
            },
            b"own",
            id="the auth Secret's ca.crt before all",
        ),
        pytest.param({"shared_ca": b"shared", "secrets": (PINNED,)}, b"shared", id="the shared CAs with a pin"),
        pytest.param(
            {"connector": replace(CONNECTOR, ca_secret_name="ca"), "secrets": (replace(PINNED, ca=b"own"), CA_SECRET)},
            b"own",
            id="the pinned Secret's ca.crt before all",
        ),
    ],
)
def test_the_most_specific_source_of_trust_wins(change: dict[str, Any], ca: bytes | None) -> None:
    result = join(**change)
    assert isinstance(result, Target)
    assert result.ca == ca


def test_a_secret_pinned_to_this_address_is_used() -> None:
    assert isinstance(join(secrets=(PINNED,)), Target)


def test_without_an_optional_secret_the_target_has_no_credential() -> None:
    result = join(connector=replace(CONNECTOR, secret_name=None), cls=OPTIONAL)
    assert isinstance(result, Target)
    assert result.credential is None


def test_token_issuing_gives_an_issuing_credential() -> None:
    result = join(connector=ISSUING)
    assert isinstance(result, Target)
    assert isinstance(result.credential, IssuingCredential)
    assert result.credential.credential == SECRET.credential


def test_missing_params_make_the_connector_unusable() -> None:
    result = join(connector=replace(ISSUING, auth_params=()))
    assert isinstance(result, Unusable)
    assert (result.reason, result.message[:44]) == ("SecretInvalid", "spec.auth.params[serviceAccount]: is missing")


def test_the_message_names_the_missing_key_of_two() -> None:
    kind = AuthType(name="clientCertificateAuth", secret_type=CLIENT_CERTIFICATE_SECRET)
    secret = replace(SECRET, type=CLIENT_CERTIFICATE_SECRET, credential=None, missing_key="tls.key")
    result = join(connector=replace(CONNECTOR, auth_name=kind.name), secrets=(secret,))
    assert isinstance(result, Unusable)
    assert (result.reason, result.message) == (
        "SecretKeyMissing",
        'secrets "s" has no key "tls.key"; add its private key there',
    )


def test_an_unsupported_connector_has_no_target() -> None:
    assert join(connector=REJECTED, cls=BASIC) is None
    assert join(cls=BOTH) is not None
