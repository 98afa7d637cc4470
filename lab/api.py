"""Plain requests to the API server as cluster-admin, for what kubectl is too slow or too clever for."""

import http.client
import json
import ssl
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any


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

    def request(self, method: str, path: str, body: Any = None, *, timeout: float = 30) -> Answer:
        """`body` is sent as JSON (a PATCH as a merge patch); a server that is away is an OSError."""
        connection = http.client.HTTPSConnection(self._authority, context=self._context, timeout=timeout)
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {} if body is None else {"Content-Type": kind}
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            response = connection.getresponse()
            return Answer(status=response.status, body=response.read())
        except http.client.HTTPException as error:
            raise ConnectionError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()

    def must(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON; a status of 400 or more is a RuntimeError with the server's own words."""
        answer = self.request(method, path, body)
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {answer.body.decode(errors='replace')}")
        return answer.json()
