from dataclasses import replace

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET, BearerToken
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.models import Address, Connector, InvalidConnector, Secret, Unusable
from connector_store.domain.permissions.permissions import Permissions, RoleEntry
from connector_store.domain.status.facts import ConnectorFacts, gather_facts

CONNECTOR = Connector(
    key=ObjectKey("team-a", "k8s"),
    class_name="k8s",
    address=Address(host="h", port=6443),
    auth_name="bearerTokenAuth",
    secret_name="s",
    ca_secret_name="ca",
)
SECRET = Secret(key=ObjectKey("team-a", "s"), type=BEARER_TOKEN_SECRET, credential=BearerToken("t"))
CA_SECRET = Secret(key=ObjectKey("team-a", "ca"), type="Opaque", ca=b"ref")


def facts(connector=CONNECTOR, cls=K8S, secrets=(SECRET, CA_SECRET), shared_ca=None) -> ConnectorFacts:
    return gather_facts(connector, cls, {secret.key: secret for secret in secrets}.get, shared_ca, lambda _: None)


def reason(value) -> object:
    return value.reason if isinstance(value, Unusable) else value


@pytest.mark.parametrize(
    ("change", "secret", "ca"),
    [
        pytest.param({}, SECRET, b"ref", id="all objects exist"),
        pytest.param({"secrets": ()}, "SecretNotFound", "SecretNotFound", id="both Secrets are missing"),
        pytest.param({"cls": None}, None, b"ref", id="without the class only the CA is known"),
        pytest.param(
            {"connector": replace(CONNECTOR, auth_name="nope")}, "SecretInvalid", b"ref", id="an unknown auth type"
        ),
        pytest.param(
            {"secrets": (replace(SECRET, credential=None, ca=b"own"), CA_SECRET)},
            "SecretKeyMissing",
            b"own",
            id="the CA of a Secret whose token is missing",
        ),
        pytest.param(
            {"connector": replace(CONNECTOR, secret_name=None, ca_secret_name=None), "shared_ca": b"all"},
            "SecretNotFound",
            b"all",
            id="no Secret is referenced, and the CA is the shared one",
        ),
    ],
)
def test_each_fact_is_gathered_on_its_own(change, secret, ca) -> None:
    result = facts(**change)
    assert reason(result.secret) == secret
    assert reason(result.ca) == ca


def test_auth_name_and_credential() -> None:
    assert facts().auth_name == "bearerTokenAuth"
    assert facts().credential == BearerToken("t")
    assert facts(replace(CONNECTOR, auth_name=None)).auth_name == "bearerTokenAuth"
    assert facts(replace(CONNECTOR, auth_name="nope")).auth_name is None
    assert facts(cls=None).auth_name is None
    assert facts(secrets=()).credential is None


def test_for_an_invalid_connector_nothing_is_looked_up() -> None:
    invalid = InvalidConnector(key=CONNECTOR.key, class_name="k8s", reason="AddressInvalid", message="no host")
    result = facts(invalid)
    assert result == ConnectorFacts(connector=invalid, cls=K8S)
    assert result.auth_name is None


def test_a_missing_role_does_not_hide_the_other_facts() -> None:
    limited = replace(CONNECTOR, permissions=Permissions(allow=(RoleEntry(cluster_role="view"),)))
    result = facts(limited)
    assert (reason(result.secret), reason(result.permissions)) == (SECRET, "RoleNotFound")
    assert facts().permissions is None
