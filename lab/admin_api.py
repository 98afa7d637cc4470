"""Requests to the API server as cluster-admin, for cases in which kubectl is too slow or checks too much."""

import contextlib
import http.client
import json
import select
import socket
import ssl
import time
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from lab.waiting import TIMEOUT, sleep_before_retry

APPLY_QUERY: Final = "?fieldManager=lab&force=true&fieldValidation=Strict"
"""https://kubernetes.io/docs/reference/using-api/server-side-apply/"""
CLUSTER_SCOPED_KINDS: Final = frozenset({"ClusterRole", "ClusterRoleBinding", "ConnectorClass", "Namespace"})
"""Kinds whose objects have no namespace."""

MAX_IDLE: Final = 45.0
"""Seconds after which an idle connection is not reused. The API server closes it after 90 (IdleTimeout of net/http)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class AdminApi:
    """Client of the API server. It reuses connections, because a new one takes 5 ms of CPU, here and at the server.

    A connection that the server has closed is not reused, so a restart of the server does not matter.
    """

    def __init__(self, url: str, ca: Path, certificate: Path, key: Path) -> None:
        self._authority = urllib.parse.urlsplit(url).netloc
        self._context = ssl.create_default_context(cafile=str(ca))
        self._context.load_cert_chain(certificate, key)
        self._idle: list[tuple[http.client.HTTPSConnection, float]] = []
        """Connections without a request, each with the time.monotonic() of its last response."""

    def close(self) -> None:
        """Close the idle connections."""
        while self._idle:
            self._idle.pop()[0].close()

    def trust(self, ca: Path) -> None:
        """Also trust a server with a certificate by this CA."""
        self._context.load_verify_locations(ca)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        patch_type: str = "merge-patch+json",
        timeout: float = TIMEOUT,
        user: str = "",
        groups: Sequence[str] = (),
    ) -> Response:
        """Send a request with a JSON body, and return the response. A PATCH has the type application/`patch_type`.

        With `user`, the request impersonates that user, as `kubectl --as`. Raise OSError if the server does not
        respond.

        After 429, the request is sent again: the API server has not begun to process it, such as a list of a kind whose
        watch cache is not initialized.
        """
        content = b"" if body is None else json.dumps(body).encode()
        content_type = f"application/{patch_type if method == 'PATCH' else 'json'}"
        headers = [("Impersonate-User", user)] if user else []
        headers += [("Impersonate-Group", group) for group in groups]
        headers += [("Content-Type", content_type), ("Content-Length", str(len(content)))] if body is not None else []
        started_at = time.monotonic()
        while True:
            response = self._send(method, path, headers, content, timeout)
            if response.status != HTTPStatus.TOO_MANY_REQUESTS or time.monotonic() >= started_at + TIMEOUT:
                return response
            sleep_before_retry(started_at)

    def _send(
        self, method: str, path: str, headers: Sequence[tuple[str, str]], content: bytes, timeout: float
    ) -> Response:
        connection = self._acquire(timeout)
        try:
            connection.putrequest(method, path)
            for name, value in headers:
                connection.putheader(name, value)
            connection.endheaders(content or None)
            response = connection.getresponse()
            received = Response(status=response.status, body=response.read())
        except BaseException as error:
            connection.close()
            if isinstance(error, http.client.HTTPException):
                raise ConnectionError(f"{method} {path}: {error!r}") from error
            raise
        if connection.sock is not None:  # the response allows another request
            self._idle.append((connection, time.monotonic()))
        return received

    def _acquire(self, timeout: float) -> http.client.HTTPSConnection:
        """Return an idle connection that the server has not closed, or a new one. Threads may call this."""
        with contextlib.suppress(IndexError):
            while True:
                connection, idle_since = self._idle.pop()
                if time.monotonic() < idle_since + MAX_IDLE and not has_input(connection.sock):
                    connection.sock.settimeout(timeout)
                    return connection
                connection.close()
        return http.client.HTTPSConnection(self._authority, context=self._context, timeout=timeout)

    def call(self, method: str, path: str, body: Any = None, *, patch_type: str = "merge-patch+json") -> Any:
        """Send a request and return the JSON of the response. Raise RuntimeError for a status of 400 or more."""
        response = self.request(method, path, body, patch_type=patch_type)
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {response.body.decode(errors='replace')}")
        return response.json()

    def apply(self, *manifests: dict[str, Any], namespace: str = "") -> None:
        """Apply the manifests as `kubectl apply --server-side` does, without the 50 ms of CPU that kubectl needs.

        A manifest without a namespace is applied in `namespace`.
        """
        for manifest in manifests:
            self.call("PATCH", _object_path(manifest, namespace) + APPLY_QUERY, manifest, patch_type="apply-patch+yaml")


def has_input(connection: socket.socket) -> bool:
    """Return True if the peer has closed or reset an idle connection."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _object_path(manifest: dict[str, Any], namespace: str) -> str:
    """Return the path of an object. The kinds that tests use have regular plurals."""
    version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    object_namespace = "" if kind in CLUSTER_SCOPED_KINDS else metadata.get("namespace", namespace)
    namespace_path = f"/namespaces/{object_namespace}" if object_namespace else ""
    plural = (
        kind.lower().removesuffix("y") + "ies"
        if kind.endswith("y")
        else f"{kind.lower()}{'es' if kind.endswith('s') else 's'}"
    )
    return f"{root}{namespace_path}/{plural}/{metadata['name']}"
