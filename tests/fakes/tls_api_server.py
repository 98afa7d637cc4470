"""API server with TLS for other processes: a Connector, and a TokenRequest that records who asked."""

import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from typing import Any

from lab.certificates import KeyPair, make_ca, make_leaf

CONNECTOR: dict[str, Any] = {
    "metadata": {"name": "k8s", "namespace": "a"},
    "spec": {"connectorClassName": "k8s", "address": "https://192.0.2.1:6443"},
    "status": {"proxy": {"httpAddress": {"url": "https://proxy.example", "CACerts": "YQ==", "audience": "own"}}},
}


class TlsApiServer:
    """Server on 127.0.0.1. Its certificate is for `api.test`, too. A client certificate is accepted, but not needed."""

    def __init__(self) -> None:
        self.ca: KeyPair = make_ca("API server")
        self.requests: list[tuple[str, str, str, str]] = []
        """Method, path, Authorization, and common name of the client certificate."""
        self.audiences: list[str] = []
        self.connection_count = 0
        self.keeps_connections = True
        """If False, each connection is closed after its first response, without a notice in its head."""
        context = make_leaf(self.ca, ["127.0.0.1", "api.test"]).server_context()
        context.load_verify_locations(cadata=self.ca.pem.decode())
        context.verify_mode = ssl.CERT_OPTIONAL
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._make_handler())
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_port}"

    @contextlib.contextmanager
    def serving(self) -> Iterator["TlsApiServer"]:
        thread = threading.Thread(target=self._server.serve_forever, args=[0.02])
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()

    def kubeconfig(self, user: dict[str, Any], **cluster: Any) -> str:
        """Return a kubeconfig as JSON, which is YAML."""
        whole = {"server": self.url, "certificate-authority": "ca.crt", **cluster}
        config = {
            "clusters": [{"name": "x", "cluster": whole}],
            "users": [{"name": "x", "user": user}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "current-context": "x",
        }
        return json.dumps(config)

    def _make_handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                server.connection_count += 1

            def do_GET(self) -> None:
                self._record()
                is_there = self.path.endswith("/namespaces/a/connectors/k8s")
                status = {"message": 'connectors "x" not found', "reason": "NotFound"}
                self._answer(200 if is_there else 404, CONNECTOR if is_there else status)

            def do_POST(self) -> None:
                self._record()
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.audiences += body["spec"]["audiences"]
                self._answer(201, {"status": {"token": "a.b.c"}})

            def _record(self) -> None:
                assert isinstance(self.connection, ssl.SSLSocket)
                subject: Any = (self.connection.getpeercert() or {}).get("subject", ())
                names = [value for part in subject for name, value in part if name == "commonName"]
                authorization = self.headers.get("Authorization", "")
                server.requests.append((self.command, self.path, authorization, "".join(names)))

            def _answer(self, status: int, document: object) -> None:
                content = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.close_connection |= not server.keeps_connections

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing."""

        return Handler
