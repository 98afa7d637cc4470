"""Table of refusals: the request, and what the client, the audit log and the metrics show afterwards."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tests.addons.refusal_world import (
    Meanwhile,
    deleted,
    expired,
    impatient,
    moved,
    no_reviews,
    one_open,
    secretless,
    unread,
    unsynced,
)
from tests.fakes.proxy import Proxy

LOGIN = {"proxy-authenticate": 'Basic realm="connectors"'}
BASIC = {"www-authenticate": 'Basic realm="connectors"'}
BEARER = {"www-authenticate": 'Bearer realm="connectors"'}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One refusal. `connector` is the requested Connector. `credentials` and `authority` default to valid ones.

    In messages, `HOST` stands for the authority, and `TOKEN` for a token of the Connector.
    """

    name: str
    status: int
    words: str
    cause: str
    connector: str = "k8s"
    credentials: Callable[[Proxy], str | bytes | None] | None = None
    authority: str | None = None
    first: bytes | None = None
    """Message in place of a CONNECT."""
    inside: bytes | None = None
    """Message in the tunnel. None if no tunnel is opened."""
    served: bool = False
    """The same request was served in the same tunnel before."""
    meanwhile: Meanwhile | None = None
    """Condition that begins after the tunnel was opened and causes the refusal."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers in addition to those of every refusal."""
    stranger: bool = False
    """The caller is not authenticated, or may not use the Connector."""
    nameless: bool = False
    """The message names no Connector, or is not parsed that far."""
    seen: bool = False
    """The target got the request, because its response or its silence causes the refusal."""
    given: bool = False
    """The target has proved its identity with its certificate, and so got the credential."""


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

INSIDE = "team-a/k8s:x"
"""Credentials of a caller who sends the token in the tunnel."""
BEARING = "Authorization: Bearer TOKEN"

ON_CONNECT = [
    Case(name="no credentials", status=407, words="is missing", cause="credentials", headers=LOGIN,
         credentials=lambda _: None, stranger=True, nameless=True),
    Case(name="unreadable credentials", status=407, words="Basic", cause="credentials", headers=LOGIN,
         credentials=lambda _: b"Basic !", stranger=True, nameless=True),
    Case(name="a token of nobody", status=407, words="token is not valid", cause="token", headers=LOGIN,
         credentials=basic("team-a/k8s:abc"), stranger=True),
    Case(name="an expired token", status=407, words="token is not valid", cause="token", headers=LOGIN,
         credentials=lambda proxy: f"team-a/k8s:{proxy.token('team-a/k8s', ttl=1, ago=60)}", stranger=True),
    Case(name="a token of another audience", status=407, words="another audience", cause="token", headers=LOGIN,
         credentials=lambda proxy: f"team-a/k8s:{proxy.token('team-a/k8s', audience='x')}", stranger=True),
    Case(name="a Connector that is not there", status=403, words='"absent" not found', cause="access",
         connector="absent", authority="h.example:1", stranger=True),
    Case(name="a Connector of others", status=403, words='"k8s" not found', cause="access",
         credentials=lambda proxy: f"team-a/k8s:{proxy.token('team-a/other')}", stranger=True),
    Case(name="another host", status=403, words="is for https://127.0.0.1:", cause="address", authority="h.example:1"),
    Case(name="another port", status=403, words="is for https://127.0.0.1:", cause="address", authority="127.0.0.1:1"),
    Case(name="no port", status=403, words="is for https://127.0.0.1:", cause="address", authority="127.0.0.1"),
    *(Case(name=f"the authority {authority}", status=400, words="the authority is not HOST:PORT", cause="bad_request",
           credentials=basic(INSIDE), authority=authority, stranger=True)
      for authority in ("127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:a", ":6443", "*", "/",
                        "a@127.0.0.1:1", "127.0.0.1:1/x", "[::1:1", "https://127.0.0.1:1")),
    Case(name="a Secret that is missing", status=503, words='secrets "missing" not found', cause="unusable",
         connector="nosecret"),
    Case(name="a class that is unknown", status=503, words="connectorclasses.connectors.alauda.io", cause="unusable",
         connector="noclass"),
    Case(name="an address that is a denied one", status=503, words="targets-allow", cause="target_denied",
         connector="denied"),
    Case(name="before all Connectors are read", status=503, words="try again", cause="not_synced", meanwhile=unsynced,
         headers={"retry-after": "1"}, stranger=True, nameless=True),
    Case(name="reviews that cannot be asked", status=503, words="try again", cause="unavailable", meanwhile=no_reviews,
         headers={"retry-after": "7"}, stranger=True),
    Case(name="an audit log that nobody reads", status=503, words="audit log is not read", cause="audit",
         meanwhile=unread, headers={"retry-after": "5"}, stranger=True, nameless=True),
    Case(name="a tunnel too many", status=429, words="more than 1 connections", cause="too_many", meanwhile=one_open,
         headers={"retry-after": "5"}),
]  # fmt: skip

INSTEAD_OF_CONNECT = [
    Case(name="an absolute form", status=403, words="only CONNECT", cause="absolute_form", stranger=True, nameless=True,
         first=get("http://h.example/", host="h.example")),
    Case(name="a page that is none", status=404, words="/kubeconfig", cause="not_found", stranger=True, nameless=True,
         first=get("/x")),
    Case(name="a kubeconfig for nobody", status=401, words="is missing", cause="credentials", headers=BASIC,
         stranger=True, nameless=True, first=get("/kubeconfig")),
    Case(name="a kubeconfig before all Connectors are read", status=503, words="try again", cause="not_synced",
         headers={"retry-after": "1"}, stranger=True, nameless=True, first=get("/kubeconfig"), meanwhile=unsynced),
    Case(name="no HTTP", status=400, words="malformed request line", cause="bad_request", stranger=True, nameless=True,
         first=b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
    Case(name="a large header", status=431, words="32768 bytes", cause="header_too_large", stranger=True,
         nameless=True, first=get("/ca.crt", "A: " + "a" * 70_000)),
]  # fmt: skip

IN_TUNNELS = [
    Case(name="no token", status=401, words="is missing", cause="credentials", headers=BEARER,
         credentials=basic(INSIDE), inside=get("/api"), stranger=True),
    Case(name="two tokens", status=401, words="is missing", cause="credentials", headers=BEARER,
         credentials=basic(INSIDE), inside=get("/api", BEARING, BEARING), stranger=True),
    Case(name="a token of nobody", status=401, words="token is not valid", cause="token", headers=BEARER,
         credentials=basic(INSIDE), inside=get("/api", "Authorization: Bearer abc"), stranger=True),
    Case(name="a token that expires in an open tunnel", status=401, words="has expired", cause="token", headers=BEARER,
         inside=get("/api"), served=True, meanwhile=expired),
    Case(name="a token that came inside and expires", status=401, words="has expired", cause="token", headers=BEARER,
         credentials=basic(INSIDE), inside=get("/api", BEARING), served=True, meanwhile=expired, stranger=True),
    Case(name="a Connector that is not there", status=403, words='"absent" not found', cause="access",
         connector="absent", credentials=basic("team-a/absent:x"), authority="127.0.0.1:1",
         inside=get("/api", BEARING), stranger=True),
    Case(name="a Connector of others", status=403, words='"k8s" not found', cause="access",
         credentials=basic(INSIDE), inside=get("/api", BEARING + "[team-a/other]"), stranger=True),
    Case(name="not its address", status=403, words="is for https://127.0.0.1:", cause="address",
         credentials=basic(INSIDE), authority="127.0.0.1:1", inside=get("/api", BEARING)),
    Case(name="not usable", status=503, words='secrets "missing" not found', cause="unusable",
         credentials=basic("team-a/nosecret:x"), connector="nosecret", inside=get("/api", BEARING)),
    Case(name="a Connector that is deleted", status=403, words='"fading" not found', cause="access",
         connector="fading", inside=get("/api"), served=True, meanwhile=deleted),
    Case(name="a Connector that moves", status=403, words="is for https://h.example", cause="address",
         connector="fading", inside=get("/api"), served=True, meanwhile=moved),
    Case(name="a Connector that loses its Secret", status=503, words='secrets "fading" not found', cause="unusable",
         connector="fading", inside=get("/api"), served=True, meanwhile=secretless),
    Case(name="Connectors that are to be read anew", status=503, words="try again", cause="not_synced",
         headers={"retry-after": "1"}, inside=get("/api"), served=True, meanwhile=unsynced),
    Case(name="reviews that cannot be asked any more", status=503, words="try again", cause="unavailable",
         headers={"retry-after": "7"}, inside=get("/api"), served=True, meanwhile=no_reviews),
    Case(name="reviews that cannot be asked", status=503, words="try again", cause="unavailable",
         headers={"retry-after": "7"}, credentials=basic(INSIDE), inside=get("/api", BEARING), meanwhile=no_reviews,
         stranger=True),
    Case(name="a tunnel too many", status=429, words="more than 1 connections", cause="too_many",
         headers={"retry-after": "5"}, credentials=basic(INSIDE), inside=get("/api", BEARING), meanwhile=one_open),
    Case(name="an audit log that nobody reads any more", status=503, words="audit log is not read", cause="audit",
         headers={"retry-after": "5"}, inside=get("/api"), served=True, meanwhile=unread),
    Case(name="another Host", status=403, words="for Host 127.0.0.1:", cause="host",
         inside=get("/api", host="h.example")),
    Case(name="two Hosts", status=403, words="for Host 127.0.0.1:", cause="host", inside=get("/api", "Host: HOST")),
    Case(name="no Host", status=403, words="for Host 127.0.0.1:", cause="host", inside=b"GET /api HTTP/1.1\r\n\r\n"),
    Case(name="an absolute form", status=403, words="not a path", cause="path", inside=get("https://HOST/api")),
    *(Case(name=path, status=403, words="paths below /kubernetes/global/", cause="path", connector="prefixed",
           inside=get(path)) for path in OUTSIDE),
    *(Case(name=header, status=403, words=f"header {header} is not passed on", cause="identity_header",
           inside=get("/api", f"{header}: admin"))
      for header in ("Impersonate-User", "impersonate-group", "Impersonate-Extra-a", "X-Remote-User", "x_remote_uid")),
    Case(name="a body that is long in coming", status=403, words="not passed on", cause="identity_header",
         inside=b"PUT /api HTTP/1.1\r\nHost: HOST\r\nImpersonate-User: a\r\nContent-Length: 1000000000\r\n\r\nabc"),
    Case(name="TRACE", status=400, words="method", cause="bad_request",
         inside=b"TRACE /api HTTP/1.1\r\nHost: HOST\r\n\r\n"),
    Case(name="two lengths", status=400, words="Content-Length", cause="bad_request",
         inside=b"POST /api HTTP/1.1\r\nHost: HOST\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na"),
    Case(name="a large header", status=431, words="65536 bytes", cause="header_too_large",
         inside=get("/api", "A: " + "a" * 70_000)),
]  # fmt: skip

OF_TARGETS = [
    Case(name="a closed port", status=502, words="connection refused", cause="target_unreachable", connector="closed"),
    Case(name="a name that is none", status=502, words="name cannot be resolved", cause="target_unreachable",
         connector="nameless"),
    Case(name="a denied address", status=503, words="resolves to 127.0.0.2, which targets-deny", cause="target_denied",
         connector="denied", credentials=basic("team-a/denied:x")),
    Case(name="a name of denied addresses", status=503, words="resolves to 127.0.0.2, 127.0.0.3, which targets-deny",
         cause="target_denied", connector="denied-name"),
    Case(name="a certificate of another CA", status=502, words="certificate is not valid", cause="target_unreachable",
         connector="untrusted"),
    Case(name="no TLS", status=502, words="does not speak TLS", cause="target_unreachable", connector="plain",
         seen=True),
    Case(name="an end during the handshake", status=502, words="closed the connection during the TLS handshake",
         cause="target_unreachable", connector="hanging-up", seen=True),
    Case(name="a target that never answers TLS", status=504, words="did not answer within", cause="timeout",
         connector="silent", seen=True, meanwhile=impatient),
    Case(name="no HTTP", status=502, words="not HTTP/1.1", cause="target_unreachable", connector="garbage",
         seen=True, given=True),
    Case(name="a large header of the target", status=502, words="larger than 65536 bytes", cause="target_unreachable",
         connector="verbose", seen=True, given=True),
    Case(name="an end without an answer", status=502, words="without an answer", cause="target_unreachable",
         connector="leaving", seen=True, given=True),
    Case(name="a target that refuses the credential", status=502, words="renew Secret secret", cause="target_refused",
         connector="refusing", seen=True, given=True),
]  # fmt: skip

CASES = [
    *ON_CONNECT,
    *INSTEAD_OF_CONNECT,
    *(replace(each, name=f"inside: {each.name}") for each in IN_TUNNELS),
    *(replace(each, name=f"inside: {each.name}", inside=get("/api", BEARING)) for each in OF_TARGETS),
]
