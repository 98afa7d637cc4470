"""Client for the few requests that a token needs: standard library and yaml only, and a tenth of aiohttp's start time.

Its coroutines never wait for an event loop, so `run` drives them without one. A kubeconfig with a field that this
client does not support needs `KubeClient`.
"""

import base64
import http.client
import json
import os
import ssl
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import SplitResult, unquote, urlencode, urlsplit

from connector_store.domain.base.fields import Fields
from connector_store.kube.config_loader import in_pod, load_configuration
from connector_store.kube.configuration import Configuration, CredentialError
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import token_request
from connectorctl.kubeconfig_fields import find_context, find_entry, load_kubeconfig, read_data, read_file

TIMEOUT: Final = 30.0
"""Seconds for each wait on the network."""
MAX_RESPONSE: Final = 4 * 1024 * 1024
"""Maximum bytes of a response. etcd limits an object to less."""
_CLUSTER_FIELDS: Final = frozenset(
    {
        "server", "certificate-authority", "certificate-authority-data", "tls-server-name", "insecure-skip-tls-verify",
        "proxy-url", "disable-compression", "extensions",
    }
)  # fmt: skip
_USER_FIELDS: Final = frozenset(
    {
        "token", "tokenFile", "client-certificate", "client-certificate-data", "client-key", "client-key-data", "exec",
        "extensions",
    }
)  # fmt: skip
_PROXY_VARIABLES: Final = ("http_proxy", "https_proxy")


class UnsupportedConfigurationError(Exception):
    """The kubeconfig needs the full client."""


def run[T](work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as stop:
        result: T = stop.value
        return result
    work.close()
    raise RuntimeError("the coroutine suspended")


def load_small_configuration(context: str | None, kubeconfig: str | None, environ: Mapping[str, str]) -> Configuration:
    """Load what `load_configuration` loads. Raises UnsupportedConfigurationError, or ParseError for a wrong field."""
    if context is None and kubeconfig is None and in_pod(environ):
        return run(load_configuration(environ=environ))
    path = Path(kubeconfig or environ.get("KUBECONFIG") or Path.home() / ".kube" / "config").expanduser()
    if not path.is_file():
        # Several files, or none: the full client merges them, or says what is missing.
        raise UnsupportedConfigurationError
    config = load_kubeconfig(path)
    _, entry = find_context(config, context)
    cluster = find_entry(config, "clusters", entry.text("cluster") or "", "cluster")
    user = find_entry(config, "users", entry.text("user") or "", "user")
    if not (set(cluster.names()) <= _CLUSTER_FIELDS and set(user.names()) <= _USER_FIELDS):
        raise UnsupportedConfigurationError
    authorization = _authorization(user, path.parent)
    cert_file, key_file = _certificate_files(user, path.parent)

    async def authorize() -> str | None:
        return authorization

    return Configuration(
        host=(cluster.text("server") or "").rstrip("/"),
        ca_data=(read_data(cluster, "certificate-authority", path.parent) or b"").decode("ascii", "replace"),
        cert_file=cert_file,
        key_file=key_file,
        verify_ssl=not cluster.flag("insecure-skip-tls-verify"),
        tls_server_name=cluster.text("tls-server-name"),
        proxy=cluster.text("proxy-url"),
        authorization=authorize,
    )


def _authorization(user: Fields, folder: Path) -> str | None:
    # client-go's order: a plugin, a token file, a token.
    if user.child("exec"):
        from connectorctl.connector_context import NoTokenError, run_plugin  # imports subprocess

        if user.child("exec").flag("provideClusterInfo"):
            raise UnsupportedConfigurationError
        try:
            return f"Bearer {run_plugin(user.child('exec'), folder)}"
        except NoTokenError:
            # It may have printed a certificate, which the full client supports.
            raise UnsupportedConfigurationError from None
    file = user.text("tokenFile")
    token = user.text("token")
    if file is not None:
        token = read_file(user.path_of("tokenFile"), folder / file).decode("ascii", "replace").strip()
    return f"Bearer {token}" if token else None


def _certificate_files(user: Fields, folder: Path) -> tuple[str | None, str | None]:
    """Return the files of the client certificate and its key. Data goes to a private file until the process ends."""
    if user.text("client-certificate-data") is None and user.text("client-key-data") is None:
        certificate_file, key_file = (user.text(name) for name in ("client-certificate", "client-key"))
        return (
            str(folder / certificate_file) if certificate_file is not None else None,
            str(folder / key_file) if key_file is not None else None,
        )
    import atexit
    import tempfile

    certificate, key = (read_data(user, name, folder) or b"" for name in ("client-certificate", "client-key"))
    descriptor, file = tempfile.mkstemp()
    atexit.register(Path(file).unlink, missing_ok=True)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(key + b"\n" + certificate)
    return file, None


class SmallClient:
    """Client for one API server, with one connection, which is closed at the end of a `with` block.

    Its methods raise only ApiError.
    """

    def __init__(self, configuration: Configuration) -> None:
        """Raises UnsupportedConfigurationError for a kind of proxy that only the full client supports."""
        self._configuration = configuration
        self._url = urlsplit(configuration.host)
        self._proxy = _http_proxy(configuration)
        self._connection: http.client.HTTPConnection | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> dict[str, Any]:
        return await self._request("GET", f"{path}?{urlencode(params)}" if params else path)

    async def create_token(self, namespace: str, name: str, audience: str, ttl: int) -> str:
        """Request a token of that ServiceAccount. `ttl` is in seconds, at least 600."""
        path, body = token_request(namespace, name, audience, ttl)
        return str((await self._request("POST", path, body))["status"]["token"])

    async def _request(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        headers = {"Accept": "application/json", "Content-Type": "application/json", "User-Agent": "connectorctl"}
        content = None if body is None else json.dumps(body).encode()
        try:
            authorization = await self._configuration.authorization()
            if authorization:
                headers["Authorization"] = authorization
            response = self._exchange(method, self._url.path + path, content, headers)
            _log(f"{method} {self._configuration.host}{path}: {response.status}")
            data = response.read(MAX_RESPONSE)
            if response.status >= 300:
                raise ApiError.from_response(response.status, response.reason, data)
            document = json.loads(data)
        except TimeoutError:
            raise ApiError(0, "the API server did not answer in time") from None
        except http.client.HTTPException as error:
            raise ApiError(0, f"the connection to the API server broke: {type(error).__name__}") from None
        except (OSError, CredentialError) as error:
            raise ApiError(0, f"cannot connect to the API server, {self._url.netloc}: {error}") from None
        except ValueError:
            raise ApiError(0, "the API server's response is not a JSON object") from None
        if not isinstance(document, dict):
            raise ApiError(0, "the API server's response is not a JSON object")
        return document

    def _exchange(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str]
    ) -> http.client.HTTPResponse:
        """Send a request. If a used connection was closed meanwhile, send it again on a new one, as client-go does."""
        is_used = self._connection is not None
        if self._connection is None:
            self._connection = self._connect()
        try:
            self._connection.request(method, path, body=content, headers=headers)
            return self._connection.getresponse()
        except (ConnectionError, ssl.SSLError, http.client.HTTPException):
            self._close()
            if not is_used:
                raise
            return self._exchange(method, path, content, headers)

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._url.hostname or "", self._url.port
        if self._url.scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        name = self._configuration.tls_server_name or host
        proxy = self._proxy
        first_host, first_port = (host, port) if proxy is None else (proxy.hostname or "", proxy.port or 80)
        context = self._configuration.ssl_context()
        connection = _NamedHostConnection(first_host, first_port, context, name)
        if proxy is not None:
            connection.set_tunnel(host, port or http.client.HTTPS_PORT, headers=_proxy_headers(proxy))
        return connection


class _NamedHostConnection(http.client.HTTPConnection):
    """Connection with TLS for another name than that of the host, as tls-server-name requires."""

    default_port = http.client.HTTPS_PORT

    def __init__(self, host: str, port: int | None, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(host, port, timeout=TIMEOUT)
        self._context = context
        self._server_name = server_name

    def connect(self) -> None:
        super().connect()
        self.sock = self._context.wrap_socket(self.sock, server_hostname=self._server_name)


def _http_proxy(configuration: Configuration) -> SplitResult | None:
    """Return the proxy of the kubeconfig, or else that of the environment. Raises UnsupportedConfigurationError."""
    url = configuration.proxy
    if url is None and any(name.lower() in _PROXY_VARIABLES for name in os.environ):
        from connector_store.outbound_proxy import proxy_from_environment  # imports urllib.request

        url = proxy_from_environment(configuration.host)
    if url is None:
        return None
    proxy = urlsplit(url)
    if proxy.scheme != "http" or urlsplit(configuration.host).scheme != "https":
        raise UnsupportedConfigurationError
    return proxy


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if proxy.username is None:
        return {}
    login = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {base64.b64encode(login).decode()}"}


def _log(message: str) -> None:
    # The option -v has imported logging. The credential plugin does without it.
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.getLogger("connector_store.kube.client").debug("%s", message)
