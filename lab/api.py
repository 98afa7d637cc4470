"""Plain requests to the API server as cluster-admin, for what kubectl is too slow or too clever for."""

import http.client
import json
import ssl
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

APPLYING: Final = "?fieldManager=lab&force=true&fieldValidation=Strict"
"""https://kubernetes.io/docs/reference/using-api/server-side-apply/"""
OF_CLUSTERS: Final = frozenset({"ClusterRole", "ClusterRoleBinding", "ConnectorClass", "Namespace"})
"""Kinds whose objects are in no namespace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class AdminApi:
    """One connection per request, so that a restarted server is not noticed."""

    def __init__(self, url: str, ca: Path, certificate: Path, key: Path) -> None:
        self._authority = urllib.parse.urlsplit(url).netloc
        self._context = ssl.create_default_context(cafile=str(ca))
        self._context.load_cert_chain(certificate, key)

    def request(
        self, method: str, path: str, body: Any = None, *, patch: str = "merge-patch+json", timeout: float = 30
    ) -> Answer:
        """`body` is sent as JSON, a PATCH as application/`patch`; a server that is away is an OSError."""
        connection = http.client.HTTPSConnection(self._authority, context=self._context, timeout=timeout)
        kind = f"application/{patch if method == 'PATCH' else 'json'}"
        headers = {} if body is None else {"Content-Type": kind}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return Answer(status=response.status, body=response.read())
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()

    def must(self, method: str, path: str, body: Any = None, *, patch: str = "merge-patch+json") -> Any:
        """The answer's JSON; a status of 400 or more is a RuntimeError with the server's own words."""
        answer = self.request(method, path, body, patch=patch)
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body.decode(errors='replace')}")
        return answer.json()

    def apply(self, *objects: dict[str, Any], namespace: str = "") -> None:
        """What `kubectl apply --server-side` does, without the twentieth of a second that each kubectl computes.

        Those that name no namespace go into `namespace`.
        """
        for each in objects:
            self.must("PATCH", _path(each, namespace) + APPLYING, each, patch="apply-patch+yaml")


def _path(manifest: dict[str, Any], namespace: str) -> str:
    """Of an object of a kind that tests make: plurals are regular."""
    version, kind, metadata = manifest["apiVersion"], manifest["kind"], manifest["metadata"]
    root = "/api/v1" if version == "v1" else f"/apis/{version}"
    space = "" if kind in OF_CLUSTERS else metadata.get("namespace", namespace)
    inside = f"/namespaces/{space}" if space else ""
    return f"{root}{inside}/{kind.lower()}{'es' if kind.endswith('s') else 's'}/{metadata['name']}"
