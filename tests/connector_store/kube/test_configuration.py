"""The same trust as kubectl, and a token file that is read again."""

import ssl
from pathlib import Path

import pytest

from connector_store.kube.configuration import TOKEN_FILE_PERIOD, Configuration, CredentialError, TokenFile
from lab.certificates import make_ca, make_leaf

HOST = "https://192.0.2.1:6443"


async def test_the_default_has_no_authorization() -> None:
    assert await Configuration(host=HOST).authorization() is None


def test_trusts_what_kubectl_trusts(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(make_ca().pem)
    context = Configuration(host=HOST, ssl_ca_cert=str(tmp_path / "ca.crt")).ssl_context()
    assert len(context.get_ca_certs()) == 1
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_verify_ssl_false_verifies_nothing(tmp_path: Path) -> None:
    context = Configuration(host=HOST, verify_ssl=False).ssl_context()
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_NONE)


def test_a_certificate_of_another_key_is_an_error(tmp_path: Path) -> None:
    one, other = make_leaf(make_ca(), ["one"]), make_leaf(make_ca(), ["other"])
    (tmp_path / "cert").write_bytes(one.pem)
    (tmp_path / "key").write_bytes(other.key_pem)
    with pytest.raises(ssl.SSLError):
        Configuration(host=HOST, cert_file=str(tmp_path / "cert"), key_file=str(tmp_path / "key")).ssl_context()


async def test_a_token_is_read_again_after_its_time(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    now = [1000.0]
    token = TokenFile(tmp_path / "token", lambda: now[0])
    (tmp_path / "token").write_text("two\n")
    assert await token.authorization() == "Bearer one"
    now[0] += TOKEN_FILE_PERIOD
    assert await token.authorization() == "Bearer two"


async def test_a_removed_token_is_an_error_that_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one")
    now = [1000.0]
    token = TokenFile(tmp_path / "token", lambda: now[0])
    (tmp_path / "token").write_text("")
    now[0] += TOKEN_FILE_PERIOD
    with pytest.raises(CredentialError, match="token is empty"):
        await token.authorization()
