"""The table of refusals: what is asked for, and what a client, the audit log and the metrics then show."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tests.fakes.proxy import Proxy

RETRY = {"retry-after": re.compile(r"[0-9]+")}
LOGIN = {"proxy-authenticate": re.compile(r'Basic realm="connectors"')}
BEARER = {"www-authenticate": re.compile(r'Bearer realm="connectors"')}


@dataclass(frozen=True, kw_only=True)
class Case:
    """`connector` names what is asked for; `credentials` and `authority` default to good ones.

    `inside` is a request that is sent in the tunnel, None where CONNECT itself is refused; `HOST` in it is replaced.
    """

    name: str
    status: int
    words: str
    cause: str
    connector: str = "k8s"
    credentials: Callable[[Proxy], str | bytes | None] | None = None
    authority: str | None = None
    inside: bytes | None = None
    headers: Mapping[str, re.Pattern[str]] = field(default_factory=dict)
    seen: bool = False
    """The target may know of it: it is its answer, or its silence, that is refused."""


def get(path: str, *fields: str, host: str = "HOST") -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode()


def basic(text: str) -> Callable[[Proxy], str]:
    return lambda _: text


OUTSIDE = [
    "/", "/api", "/kubernetes", "/kubernetes/globally", "/kubernetes/global/..", "/kubernetes/global/../x",
    "/kubernetes/global/%2e%2e/x", "/kubernetes/global/.%2E/x", "/kubernetes/global/..%2fx",
    "/kubernetes/global/%252e%252e/x", "/kubernetes/global/..;/x", "/kubernetes/global/..%5cx",
    "/kubernetes/global/..\\x", "//kubernetes/global/x", "/kubernetes/global%2f..%2fx", "/KUBERNETES/global/x",
    "/kubernetes/global/%c0%ae%c0%ae/x", "/kubernetes/global/%zz", "/kubernetes/global/%", "*",
]  # fmt: skip

CASES = [
    Case(name="no credentials", status=407, words="is missing", cause="credentials", headers=LOGIN,
         credentials=lambda _: None),
    Case(name="unreadable credentials", status=407, words="Basic", cause="credentials", headers=LOGIN,
         credentials=lambda _: b"Basic !"),
    Case(name="a token of nobody", status=407, words="token is not valid", cause="token", headers=LOGIN,
         credentials=basic("team-a/k8s:abc")),
    Case(name="an expired token", status=407, words="token is not valid", cause="token", headers=LOGIN,
         credentials=lambda proxy: f"team-a/k8s:{proxy.token('team-a/k8s', ttl=1, ago=60)}"),
    Case(name="a token of another audience", status=407, words="another audience", cause="token", headers=LOGIN,
         credentials=lambda proxy: f"team-a/k8s:{proxy.token('team-a/k8s', audience='x')}"),
    Case(name="a Connector that is not there", status=403, words='"absent" not found', cause="access",
         connector="absent", authority="h.example:1"),
    Case(name="a Connector of others", status=403, words='"k8s" not found', cause="access",
         credentials=lambda proxy: f"team-a/k8s:{proxy.token('team-a/other')}"),
    Case(name="another host", status=403, words="is for https://127.0.0.1:", cause="address", authority="h.example:1"),
    Case(name="another port", status=403, words="is for https://127.0.0.1:", cause="address", authority="127.0.0.1:1"),
    Case(name="a Secret that is missing", status=503, words='secrets "missing" not found', cause="unusable",
         connector="nosecret"),
    Case(name="a class that is unknown", status=503, words="connectorclasses.connectors.alauda.io", cause="unusable",
         connector="noclass"),
    Case(name="an address that is a denied one", status=503, words="targets-allow", cause="target_denied",
         connector="denied"),
    Case(name="inside: no token", status=401, words="is missing", cause="credentials", headers=BEARER,
         credentials=basic("team-a/k8s:x"), inside=get("/api")),
    Case(name="inside: two tokens", status=401, words="is missing", cause="credentials", headers=BEARER,
         credentials=basic("team-a/k8s:x"),
         inside=get("/api", "Authorization: Bearer a", "Authorization: Bearer b")),
    Case(name="inside: a token of nobody", status=401, words="token is not valid", cause="token", headers=BEARER,
         credentials=basic("team-a/k8s:x"), inside=get("/api", "Authorization: Bearer abc")),
    Case(name="inside: a Connector that is not there", status=403, words='"absent" not found', cause="access",
         credentials=basic("team-a/absent:x"), authority="127.0.0.1:1",
         inside=get("/api", "Authorization: Bearer TOKEN[team-a/absent]")),
    Case(name="inside: a Connector of others", status=403, words='"k8s" not found', cause="access",
         credentials=basic("team-a/k8s:x"), inside=get("/api", "Authorization: Bearer TOKEN[team-a/other]")),
    Case(name="inside: not its address", status=403, words="is for https://127.0.0.1:", cause="address",
         credentials=basic("team-a/k8s:x"), authority="127.0.0.1:1",
         inside=get("/api", "Authorization: Bearer TOKEN[team-a/k8s]")),
    Case(name="inside: not usable", status=503, words='secrets "missing" not found', cause="unusable",
         credentials=basic("team-a/nosecret:x"), connector="nosecret",
         inside=get("/api", "Authorization: Bearer TOKEN[team-a/nosecret]")),
    Case(name="inside: another Host", status=403, words="for Host 127.0.0.1:", cause="host",
         inside=get("/api", host="h.example")),
    Case(name="inside: two Hosts", status=403, words="for Host 127.0.0.1:", cause="host",
         inside=get("/api", "Host: HOST")),
    Case(name="inside: no Host", status=403, words="for Host 127.0.0.1:", cause="host",
         inside=b"GET /api HTTP/1.1\r\n\r\n"),
    Case(name="inside: an absolute form", status=403, words="not a path", cause="path",
         inside=get("https://HOST/api")),
    *(Case(name=f"inside: {path}", status=403, words="paths below /kubernetes/global/", cause="path",
           connector="prefixed", inside=get(path)) for path in OUTSIDE),
    *(Case(name=f"inside: {header}", status=403, words=f"header {header} is not passed on", cause="identity_header",
           inside=get("/api", f"{header}: admin"))
      for header in ("Impersonate-User", "impersonate-group", "Impersonate-Extra-a", "X-Remote-User", "x_remote_uid")),
    Case(name="inside: a body that is long in coming", status=403, words="not passed on", cause="identity_header",
         inside=b"PUT /api HTTP/1.1\r\nHost: HOST\r\nImpersonate-User: a\r\nContent-Length: 1000000000\r\n\r\nabc"),
    Case(name="inside: TRACE", status=400, words="method", cause="bad_request",
         inside=b"TRACE /api HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    Case(name="inside: two lengths", status=400, words="Content-Length", cause="bad_request",
         inside=b"POST /api HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na"),
    Case(name="inside: a large header", status=431, words="65536 bytes", cause="header_too_large",
         inside=get("/api", "A: " + "a" * 70_000)),
    Case(name="inside: a closed port", status=502, words="connection refused", cause="target_unreachable",
         connector="closed", inside=get("/api")),
    Case(name="inside: a name that is none", status=502, words="name cannot be resolved", cause="target_unreachable",
         connector="nameless", inside=get("/api")),
    Case(name="inside: a certificate of another CA", status=502, words="certificate is not valid",
         cause="target_unreachable", connector="untrusted", inside=get("/api")),
    Case(name="inside: no TLS", status=502, words="does not speak TLS", cause="target_unreachable",
         connector="plain", inside=get("/api")),
    Case(name="inside: no HTTP", status=502, words="not HTTP/1.1", cause="target_unreachable",
         connector="garbage", inside=get("/api"), seen=True),
    Case(name="inside: a target that refuses the credential", status=502, words="renew Secret secret",
         cause="target_refused", connector="refusing", inside=get("/api"), seen=True),
    Case(name="inside: a target that never answers TLS", status=504, words="did not answer within", cause="timeout",
         connector="silent", inside=get("/api")),
]  # fmt: skip
