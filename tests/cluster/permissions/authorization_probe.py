"""Requests to a real API server with impersonation, sent exactly as they are spelled."""

import http.client
import json
import ssl
import threading
import urllib.parse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from connector_store.domain.base.request_info import RequestInfo
from lab.control_plane import ControlPlane
from tests.cluster.permissions.generated_requests import Request

REVIEWS = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
THREADS = 12
LATER = 429


class AuthorizationProbe:
    """Sends requests with one connection for each thread."""

    def __init__(self, plane: ControlPlane) -> None:
        self._authority = urllib.parse.urlsplit(plane.url).netloc
        self._context = ssl.create_default_context(cafile=str(plane.ca.certificate))
        certificate, key = plane.ca.issue("asking", common_name="asking", groups=["system:masters"])
        self._context.load_cert_chain(certificate, key)
        self._local = threading.local()
        self._open: list[http.client.HTTPSConnection] = []

    def are_forbidden(self, requests: Sequence[tuple[Request, str]]) -> list[bool | None]:
        """Return whether the API server forbids each request to the user; None if it failed before authorization."""
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                return list(pool.map(lambda each: self.is_forbidden(*each), requests))
        finally:
            for each in self._open:
                each.close()

    def are_allowed(self, reviews: Sequence[tuple[str, RequestInfo]]) -> list[bool]:
        """Return what SubjectAccessReviews of users and their requests say."""
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                return list(pool.map(lambda each: self._review(*each), reviews))
        finally:
            for each in self._open:
                each.close()

    def _review(self, user: str, info: RequestInfo) -> bool:
        spec: dict[str, object] = {"user": user}
        if info.resource:
            names = ("verb", "group", "resource", "subresource", "namespace", "name")
            spec["resourceAttributes"] = {name: getattr(info, name) for name in names}
        else:
            spec["nonResourceAttributes"] = {"verb": info.verb, "path": info.path}
        connection = self._connection()
        connection.request("POST", REVIEWS, json.dumps({"spec": spec}).encode(), {"Content-Type": "application/json"})
        response = connection.getresponse()
        content = json.loads(response.read())
        assert response.status == http.client.CREATED, content
        return bool(content["status"]["allowed"])

    def is_forbidden(self, request: Request, user: str) -> bool | None:
        while True:
            status, body = self._send(request, user)
            if status != LATER:
                break
        if status == http.client.FORBIDDEN and request.method == "HEAD":
            return True
        if status == http.client.FORBIDDEN:
            return f'User "{user}" cannot ' in json.loads(body)["message"]
        malformed = status == http.client.BAD_REQUEST and not body.startswith(b"{")
        unread = status == http.client.INTERNAL_SERVER_ERROR and b"unable to determine kind" in body
        return None if malformed or unread else False

    def _send(self, request: Request, user: str) -> tuple[int, bytes]:
        try:
            return self._try_to_send(request, user)
        except TimeoutError:
            # On a busy machine one of thousands of requests may be lost in the queues of the API server.
            self._drop()
            return self._try_to_send(request, user)

    def _try_to_send(self, request: Request, user: str) -> tuple[int, bytes]:
        connection = self._connection()
        connection.putrequest(request.method, request.target, skip_accept_encoding=True)
        connection.putheader("Impersonate-User", user)
        if request.upgrade:
            connection.putheader("Connection", "Upgrade")
            connection.putheader("Upgrade", "websocket")
        body = b"{}" if request.method in ("POST", "PUT", "PATCH") else b""
        if body:
            connection.putheader("Content-Type", request.content_type or "application/json")
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        if response.status == http.client.OK and request.method == "GET":
            # It may be a watch, or much.
            self._drop()
            return response.status, b""
        content = response.read()
        if response.will_close:
            self._drop()
        return response.status, content

    def _connection(self) -> http.client.HTTPSConnection:
        connection: http.client.HTTPSConnection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = http.client.HTTPSConnection(self._authority, context=self._context, timeout=120)
            self._local.connection = connection
            self._open.append(connection)
        return connection

    def _drop(self) -> None:
        self._local.connection.close()
        self._open.remove(self._local.connection)
        self._local.connection = None
