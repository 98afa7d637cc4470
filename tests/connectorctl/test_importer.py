import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.base.errors import ParseError
from connectorctl.importer import convert_kubeconfig
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
    return convert_kubeconfig(path, options.get("context"), namespace="team-a", name=options.get("name"))


def test_a_token_becomes_a_secret_pinned_to_the_server(tmp_path: Path) -> None:
    secret, connector = read(write(tmp_path))
    assert secret["type"] == "connectors.cpaas.io/bearer-token"
    assert secret["data"] == {"token": encoded(b"canary"), "ca.crt": encoded(CA.pem)}
    assert secret["metadata"]["annotations"] == {"connectors.alauda.io/address": "https://h:6443"}
    assert connector["metadata"] == {"name": "admin-kind", "namespace": "team-a"}
    assert connector["spec"]["auth"] == {"name": "bearerTokenAuth", "secretRef": {"name": "admin-kind"}}


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
        pytest.param({"user": {"username": "x"}}, "username: is a password's", id="a password"),
        pytest.param({"user": {"token": "canary", "as": "x"}}, "as: acts as another", id="impersonation"),
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
        ("current-context: x", "kubeconfig has no context 'x'; it has: none"),
        ("{current-context: x, contexts: [{name: a}, {name: b}]}", "has no context 'x'; it has: a, b"),
        ("{current-context: x, contexts: [{name: x, context: {cluster: a}}]}", "clusters: has no 'a'"),
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
