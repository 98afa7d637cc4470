"""Every refusal of the API page, over real sockets: status, words, headers, audit line, metric, and an unseen target.

The same table runs unwatched and watched: flows must not change what a client gets.
"""

import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connector_store.domain.names import ObjectKey
from tests.fakes.certificates import make_ca, make_leaf
from tests.fakes.manifests import TARGET_TOKEN, connector, secret, write
from tests.fakes.proxy import Answer, Proxy, copy_confdir, running_proxy, until
from tests.fakes.target import Conversation, Target

pytestmark = pytest.mark.slow

PREFIX = "/kubernetes/global"
DENIED = "127.0.0.2"
RETRY = {"retry-after": re.compile(r"[0-9]+")}
LOGIN = {"proxy-authenticate": re.compile(r'Basic realm="connectors"')}
BEARER = {"www-authenticate": re.compile(r'Bearer realm="connectors"')}


@dataclass(kw_only=True)
class World:
    """A proxy, and where its Connectors lead: authorities by Connector."""

    proxy: Proxy
    target: Target
    authorities: dict[str, str]

    @property
    def denials(self) -> Mapping[str, float]:
        """connector_denials_total as a scrape shows it."""
        text = self.proxy.master.addons.get("lifecycle")._records.metrics.render().decode()
        return {m[1]: float(m[2]) for m in re.finditer(r'connector_denials_total\{reason="(\w+)"\} (\S+)', text)}


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


STRANGERS = {"credentials", "token", "access"}
"""Causes that leave the caller unknown, or known only as somebody who may not use it."""


async def garbage(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.say(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")


async def refusing(conversation: Conversation) -> None:
    await conversation.head()
    await conversation.say(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")


async def speaking(conversation: Conversation) -> None:
    await conversation.say(b"220 mail.example ESMTP\r\n")
    await conversation.some()


async def silent(conversation: Conversation) -> None:
    while await conversation.some():
        pass


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["unwatched", "watched"])
async def world(
    request: pytest.FixtureRequest, confdir_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    home = tmp_path_factory.mktemp("refusals")
    folder = home / "connectors"
    folder.mkdir()
    ca = make_ca("target CA")
    leaf = make_leaf(ca, ["127.0.0.1"])
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed = unused.getsockname()[1]
        async with (
            Target(leaf, home) as good,
            Target(leaf, home, garbage) as odd,
            Target(leaf, home, refusing) as strict,
            Target(None, home, speaking) as plain,
            Target(None, home, silent) as mute,
        ):
            ports = {"garbage": odd, "refusing": strict, "plain": plain, "silent": mute}
            authorities = dict.fromkeys(
                ["k8s", "prefixed", "nosecret", "noclass", "untrusted"], f"127.0.0.1:{good.port}"
            )
            authorities |= {name: f"127.0.0.1:{target.port}" for name, target in ports.items()}
            authorities |= {"closed": f"127.0.0.1:{closed}", "denied": f"{DENIED}:6443", "nameless": "no.invalid:6443"}
            write(folder, secret(ca=ca.pem), secret("other", ca=make_ca("other CA").pem), *objects(authorities))
            settings = {
                "connector_flows": "on" if request.param == "watched" else "off",
                "connector_connect_timeout": "1",
                "connector_targets_deny": f"{DENIED}/32",
            }
            async with running_proxy(folder, copy_confdir(confdir_template, home / "conf"), **settings) as proxy:
                yield World(proxy=proxy, target=good, authorities=authorities)


def objects(authorities: Mapping[str, str]) -> list[dict[str, Any]]:
    made = []
    for name, authority in authorities.items():
        held = {"nosecret": "missing", "untrusted": "other"}.get(name, "secret")
        one = connector(name, f"https://{authority}{PREFIX if name == 'prefixed' else ''}", secret=held)
        if name == "noclass":
            one["spec"]["connectorClassName"] = "unknown"
        made.append(one)
    return made


async def provoke(world: World, case: Case, agent: str) -> Answer:
    proxy = world.proxy
    authority = case.authority or world.authorities[case.connector]
    key = f"team-a/{case.connector}"
    credentials = case.credentials(proxy) if case.credentials else f"{key}:{proxy.token(key)}"
    stream, answer = await proxy.connect(authority, credentials, agent=agent)
    if case.inside is None:
        assert await stream.rest() == b""
        return answer
    assert answer.status == 200, answer.phrase
    await proxy.start_tls(stream, authority.rpartition(":")[0])
    said = case.inside.replace(b"HOST", authority.encode()).replace(
        b"\r\n\r\n", b"\r\nUser-Agent: %b\r\n\r\n" % agent.encode(), 1
    )
    said = re.sub(rb"TOKEN\[(.*?)\]", lambda match: proxy.token(match[1].decode()).encode(), said)
    await stream.say(said)
    answer = await stream.answer()
    assert await stream.rest() == b""
    return answer


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_refusals(world: World, case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    agent = f"case-{CASES.index(case)}"
    before = world.denials.get(case.cause, 0)
    conversations = len(world.target.conversations)
    answer = await provoke(world, case, agent)
    assert answer.status == case.status
    assert_words(case, answer)
    for name, pattern in case.headers.items():
        assert pattern.fullmatch(answer.headers[name])
    assert world.denials[case.cause] == before + 1
    line = await audit_line(capsys, agent, "connect" if case.inside is None else "request")
    assert (line["status"], line["reason"]) == (case.status, case.cause)
    assert (line["caller"] is None) is (case.cause in STRANGERS)
    assert len(world.target.conversations) == conversations
    assert TARGET_TOKEN.encode() not in world.target.received


def assert_words(case: Case, answer: Answer) -> None:
    """On CONNECT the phrase is all that kubectl shows; inside it is a Status."""
    if case.inside is None:
        assert case.words in answer.phrase
        return
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["kind"], body["apiVersion"], body["code"]) == ("Status", "v1", case.status)
    assert case.words in body["message"]


async def audit_line(capsys: pytest.CaptureFixture[str], agent: str, event: str) -> dict[str, Any]:
    """The line of that event. What is no readable request has no user agent: then its line is the last one."""
    lines: list[dict[str, Any]] = []

    def found() -> list[dict[str, Any]]:
        lines.extend(json.loads(each) for each in capsys.readouterr().out.splitlines() if each.startswith('{"time"'))
        return [each for each in lines if each["event"] == event and each["user_agent"] in (agent, "")]

    await until(lambda: bool(found()))
    return found()[-1]


@pytest.mark.asyncio(loop_scope="module")
async def test_before_the_store_is_synced_everybody_is_told_to_come_again(world: World) -> None:
    store = world.proxy.service.store
    store.expect("later")
    try:
        answer = await provoke(world, Case(name="", status=503, words="", cause="not_synced"), "later")
        inside = Case(name="", status=503, words="", cause="not_synced", inside=get("/api"))
    finally:
        store.forget("later")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    stream = await world.proxy.tunnel(world.authorities["k8s"], f"team-a/k8s:{world.proxy.token('team-a/k8s')}")
    store.expect("later")
    try:
        await stream.say((inside.inside or b"").replace(b"HOST", world.authorities["k8s"].encode()))
        answer = await stream.answer()
    finally:
        store.forget("later")
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    stream.close()


@pytest.mark.asyncio(loop_scope="module")
async def test_a_tunnel_is_decided_on_anew_for_each_request(world: World) -> None:
    proxy, authority = world.proxy, world.authorities["k8s"]
    key = ObjectKey("team-a", "fading")
    fading = connector("fading", f"https://{authority}")
    write(proxy.folder, fading, file="fading.yaml")
    await until(lambda: proxy.service.store.get(key) is not None)
    for change, status in ((fading | {"spec": fading["spec"] | {"address": "https://127.0.0.1:1"}}, 403), (None, 403)):
        write(proxy.folder, fading, file="fading.yaml")
        await until(lambda: "127.0.0.1:1/" not in f"{getattr(proxy.service.store.get(key), 'address', '')}/")
        stream = await proxy.tunnel(authority, f"{key}:{proxy.token(str(key))}")
        await stream.say(get("/api").replace(b"HOST", authority.encode()))
        assert (await stream.answer()).status == 200
        old = proxy.service.store.get(key)
        if change is not None:
            write(proxy.folder, change, file="fading.yaml")
        else:
            (proxy.folder / "fading.yaml").unlink()
        await until(lambda old=old: proxy.service.store.get(key) != old)
        await stream.say(get("/api").replace(b"HOST", authority.encode()))
        assert (await stream.answer()).status == status
        stream.close()
