"""Every refusal of the API page, over real sockets: status, words, headers, audit line, metric, and an unseen target.

The same table runs unwatched and watched: flows must not change what a client gets.
"""

import json
import re
import socket
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from connector_store.domain.names import ObjectKey
from tests.addons.refusals import CASES, Case, get
from tests.fakes.certificates import make_ca, make_leaf
from tests.fakes.manifests import TARGET_TOKEN, connector, secret, write
from tests.fakes.proxy import Answer, Proxy, copy_confdir, running_proxy, until
from tests.fakes.target import Conversation, Target

pytestmark = pytest.mark.slow

PREFIX = "/kubernetes/global"
DENIED = "127.0.0.2"


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
