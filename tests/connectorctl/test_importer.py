import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Connector
from connectorctl.importer import (
    build_objects,
    build_permissions,
    issued_credential,
    read_credential,
    read_target,
)
from lab.certificates import make_ca, make_leaf

CA = make_ca()
LEAF = make_leaf(CA, [], name="admin")


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()


def write(folder: Path, *, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> Path:
    config = {
        "current-context": "admin@Kind",
        "contexts": [{"name": "admin@Kind", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": "https://h:6443", "certificate-authority-data": encoded(CA.pem)}
                | (cluster or {}),
            }
        ],
        "users": [{"name": "u", "user": {"token": "canary"} if user is None else user}],
    }
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    return path


def read(path: Path, **options: Any) -> list[dict[str, Any]]:
    target = read_target(path, options.get("context"), name=options.get("name"))
    return build_objects(target, read_credential(target), namespace="team-a", permissions={})


def test_a_token_becomes_a_secret_pinned_to_the_server(tmp_path: Path) -> None:
    secret, connector = read(write(tmp_path))
    assert secret["type"] == "connectors.cpaas.io/bearer-token"
    assert secret["data"] == {"token": encoded(b"canary"), "ca.crt": encoded(CA.pem)}
    assert secret["metadata"]["annotations"] == {"connectors.alauda.io/address": "https://h:6443"}
    assert connector["metadata"] == {"name": "admin-kind", "namespace": "team-a"}
    assert connector["spec"]["auth"] == {"name": "bearerTokenAuth", "secretRef": {"name": "admin-kind"}}


def test_another_address_replaces_the_server_and_the_pin(tmp_path: Path) -> None:
    path = write(tmp_path)
    target = read_target(path, None, name=None, address="https://Kubernetes.default.svc")
    secret, connector = build_objects(target, read_credential(target), namespace="a", permissions={})
    assert connector["spec"]["address"] == "https://kubernetes.default.svc:443"
    assert secret["metadata"]["annotations"] == {"connectors.alauda.io/address": "https://kubernetes.default.svc:443"}
    with pytest.raises(ParseError, match="--address: is not an https URL"):
        read_target(path, None, name=None, address="http://x")


def test_a_certificate_comes_from_data_or_from_files_next_to_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "crt").write_bytes(LEAF.pem)
    user = {"client-certificate": "crt", "client-key-data": encoded(LEAF.key_pem)}
    secret, connector = read(write(tmp_path, user=user), name="mine")
    assert secret["type"] == "connectors.cpaas.io/client-certificate"
    assert secret["data"]["tls.crt"] == encoded(LEAF.pem)
    assert secret["data"]["tls.key"] == encoded(LEAF.key_pem)
    assert connector["spec"]["auth"] == {"name": "clientCertificateAuth", "secretRef": {"name": "mine"}}


def test_a_token_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("canary\n")
    secret, _ = read(write(tmp_path, user={"tokenFile": "token", "token": "other"}))
    assert secret["data"]["token"] == encoded(b"canary\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"user": {"exec": {"command": "x"}}}, "users[0].user.exec: is a plugin", id="an exec plugin"),
        pytest.param({"user": {"auth-provider": {"name": "x"}}}, "auth-provider: is a plugin", id="an auth provider"),
        pytest.param({"user": {"username": "x"}}, "username: is for a password", id="a password"),
        pytest.param({"user": {"token": "canary", "as": "x"}}, "as: impersonates another", id="impersonation"),
        pytest.param({"user": {}}, "has neither a token nor a client certificate", id="nothing"),
        pytest.param({"user": {"tokenFile": "gone"}}, "gone: No such file", id="a token file that is not there"),
        pytest.param(
            {"user": {"client-certificate": "gone", "client-key": "gone"}},
            "gone: No such file",
            id="no certificate file",
        ),
        pytest.param({"user": {"token": "canary canary"}}, "has spaces", id="a token that cannot be sent"),
        pytest.param(
            {"user": {"client-certificate-data": "?", "client-key-data": "?"}}, "is not base64", id="no base64"
        ),
        pytest.param({"cluster": {"insecure-skip-tls-verify": True}}, "a target that is verified", id="unverified"),
        pytest.param({"cluster": {"proxy-url": "http://p"}}, "another proxy", id="a proxy"),
        pytest.param({"cluster": {"tls-server-name": "x"}}, "another host", id="another server name"),
        pytest.param({"cluster": {"server": "http://h"}}, "clusters[0].cluster.server", id="plain http"),
    ],
)
def test_an_unsupported_field_is_named_and_its_value_not_shown(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ParseError) as caught:
        read(write(tmp_path, **change))
    assert message in str(caught.value)
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not YAML"),
        ("[]", "is not an object"),
        ("{}", "current-context: is empty"),
        ("current-context: x", 'current-context: context "x" does not exist; the kubeconfig has: none'),
        (
            "{current-context: x, contexts: [{name: a}, {name: b}]}",
            'context "x" does not exist; the kubeconfig has: a, b',
        ),
        (
            "{current-context: x, contexts: [{name: x, context: {cluster: a}}]}",
            'clusters: cluster "a" does not exist; the kubeconfig has: none',
        ),
    ],
)
def test_a_file_that_is_not_a_kubeconfig_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(ParseError, match=message):
        read(path)


def test_an_invalid_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParseError, match="--name: 'A_B' is not the name of a Connector: lower case letters"):
        read(write(tmp_path), name="A_B")


@pytest.mark.parametrize(
    ("roles", "deny_credentials", "permissions"),
    [
        ([], False, {}),
        (["view", "logs"], False, {"allow": [{"clusterRole": "view"}, {"clusterRole": "logs"}]}),
        ([], True, {"deny": [{"clusterRole": "connectors-credentials"}]}),
        (["view"], True, {"allow": [{"clusterRole": "view"}], "deny": [{"clusterRole": "connectors-credentials"}]}),
    ],
)
def test_permissions_allow_roles_and_deny_credentials(
    roles: list[str], deny_credentials: bool, permissions: dict[str, Any]
) -> None:
    assert build_permissions(roles, deny_credentials=deny_credentials) == permissions


def test_an_account_needs_no_credential_in_the_kubeconfig(tmp_path: Path) -> None:
    target = read_target(write(tmp_path, user={"exec": {"command": "aws"}}), None, name=None)
    credential = issued_credential(ObjectKey("default", "deployer"), b"canary")
    permissions = {"allow": [{"clusterRole": "view"}]}
    secret, connector = build_objects(target, credential, namespace="team-a", permissions=permissions)
    assert secret["data"] == {"token": encoded(b"canary"), "ca.crt": encoded(CA.pem)}
    assert connector["spec"]["auth"] == {
        "name": "serviceAccountTokenAuth",
        "params": [{"name": "serviceAccount", "value": "default/deployer"}],
        "secretRef": {"name": "admin-kind"},
    }
    assert connector["spec"]["permissions"] == permissions
    assert isinstance(parse_connector(connector), Connector)
