"""Client for tokens: each kind of credential of a kubeconfig, proxies, failures, and fields for the full client."""

import base64
import json
import logging
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.kube.configuration import Configuration
from connector_store.kube.errors import ApiError
from connectorctl import small_client
from connectorctl.small_client import SmallClient, UnsupportedConfigurationError, load_small_configuration, run
from lab.certificates import make_ca, make_leaf
from tests.fakes.tls_api_server import CONNECTOR, TlsApiServer

PATH = "/apis/connectors.alauda.io/v1alpha1/namespaces/a/connectors/k8s"
TOKEN = {"token": "t"}


@pytest.fixture
def server(workdir: Path) -> Iterator[TlsApiServer]:
    with TlsApiServer().serving() as each:
        (workdir / "ca.crt").write_bytes(each.ca.pem)
        yield each


def load(api_server: TlsApiServer, user: dict[str, Any], /, **cluster: Any) -> Configuration:
    Path("config").write_text(api_server.kubeconfig(user, **cluster))
    return load_small_configuration(None, "config", {})


def fetch(configuration: Configuration) -> dict[str, Any]:
    with SmallClient(configuration) as client:
        return run(client.get(PATH))


def plugin(output: object, **more: object) -> dict[str, Any]:
    Path("plugin").write_text(f"#!/bin/sh\necho '{json.dumps(output)}'\n")
    Path("plugin").chmod(0o755)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "./plugin", **more}}


def credential(**status: str) -> dict[str, Any]:
    return {"kind": "ExecCredential", "status": status}


def data(content: bytes) -> str:
    return base64.b64encode(content).decode()


@pytest.mark.parametrize(
    ("make_user", "authorization"),
    [
        pytest.param(lambda: TOKEN, "Bearer t", id="a token"),
        pytest.param(lambda: {"tokenFile": "token", "token": "old"}, "Bearer file", id="a token file, before a token"),
        pytest.param(lambda: plugin(credential(token="p")), "Bearer p", id="a plugin", marks=pytest.mark.slow),
        pytest.param(dict, "", id="no credential"),
    ],
)
def test_each_kind_of_token_is_sent(
    server: TlsApiServer, make_user: Callable[[], dict[str, Any]], authorization: str
) -> None:
    Path("token").write_text("file\n")
    assert fetch(load(server, make_user())) == CONNECTOR
    assert server.requests == [("GET", PATH, authorization, "")]


@pytest.mark.parametrize(("keeps_connections", "connection_count"), [(True, 1), (False, 2)])
def test_requests_share_a_connection_until_the_server_closes_it(
    server: TlsApiServer, keeps_connections: bool, connection_count: int
) -> None:
    server.keeps_connections = keeps_connections
    with SmallClient(load(server, TOKEN)) as client:
        assert run(client.get(PATH)) == CONNECTOR
        with pytest.raises(ApiError, match="not found"):
            run(client.get("/other"))
    assert [path for _, path, _, _ in server.requests] == [PATH, "/other"]
    assert server.connection_count == connection_count


@pytest.mark.parametrize("is_data", [False, True])
def test_a_client_certificate_is_sent(server: TlsApiServer, is_data: bool) -> None:
    pair = make_leaf(server.ca, ["127.0.0.1"])
    Path("tls.crt").write_bytes(pair.pem)
    Path("tls.key").write_bytes(pair.key_pem)
    files = {"client-certificate": "tls.crt", "client-key": "tls.key"}
    texts = {"client-certificate-data": data(pair.pem), "client-key-data": data(pair.key_pem)}
    fetch(load(server, texts if is_data else files))
    assert server.requests[0][3] == "server"


def test_a_token_request_names_the_audience(server: TlsApiServer) -> None:
    with SmallClient(load(server, TOKEN)) as client:
        assert run(client.create_token("ci", "robot", "own", 600)) == "a.b.c"
    assert server.requests[0][:2] == ("POST", "/api/v1/namespaces/ci/serviceaccounts/robot/token")
    assert server.audiences == ["own"]


@pytest.mark.parametrize(
    "cluster",
    [
        pytest.param({"tls-server-name": "api.test"}, id="another server name"),
        pytest.param({"certificate-authority": "other.crt", "insecure-skip-tls-verify": True}, id="no verification"),
    ],
)
def test_fields_of_the_cluster_apply(server: TlsApiServer, cluster: dict[str, Any]) -> None:
    Path("other.crt").write_bytes(make_ca().pem)
    assert fetch(load(server, TOKEN, **cluster)) == CONNECTOR


@pytest.mark.parametrize("from_environment", [False, True])
def test_a_proxy_is_used_with_its_password(
    server: TlsApiServer, monkeypatch: pytest.MonkeyPatch, from_environment: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        heads: list[bytes] = []

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                heads.append(connection.recv(65536))
                connection.sendall(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=refuse)
        thread.start()
        url = f"http://jane:p%40ss@127.0.0.1:{listener.getsockname()[1]}"
        cluster = {"server": "https://api.example"} | ({} if from_environment else {"proxy-url": url})
        if from_environment:
            monkeypatch.setenv("HTTPS_PROXY", url)
        with pytest.raises(ApiError, match=r"the API server, api\.example: Tunnel connection failed: 403"):
            fetch(load(server, TOKEN, **cluster))
        thread.join()
    assert heads[0].startswith(b"CONNECT api.example:443 HTTP/1.")
    assert b"Proxy-Authorization: Basic " + base64.b64encode(b"jane:p@ss") in heads[0]


@pytest.mark.parametrize(
    ("user", "cluster"),
    [
        pytest.param({"auth-provider": {"name": "oidc"}}, {}, id="an auth provider"),
        pytest.param({"username": "u", "password": "p"}, {}, id="a password"),
        pytest.param(TOKEN, {"proxy-url": "socks5://127.0.0.1:1"}, id="another kind of proxy"),
        pytest.param(TOKEN, {"proxy-url": "http://p", "server": "http://api.example"}, id="a proxy for plain http"),
        pytest.param(TOKEN, {"api-version": "v1"}, id="an unknown field"),
    ],
)
def test_other_fields_need_the_full_client(server: TlsApiServer, user: dict[str, Any], cluster: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedConfigurationError):
        SmallClient(load(server, user, **cluster))


def test_a_plugin_that_needs_the_cluster_needs_the_full_client(server: TlsApiServer) -> None:
    with pytest.raises(UnsupportedConfigurationError):
        load(server, plugin(credential(token="p"), provideClusterInfo=True))


@pytest.mark.slow
def test_a_plugin_that_prints_a_certificate_needs_the_full_client(server: TlsApiServer) -> None:
    with pytest.raises(UnsupportedConfigurationError):
        load(server, plugin(credential(clientCertificateData="c", clientKeyData="k")))


def test_several_files_need_the_full_client(workdir: Path) -> None:
    with pytest.raises(UnsupportedConfigurationError):
        load_small_configuration(None, None, {"KUBECONFIG": "a:b"})


def test_an_unknown_context_is_named(server: TlsApiServer) -> None:
    Path("config").write_text(server.kubeconfig(TOKEN))
    with pytest.raises(ParseError, match='--context: context "y" does not exist; the kubeconfig has: x'):
        load_small_configuration("y", "config", {})


def test_a_pod_uses_its_service_account(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"no access to an API server: .*serviceaccount"):
        load_small_configuration(None, None, {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"})


@pytest.mark.parametrize(
    ("path", "cluster", "message"),
    [
        pytest.param("/x", {}, 'connectors "x" not found', id="a refusal"),
        pytest.param(PATH, {"server": "https://127.0.0.1:1"}, "Connection refused", id="no server"),
        pytest.param(PATH, {"certificate-authority": "other.crt"}, "certificate verify failed", id="another CA"),
    ],
)
def test_a_failure_is_an_api_error(server: TlsApiServer, path: str, cluster: dict[str, Any], message: str) -> None:
    Path("other.crt").write_bytes(make_ca().pem)
    with pytest.raises(ApiError, match=message), SmallClient(load(server, TOKEN, **cluster)) as client:
        run(client.get(path, {"limit": "1"}))


def test_a_refused_request_is_logged(server: TlsApiServer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "connector_store.kube.client")
    with SmallClient(load(server, TOKEN)) as client, pytest.raises(ApiError):
        run(client.get("/other"))
    assert [each.getMessage() for each in caplog.records] == [f"GET {server.url}/other: 404"]


@pytest.mark.parametrize(
    ("response", "message"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "is not a JSON object", id="a list"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", "is not a JSON object", id="no JSON"),
        pytest.param(b"", "connection to the API server broke|cannot connect", id="nothing"),
        pytest.param(None, "did not answer in time", id="silence"),
    ],
)
def test_another_answer_is_an_api_error(
    workdir: Path, monkeypatch: pytest.MonkeyPatch, response: bytes | None, message: str
) -> None:
    monkeypatch.setattr(small_client, "TIMEOUT", 0.2 if response is None else 30.0)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                if response is None:
                    connection.recv(1)
                else:
                    connection.sendall(response)

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ApiError, match=message):
            fetch(Configuration(host=f"http://127.0.0.1:{listener.getsockname()[1]}"))
        thread.join()


def test_a_coroutine_that_suspends_is_an_error() -> None:
    class Pause:
        def __await__(self) -> Generator[None]:
            yield

    async def suspend() -> None:
        await Pause()

    with pytest.raises(RuntimeError, match="suspended"):
        run(suspend())
