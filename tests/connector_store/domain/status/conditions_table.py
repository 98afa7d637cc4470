"""The conditions table of the API page as cases: one good Connector, and one change for each row."""

from dataclasses import replace
from datetime import UTC, datetime

import jwt
import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET, BearerToken
from connector_store.domain.objects.builtin import K8S
from connector_store.domain.objects.models import Address, Connector, InvalidConnector, Secret, SecretProblem
from connector_store.domain.permissions.permissions import Permissions, RoleEntry
from connector_store.domain.permissions.rbac import ClusterRole
from connector_store.domain.status.conditions import (
    Assessment,
    ProbeFailure,
    ProbeOutcomes,
    ProbeResponse,
    UnsentProbe,
)

CONNECTOR = Connector(
    key=ObjectKey("team-a", "k8s"),
    class_name="k8s",
    address=Address(host="h", port=6443),
    auth_name="bearerTokenAuth",
    secret_name="s",
)
SECRET = Secret(key=ObjectKey("team-a", "s"), type=BEARER_TOKEN_SECRET, credential=BearerToken("t"))
LIMITED = replace(CONNECTOR, permissions=Permissions(allow=(RoleEntry(cluster_role="view"),)))
OPTIONAL = replace(K8S, auth_types=(replace(K8S.auth_types[0], optional=True),))
HEALTHY = ProbeOutcomes(liveness=ProbeResponse(status=200), auth=ProbeResponse(status=200))
GOOD = Assessment(holds=True)


def invalid(reason: str) -> InvalidConnector:
    return InvalidConnector(key=CONNECTOR.key, class_name="k8s", reason=reason, message="spec.x: write it so")


def probed(liveness=HEALTHY.liveness, auth=HEALTHY.auth):
    return {"probes": ProbeOutcomes(liveness=liveness, auth=auth)}


def expiring_at(year: int, month: int, day: int):
    """Return the change to a Secret whose token expires on that day."""
    token = jwt.encode({"exp": datetime(year, month, day, tzinfo=UTC)}, "x" * 32, algorithm="HS256")
    return {"secrets": (replace(SECRET, credential=BearerToken(token)),)}


def row(change, kind, holds, reason, *message_parts, ready="same", id):
    return pytest.param(change, kind, holds, reason, message_parts, ready, id=id)


ROWS = [
    row({}, "ConnectorClassReady", True, "", ready="yes", id="the class exists"),
    row({}, "SecretReady", True, "", ready="yes", id="the Secret is good"),
    row({}, "CACertReady", True, "NoCACert", "system", ready="yes", id="the system's CAs"),
    row({}, "LivenessReady", True, "", ready="yes", id="the target is alive"),
    row({}, "AuthReady", True, "", ready="yes", id="the token is accepted"),
    row({}, "ProxyServiceReady", True, "", ready="yes", id="the Service exists"),
    row({"cls": None}, "ConnectorClassReady", False, "ConnectorClassNotFound", "create it", id="no class"),
    row({"connector": invalid("AddressInvalid")}, "ConnectorClassReady", False, "AddressInvalid", id="address"),
    row(
        {"connector": replace(CONNECTOR, secret_name=None), "cls": OPTIONAL, "secrets": ()},
        "SecretReady",
        True,
        "SecretOptional",
        ready="yes",
        id="no Secret is needed",
    ),
    row({"secrets": ()}, "SecretReady", False, "SecretNotFound", '"s" not found', "create it", id="no Secret"),
    row(
        {"secrets": (replace(SECRET, type="Opaque"),)},
        "SecretReady",
        False,
        "SecretTypeMismatch",
        "create it anew",
        id="a Secret of another type",
    ),
    row(
        {"secrets": (replace(SECRET, credential=None),)},
        "SecretReady",
        False,
        "SecretKeyMissing",
        'no key "token"',
        id="a Secret without the key",
    ),
    row(
        {
            "secrets": (
                replace(SECRET, credential=None, credential_problem=SecretProblem("", "", "data[token]: has a blank")),
            )
        },
        "SecretReady",
        False,
        "SecretInvalid",
        "has a blank",
        id="a token with a blank",
    ),
    row({"connector": invalid("SecretInvalid")}, "SecretReady", False, "SecretInvalid", id="another namespace"),
    row({}, "PermissionsReady", True, "NotLimited", "all that the credential", ready="yes", id="no permissions"),
    row(
        {"connector": LIMITED, "roles": (ClusterRole(name="view", rules=()),)},
        "PermissionsReady",
        True,
        "",
        ready="yes",
        id="the role exists",
    ),
    row({"connector": LIMITED}, "PermissionsReady", False, "RoleNotFound", '"view" not found', id="no role"),
    row(
        {"connector": invalid("PermissionsInvalid")},
        "PermissionsReady",
        False,
        "PermissionsInvalid",
        id="invalid permissions",
    ),
    row(
        {"connector": invalid("AddressInvalid")},
        "PermissionsReady",
        None,
        "NotProbed",
        ready="no",
        id="permissions of an invalid Connector",
    ),
    row({"shared_ca": b"pem"}, "CACertReady", True, "Valid", ready="yes", id="a CA"),
    row(
        {"connector": replace(CONNECTOR, ca_secret_name="ca")},
        "CACertReady",
        False,
        "SecretNotFound",
        ready="other",
        id="the CA's Secret is missing",
    ),
    row(
        {"secrets": (replace(SECRET, ca_problem=SecretProblem("", "", "data[ca.crt]: no PEM")),)},
        "CACertReady",
        False,
        "InvalidPEM",
        "no PEM",
        ready="other",
        id="a CA that cannot be read",
    ),
    row(
        {"secrets": (replace(SECRET, ca_problem=SecretProblem("", "", "data[ca.crt]: no PEM")),)},
        "LivenessReady",
        False,
        "ConnectionFailed",
        "no PEM",
        id="without the CA no connection is made",
    ),
    row(
        {"cls": replace(K8S, liveness=None)},
        "LivenessReady",
        True,
        "NonLivenessProbe",
        ready="yes",
        id="no liveness probe",
    ),
    row(
        probed(ProbeFailure(message="connection refused; start it"), None),
        "LivenessReady",
        False,
        "ConnectionFailed",
        "start it",
        id="no response",
    ),
    row(
        probed(ProbeResponse(status=503), None),
        "LivenessReady",
        False,
        "ConnectionFailed",
        "/livez",
        "503",
        id="the target is broken",
    ),
    row(probed(ProbeResponse(status=401)), "LivenessReady", True, "", ready="yes", id="anonymous access is off"),
    row(probed(ProbeResponse(status=302)), "LivenessReady", True, "", ready="yes", id="a redirect is a sign of life"),
    row(
        {"cls": replace(K8S, auth_probes={})},
        "AuthReady",
        True,
        "NonAuthProbe",
        ready="yes",
        id="no auth probe",
    ),
    row(
        {"connector": replace(CONNECTOR, secret_name=None), "cls": OPTIONAL, "secrets": ()},
        "AuthReady",
        True,
        "NonAuthProbe",
        ready="yes",
        id="no token to probe with",
    ),
    row(
        probed(auth=ProbeResponse(status=401)),
        "AuthReady",
        False,
        "AuthenticationFailed",
        "Authentication failed: status code 401",
        'renew it in secrets "s"',
        id="the token is refused",
    ),
    row(
        probed(auth=ProbeResponse(status=403)),
        "AuthReady",
        False,
        "AuthenticationFailed",
        "Authentication failed: status code 403",
        "system:discovery",
        id="the token has no rights",
    ),
    row(
        probed(auth=ProbeResponse(status=302)),
        "AuthReady",
        False,
        "AuthenticationFailed",
        "Authentication failed: status code 302",
        "base URL",
        id="a login page",
    ),
    row(probed(auth=ProbeResponse(status=429)), "AuthReady", None, "NotProbed", "429", id="too many requests"),
    row(probed(auth=ProbeResponse(status=500)), "AuthReady", None, "NotProbed", "500", id="a broken /api"),
    row(probed(auth=ProbeFailure(message="reset")), "AuthReady", None, "NotProbed", "reset", id="reset at /api"),
    row(probed(ProbeFailure(message="x"), None), "AuthReady", None, "NotProbed", ready="other", id="no auth if dead"),
    row({"probes": None}, "LivenessReady", None, "NotProbed", "not finished", id="not probed yet"),
    row({"probes": None}, "AuthReady", None, "NotProbed", "not finished", ready="other", id="not probed yet either"),
    row({"cls": None}, "SecretReady", None, "NotProbed", ready="other", id="no class for the Secret"),
    row({"cls": None}, "LivenessReady", None, "NotProbed", "create it", ready="other", id="no class, no probe"),
    row({"secrets": ()}, "AuthReady", None, "NotProbed", "create it", ready="other", id="no Secret, no probe"),
    row(
        {"connector": invalid("AddressInvalid")},
        "SecretReady",
        None,
        "NotProbed",
        ready="other",
        id="Secret of an invalid Connector",
    ),
    row(
        {"connector": invalid("AddressInvalid")},
        "CACertReady",
        None,
        "NotProbed",
        ready="other",
        id="CA of an invalid Connector",
    ),
    row(
        {"service": Assessment(holds=False, reason="ProxyServiceConflict", message="delete it")},
        "ProxyServiceReady",
        False,
        "ProxyServiceConflict",
        "delete it",
        id="a Service of another owner",
    ),
    row({}, "CredentialFresh", None, "NotKnown", "does not say", ready="yes", id="a token without an expiry"),
    row(
        {"cls": OPTIONAL, "connector": replace(CONNECTOR, secret_name=None), "secrets": ()},
        "CredentialFresh",
        None,
        "NoCredential",
        ready="yes",
        id="no credential",
    ),
    row(
        expiring_at(2026, 1, 4),
        "CredentialFresh",
        True,
        "",
        "2026-01-04T00:00:00Z",
        ready="yes",
        id="it expires later",
    ),
    row(
        expiring_at(2026, 1, 3),
        "CredentialFresh",
        False,
        "ExpiresSoon",
        'secrets "s" expires at 2026-01-03T00:00:00Z; renew it',
        ready="yes",
        id="it expires within a day",
    ),
    row(
        expiring_at(2026, 1, 1),
        "CredentialFresh",
        False,
        "Expired",
        'secrets "s" expired at 2026-01-01T00:00:00Z; renew it',
        ready="yes",
        id="it has expired, and Ready stays True",
    ),
    row(
        probed(auth=ProbeResponse(status=200, account="system:serviceaccount:ci:deployer")),
        "AuthReady",
        True,
        "",
        "authenticates the credential as system:serviceaccount:ci:deployer",
        ready="yes",
        id="the account that answered",
    ),
    row(
        probed(auth=UnsentProbe(message="may not create serviceaccounts/token", refused=True)),
        "AuthReady",
        False,
        "AuthenticationFailed",
        "may not create",
        id="no token is issued",
    ),
    row(
        probed(auth=UnsentProbe(message="status code 500", refused=False)),
        "AuthReady",
        None,
        "NotProbed",
        "500",
        id="no token is issued at the moment",
    ),
]
"""Tuples: arguments of `assess_with`, condition, holds, reason, parts of the message, and the expected Ready."""
