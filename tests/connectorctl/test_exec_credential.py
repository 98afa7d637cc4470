"""ExecCredentials of plugins."""

import json

import jwt
import pytest

from connectorctl.exec_credential import EXPIRY_LEEWAY, exec_credential, parse_exec_credential


@pytest.mark.parametrize(
    ("document", "token"),
    [
        pytest.param(b'{"kind":"ExecCredential","status":{"token":" a.b.c\\n"}}', "a.b.c", id="a token"),
        pytest.param(b'{"kind":"ExecCredential","status":{"token":""}}', None, id="an empty token"),
        pytest.param(b'{"kind":"ExecCredential","status":{"clientKeyData":"x"}}', None, id="a certificate"),
        pytest.param(b'{"kind":"ExecCredential"}', None, id="no status"),
        pytest.param(b'{"kind":"Secret","status":{"token":"a"}}', None, id="another kind"),
        pytest.param(b'{"kind":"ExecCredential","status":{"token":5}}', None, id="a number"),
        pytest.param(b"a.b.c", None, id="a token alone"),
        pytest.param(b"[]", None, id="a list"),
        pytest.param(b"[" * 100_000, None, id="a deep document"),
    ],
)
def test_the_token_is_read(document: bytes, token: str | None) -> None:
    assert parse_exec_credential(document) == token


def test_a_token_expires_shortly_before_its_expiry() -> None:
    token = jwt.encode({"exp": 1_800_000_000 + int(EXPIRY_LEEWAY)}, "x" * 32, algorithm="HS256")
    assert json.loads(exec_credential(token, {})) == {
        "apiVersion": "client.authentication.k8s.io/v1",
        "kind": "ExecCredential",
        "status": {"token": token, "expirationTimestamp": "2027-01-15T08:00:00Z"},
    }


def test_a_token_without_an_expiry_has_none() -> None:
    assert json.loads(exec_credential("opaque", {}))["status"] == {"token": "opaque"}


@pytest.mark.parametrize(
    ("exec_info", "version"),
    [
        pytest.param('{"apiVersion": "client.authentication.k8s.io/v1beta1"}', "v1beta1", id="an older client"),
        pytest.param('{"apiVersion": "client.authentication.k8s.io/v2"}', "v1", id="an unknown version"),
        pytest.param("[]", "v1", id="no object"),
        pytest.param("{}", "v1", id="no version"),
        pytest.param("?", "v1", id="no JSON"),
    ],
)
def test_the_api_version_is_that_of_the_client(exec_info: str, version: str) -> None:
    credential = json.loads(exec_credential("t", {"KUBERNETES_EXEC_INFO": exec_info}))
    assert credential["apiVersion"] == f"client.authentication.k8s.io/{version}"
