"""An OpenID Connect issuer on loopback: discovery, keys, tokens like those of GitHub Actions and GitLab, and faults.

It is also the token service of GitHub's runners: `runner_environment(repository)` returns the environment of a job.

with TestIssuer() as issuer:
    token = issuer.issue_github_token(repository="org/app", audience="connectors")
"""

import json
import re
import secrets
import threading
import time
import urllib.parse
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from lab.certificates import KeyPair, make_ca, make_leaf

DISCOVERY_PATH = "/.well-known/openid-configuration"
KEYS_PATH = "/keys"
RUNNER_PATH = "/idtoken"
RESPONSE_TIMEOUT = 180.0
"""Maximum number of seconds that a response waits."""


class SigningKey:
    """A signing key of an issuer: EC P-256, or RSA 2048 as real issuers use it."""

    def __init__(self, kid: str, *, kind: str = "ES256", bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = kind
        self.private: Any = (
            ec.generate_private_key(ec.SECP256R1())
            if kind == "ES256"
            else rsa.generate_private_key(public_exponent=65537, key_size=bits)
        )

    def jwk(self, *, private: bool = False) -> dict[str, Any]:
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        key = self.private if private else self.private.public_key()
        public_jwk: dict[str, Any] = json.loads(algorithm.to_jwk(key))
        return {**public_jwk, "kid": self.kid, "use": "sig", "alg": self.algorithm}

    def sign(self, claims: Mapping[str, Any], headers: Mapping[str, Any] | None = None) -> str:
        all_headers = {"kid": self.kid, **(headers or {})}
        return jwt.encode(
            dict(claims),
            self.private,
            algorithm=self.algorithm,
            headers={k: v for k, v in all_headers.items() if v is not None},
        )


class TestIssuer:
    """An issuer that serves inside a `with` block.

    Tests may set `responses`, which maps a path to (status, headers, body). `requested_paths` has all requests.
    """

    __test__ = False

    def __init__(self, *, ca: KeyPair | None = None, path: str = "") -> None:
        self.ca = ca or make_ca("issuer CA")
        self.key = SigningKey("k1")
        self.keys = [self.key]
        self.requested_paths: list[str] = []
        self.responses: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.unavailable = False
        """Respond to each request with 503."""
        self.unblocked = threading.Event()
        """Responses wait while this event is cleared."""
        self.unblocked.set()
        self._repositories: dict[str, str] = {}
        self._path = path
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._server.socket = (
            make_leaf(self.ca, ["127.0.0.1", "localhost"])
            .server_context()
            .wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        )

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_address[1]}{self._path}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def rotate(self, kid: str, *, keep_old_keys: bool = True) -> None:
        """Sign with a new key from now on. With `keep_old_keys` the old keys stay in the key set."""
        self.key = SigningKey(kid)
        self.keys = [*(self.keys if keep_old_keys else []), self.key]

    def issue_token(self, *, ttl: float = 600, headers: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """Return a token with the claims. A claim of None is left out."""
        now = int(time.time())
        all_claims = {
            "iss": self.url,
            "aud": "connectors",
            "sub": "somebody",
            "iat": now,
            "exp": now + int(ttl),
        } | claims
        return self.key.sign({name: value for name, value in all_claims.items() if value is not None}, headers)

    def issue_github_token(
        self, repository: str = "org/app", *, ref: str = "refs/heads/main", audience: str = "connectors"
    ) -> str:
        """Return a token as in docs.github.com, "OpenID Connect reference"."""
        return self.issue_token(
            aud=audience,
            sub=f"repo:{repository}:ref:{ref}",
            repository=repository,
            repository_owner=repository.partition("/")[0],
            ref=ref,
            ref_type="branch",
            workflow="deploy",
            event_name="push",
            runner_environment="github-hosted",
            job_workflow_ref=f"{repository}/.github/workflows/deploy.yml@{ref}",
            jti="6f4f2b9c",
        )

    def issue_gitlab_token(self, project: str = "group/app", *, audience: str = "connectors") -> str:
        """Return a token as in docs.gitlab.com, "OpenID Connect (OIDC) authentication using ID tokens"."""
        return self.issue_token(
            aud=audience,
            sub=f"project_path:{project}:ref_type:branch:ref:main",
            namespace_path=project.partition("/")[0],
            project_path=project,
            pipeline_source="push",
            ref="main",
            ref_type="branch",
            ref_protected="true",
            user_login="somebody",
            groups_direct=[project.partition("/")[0]],
            jti="c0ffee",
        )

    def runner_environment(self, repository: str) -> dict[str, str]:
        """Return the environment of a job of GitHub Actions with `id-token: write`."""
        secret = f"runner-{secrets.token_hex(16)}"
        self._repositories[f"bearer {secret}"] = repository
        return {
            "ACTIONS_ID_TOKEN_REQUEST_URL": f"{self.url}{RUNNER_PATH}?api-version=2.0",
            "ACTIONS_ID_TOKEN_REQUEST_TOKEN": secret,
        }

    def _runner_response(self, path: str, authorization: str) -> tuple[int, dict[str, str], bytes]:
        """Return the token for a job, as in docs.github.com, "OpenID Connect reference". The query has the audience."""
        scheme, _, secret = authorization.partition(" ")
        repository = self._repositories.get(f"{scheme.lower()} {secret}")
        if repository is None:
            return 401, {}, b""
        (audience,) = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)["audience"]
        return (
            200,
            {},
            json.dumps({"count": 1, "value": self.issue_github_token(repository, audience=audience)}).encode(),
        )

    def _response(self, path: str, authorization: str = "") -> tuple[int, dict[str, str], bytes]:
        if self.unavailable:
            return 503, {}, b"away"
        if path in self.responses:
            return self.responses[path]
        if path.startswith(f"{self._path}{RUNNER_PATH}?"):
            return self._runner_response(path, authorization)
        if path == self._path + DISCOVERY_PATH:
            return 200, {}, json.dumps({"issuer": self.url, "jwks_uri": self.url + KEYS_PATH}).encode()
        if path == self._path + KEYS_PATH:
            return 200, {}, json.dumps({"keys": [key.jwk() for key in self.keys]}).encode()
        return 404, {}, b""

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requested_paths.append(self.path)
                issuer.unblocked.wait(RESPONSE_TIMEOUT)
                status, headers, body = issuer._response(self.path, self.headers.get("Authorization", ""))
                if not re.search(r"\*/\*|jwk-set\+json", self.headers.get("Accept", "*/*")):
                    # kube-apiserver, too, refuses its keys to clients that accept only application/json.
                    status, body = 406, b""
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Write no log."""

            def handle(self) -> None:
                try:
                    super().handle()
                except OSError:
                    """The client closed the connection; tests check the response that the client got."""

        return Handler
