"""The server of the sessions page, at a real proxy: who may read it, and what it says."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml

from addons.sessions import server
from addons.sessions.server import HEADERS, MAX_SUBSCRIBERS, SessionsServer
from addons.sessions.snapshots import Snapshots
from addons.sessions.state import Item, State
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.permissions.rbac import RBAC_GROUP
from connector_store.folder.signing_key import SigningKey
from connector_store.sessions_file import read_urls
from tests.addons.sessions.conftest import Reader
from tests.addons.test_close_reasons import EXEC, SWITCH, WATCH, send_request, serving
from tests.docs.pages import REFERENCE
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

KEY = "team-a/k8s"
SCHEMA = json.loads((REFERENCE / "sessions.schema.json").read_text())
NAMES = {"sessions": "session", "connectors": "connector", "refusals": "refusal"}


async def wait_for_rows(reader: Reader, count: int) -> list[dict[str, Any]]:
    async with asyncio.timeout(120):
        while len(rows := await reader.items("sessions")) != count:  # noqa: ASYNC110 - the proxy reports no change
            await asyncio.sleep(0.01)
    return rows


def check_schema(name: str, items: list[dict[str, Any]]) -> None:
    """Each item has exactly the fields of the schema."""
    definition = SCHEMA["$defs"][NAMES[name]]
    assert definition["required"] == list(definition["properties"])
    assert items
    for item in items:
        assert list(item) == definition["required"]


async def test_a_watch_shows_while_it_is_open(sessions_proxy: Proxy, target: FakeTarget, reader: Reader) -> None:
    serving(target, WATCH)
    assert await reader.items("sessions") == []
    stream = await send_request(
        sessions_proxy, target, b"GET /api/v1/namespaces/web/pods?watch=1 HTTP/1.1\r\nHost: HOST\r\n\r\n"
    )
    await stream.reader.readuntil(b"}\n\r\n")
    (row,) = await wait_for_rows(reader, 1)
    check_schema("sessions", [row])
    assert row["id"].encode() in target.received
    assert row["bytesOut"] > 0
    assert {name: row[name] for name in ("kind", "caller", "connector", "verb", "resource", "namespace")} == {
        "kind": "watch", "caller": KEY, "connector": KEY, "verb": "watch", "resource": "pods", "namespace": "web",
    }  # fmt: skip
    stream.close()
    await wait_for_rows(reader, 0)


@pytest.mark.parametrize("commands", ["true", "false"])
async def test_the_command_of_an_exec_shows_as_in_the_audit_log(
    folder: Path, confdir: Path, target: FakeTarget, commands: str
) -> None:
    serving(target, SWITCH)
    settings = {"connector_sessions": "auto", "connector_audit_commands": commands}
    async with running_proxy(folder, confdir, **settings) as proxy, aiohttp.ClientSession() as session:
        await until(lambda: read_urls(confdir))
        reader = Reader(session, read_urls(confdir)[0])
        stream = await send_request(proxy, target, EXEC.replace(b"/exec", b"/exec?command=echo&command=a+b"))
        await stream.read_head()
        (row,) = await wait_for_rows(reader, 1)
        assert (row["kind"], row["resource"], row["name"]) == ("exec", "pods/exec", "b")
        assert row["command"] == ("echo 'a b'" if commands == "true" else "")


async def test_connectors_and_refusals(sessions_proxy: Proxy, target: FakeTarget, reader: Reader) -> None:
    authority = f"127.0.0.1:{target.port}"
    stream = await send_request(sessions_proxy, target, b"GET /api HTTP/1.1\r\nHost: HOST\r\n\r\n")
    assert (await stream.read_response()).status == 200
    _, refused = await sessions_proxy.connect(authority, f"team-a/other:{sessions_proxy.token(KEY)}")
    assert refused.status == 403
    await sessions_proxy.connect(authority, f"{KEY}:none")
    connectors = await reader.items("connectors")
    check_schema("connectors", connectors)
    (connector,) = connectors
    assert connector["usable"] is True
    assert connector["permissions"] == "everything that the credential can do"
    (caller,) = connector["callers"]
    assert (caller["caller"], caller["requests"], caller["errors"]) == (KEY, 1, 0)
    refusals = await reader.items("refusals")
    check_schema("refusals", refusals)
    assert [(each["status"], each["reason"], each["connector"]) for each in refusals] == [
        (407, "token", KEY),
        (403, "access", "team-a/other"),
    ]
    assert "not found" in refusals[1]["message"]
    assert "none" not in json.dumps(refusals[0]["request"])


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        pytest.param("sessions", {}, 200, id="with the secret"),
        pytest.param("sessions", {"Authorization": ""}, 401, id="without the secret"),
        pytest.param("changes", {"Authorization": "Bearer x"}, 401, id="with another secret"),
        pytest.param("", {"Authorization": ""}, 200, id="the page has no data, and needs no secret"),
        pytest.param("sessions", {"Host": "evil.example:PORT"}, 421, id="DNS rebinding"),
        pytest.param("", {"Host": "evil.example:PORT"}, 421, id="DNS rebinding of the page"),
        pytest.param("sessions", {"Host": "127.0.0.1:1"}, 421, id="another port"),
        pytest.param("sessions", {"Host": "localhost:PORT"}, 200, id="localhost"),
        pytest.param("sessions", {"Host": "[::1]:PORT"}, 200, id="IPv6"),
        pytest.param("sessions", {"Host": "localhost.evil.example:PORT"}, 421, id="a name that begins like it"),
        pytest.param("sessions", {"Sec-Fetch-Site": "same-origin"}, 200, id="its own page"),
        pytest.param("sessions", {"Sec-Fetch-Site": "none"}, 200, id="the address bar"),
        pytest.param("sessions", {"Sec-Fetch-Site": "same-site"}, 403, id="a page of another port"),
        pytest.param("", {"Sec-Fetch-Site": "cross-site"}, 403, id="a page of another site"),
        pytest.param("other", {}, 404, id="another path"),
    ],
)
async def test_who_may_read(reader: Reader, path: str, headers: dict[str, str], status: int) -> None:
    fields = {name: value.replace("PORT", str(reader.port)) for name, value in headers.items()}
    async with reader.get(path, **fields) as response:
        assert response.status == status
        assert {name: response.headers[name] for name in HEADERS} == HEADERS
        assert "Set-Cookie" not in response.headers
        assert not [name for name in response.headers if name.startswith("Access-Control")]


class FakeState(State):
    """State with `count` sessions."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.text = "x"

    async def sessions(self) -> Any:
        for number in range(self.count):
            yield f"session/{number}", json.dumps({"id": str(number), "text": self.text})

    async def _nothing(self) -> Any:
        for item in list[Item]():
            yield item

    connectors = refusals = _nothing


@pytest.fixture
async def fake_reader() -> Any:
    """Reader of a server as in a pod."""
    state = FakeState(3)
    running = SessionsServer(state, secret=None)
    _, port = await running.start("127.0.0.1", 0)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield state, Reader(session, f"http://127.0.0.1:{port}/#")
    await running.stop()


async def test_in_a_pod_the_port_is_that_of_the_port_forward(fake_reader: Any) -> None:
    _, reader = fake_reader
    async with reader.get("sessions", Authorization="", Host="localhost:5") as response:
        assert response.status == 200
    async with reader.get("sessions", Authorization="", Host="evil.example") as response:
        assert response.status == 421


async def test_a_response_is_bounded(fake_reader: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state, reader = fake_reader
    state.count = 10_500
    assert len(await reader.items("sessions")) == server.MAX_ROWS
    async with reader.get("sessions") as response:
        assert (await response.json())["total"] == 10_500
    monkeypatch.setattr(server, "MAX_BYTES", 100)
    assert len(await reader.items("sessions")) == 4


async def read_events(response: aiohttp.ClientResponse, objects: dict[str, Any]) -> None:
    """Apply events until the end of one snapshot."""
    async for line in response.content:
        event = json.loads(line)
        if "put" in event:
            objects[event["put"]] = event["object"]
        elif "gone" in event:
            del objects[event["gone"]]
        elif "now" in event:
            return
    raise AssertionError("the stream has ended")


async def test_a_stream_of_changes_for_20_pages(fake_reader: Any) -> None:
    state, reader = fake_reader
    pages: list[tuple[aiohttp.ClientResponse, dict[str, Any]]] = [(await reader.get("changes"), {}) for _ in range(20)]
    for response, objects in pages:
        await read_events(response, objects)
        assert [*objects] == ["session/0", "session/1", "session/2", *(f"total/{name}" for name in NAMES)]
    state.count = 1
    for response, objects in pages:
        # An event without a change can precede it.
        while "session/1" in objects:
            await read_events(response, objects)
        assert [key for key in objects if key.startswith("session/")] == ["session/0"]
        response.close()


async def test_streams_are_limited(fake_reader: Any) -> None:
    _, reader = fake_reader
    pages = [await reader.get("changes") for _ in range(MAX_SUBSCRIBERS)]
    async with reader.get("changes") as response:
        assert response.status == 503
        assert "close a page" in await response.text()
    for page in pages:
        page.close()


async def test_a_page_that_never_reads_is_closed_and_holds_up_no_other(
    fake_reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[Snapshots] = []
    unsubscribe = Snapshots.unsubscribe

    def record_end(snapshots: Snapshots) -> None:
        unsubscribe(snapshots)
        ended.append(snapshots)

    monkeypatch.setattr(Snapshots, "unsubscribe", record_end)
    monkeypatch.setattr(server, "WRITE_TIMEOUT", 600.0)
    monkeypatch.setattr(server, "MAX_STREAM_BYTES", 64 * 1024 * 1024)
    state, reader = fake_reader
    state.count, state.text = 1000, "x" * 20_000
    pages = [await open_page_that_never_reads(reader.port)]
    async with reader.get("changes") as response:
        objects: dict[str, Any] = {}
        async with asyncio.timeout(120):
            await read_events(response, objects)
        assert len(objects) == 1003
        assert not ended
        # The page that reads would be closed, too, if the machine paused during its download.
        monkeypatch.setattr(server, "WRITE_TIMEOUT", 0.3)
        pages.append(await open_page_that_never_reads(reader.port))
        await until(lambda: ended)
        assert len(ended) == 1
    for page in pages:
        page.transport.abort()


async def open_page_that_never_reads(port: int) -> asyncio.StreamWriter:
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.write(b"GET /changes HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return writer


async def test_a_named_caller_shows_by_name_and_needs_a_binding_if_there_is_one(
    sessions_proxy: Proxy, target: FakeTarget, reader: Reader
) -> None:
    serving(target, WATCH)
    issue = SigningKey.load_or_create(sessions_proxy.confdir).issue
    token = issue(ObjectKey.parse(KEY), ttl=60, now=time.time(), audience="connectors-proxy", caller="ci:build")
    authority = f"127.0.0.1:{target.port}"
    stream = await sessions_proxy.tunnel(authority, f"{KEY}:{token}")
    await stream.send(f"GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
    await stream.reader.readuntil(b"}\n\r\n")
    (row,) = await wait_for_rows(reader, 1)
    assert (row["caller"], row["connector"]) == ("ci:build", KEY)
    subject = {"kind": "User", "apiGroup": RBAC_GROUP, "name": "ci:deploy"}
    role = {
        "apiVersion": f"{RBAC_GROUP}/v1",
        "kind": "Role",
        "metadata": {"namespace": "team-a", "name": "use"},
        "rules": [{"apiGroups": ["connectors.alauda.io"], "resources": ["connectors/proxy"], "verbs": ["use"]}],
    }
    binding = {"apiVersion": f"{RBAC_GROUP}/v1", "kind": "RoleBinding", "subjects": [subject],
               "metadata": {"namespace": "team-a", "name": "use"},
               "roleRef": {"kind": "Role", "apiGroup": RBAC_GROUP, "name": "use"}}  # fmt: skip
    (sessions_proxy.folder / "rbac.yaml").write_text(yaml.safe_dump_all([role, binding]))
    await until(lambda: not sessions_proxy.context.store.bindings.is_empty)
    other = issue(ObjectKey.parse(KEY), ttl=60, now=time.time(), audience="connectors-proxy", caller="ci:build")
    _, refused = await sessions_proxy.connect(authority, f"{KEY}:{other}")
    assert refused.status == 403
    allowed = issue(ObjectKey.parse(KEY), ttl=60, now=time.time(), audience="connectors-proxy", caller="ci:deploy")
    _, accepted = await sessions_proxy.connect(authority, f"{KEY}:{allowed}")
    assert accepted.status == 200
