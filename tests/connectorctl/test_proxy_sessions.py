"""Reader of running proxies: answers of any release, pods behind port-forward, and the proxy on this machine."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.errors import ParseError
from connector_store.kube.client import KubeClient
from connector_store.kube.configuration import Configuration
from connector_store.kube.errors import ApiError
from connector_store.sessions_file import PREFIX, write_url
from connector_store.version import VERSION
from connectorctl import proxy_sessions
from connectorctl.proxy_sessions import ClusterProxies, LoopbackProxies, ProxyAnswer, list_proxy_pods, parse_answer
from tests.connectorctl.fake_pods import FakePage, FakePods, answer, row

NAMESPACE: Final = "connectors-system"
OTHER_DOCUMENT: Final = "sent an answer that this program cannot read; it may be of another release"


@pytest.fixture
async def pods() -> AsyncIterator[FakePods]:
    async with FakePods() as running:
        yield running


@pytest.fixture
async def client(pods: FakePods) -> AsyncIterator[KubeClient]:
    async with KubeClient(Configuration(host=pods.url)) as kube_client:
        yield kube_client


def problems(answers: Sequence[ProxyAnswer]) -> list[str]:
    return [each.problem for each in answers]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        pytest.param(json.dumps(answer(version="0.0.9")), f"is of release 0.0.9, and this program of {VERSION}",
                     id="another release"),
        pytest.param('{"items": []}', f"is of release unknown, and this program of {VERSION}", id="no release"),
        pytest.param(json.dumps(answer(row(1), total=5)), "shows 1 of 5", id="a bounded answer"),
        pytest.param('{"rows": []}', OTHER_DOCUMENT, id="another document"),
        pytest.param("[]", OTHER_DOCUMENT, id="a list"),
        pytest.param("null", OTHER_DOCUMENT, id="null"),
        pytest.param('{"items": 1}', OTHER_DOCUMENT, id="items that are a number"),
        pytest.param('{"items": [], "total": "many"}', OTHER_DOCUMENT, id="a total that is a text"),
        pytest.param('{"items": [], "total": null}', OTHER_DOCUMENT, id="a total that is null"),
        pytest.param('{"items": [], "total": 1e999}', OTHER_DOCUMENT, id="a total that is infinite"),
        pytest.param('{"items": [], "total": NaN}', OTHER_DOCUMENT, id="a total that is not a number"),
        pytest.param("<html>", OTHER_DOCUMENT, id="a page"),
        pytest.param(b"\xff\xfe\xff", OTHER_DOCUMENT, id="bytes that are not UTF-8"),
        pytest.param("[" * 200_000, OTHER_DOCUMENT, id="a document that is nested too deep"),
    ],
)  # fmt: skip
def test_an_answer_that_is_special_is_a_problem(body: str | bytes, problem: str) -> None:
    data = body if isinstance(body, bytes) else body.encode()
    parsed = parse_answer("p", 200, data)
    assert (parsed.proxy, parsed.problem) == ("p", problem)
    assert parsed.has_answered is (problem != OTHER_DOCUMENT)


def test_items_that_are_not_objects_are_left_out() -> None:
    parsed = parse_answer("p", 200, json.dumps(answer() | {"items": [1, None, {"id": "1"}], "total": 1}).encode())
    assert (parsed.items, parsed.problem) == (({"id": "1"},), "")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(b"the secret is missing\n", "the secret is missing", id="a sentence"),
        pytest.param(b"", "", id="nothing"),
        pytest.param(b"\xff" * 9, "\ufffd" * 9, id="bytes that are not UTF-8"),
        pytest.param(b"x" * 9999, "x" * 200, id="a long text is cut"),
    ],
)
def test_another_status_is_a_problem(body: bytes, text: str) -> None:
    parsed = parse_answer("p", 401, body)
    assert (parsed.problem, parsed.has_answered) == (f"answers with status 401: {text}", False)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["items", "total"]), inner, max_size=2),
    max_leaves=4,
)


@given(document=_JSON)
def test_for_every_document_there_is_an_answer(document: object) -> None:
    parsed = parse_answer("p", 200, json.dumps(document).encode())
    assert parsed.has_answered or parsed.problem == OTHER_DOCUMENT


async def test_each_running_pod_answers(pods: FakePods, client: KubeClient) -> None:
    async with FakePage(answer(row(2))) as one, FakePage(answer(row(1), row(3))) as two:
        pods.ports = {"proxy-b": one.port, "proxy-a": two.port}
        answers = await ClusterProxies(client, NAMESPACE).read("/sessions")
    assert [(each.proxy, each.total, each.problem) for each in answers] == [("proxy-a", 2, ""), ("proxy-b", 1, "")]
    assert one.authorizations == [""], "a pod's page needs no secret"


async def test_a_large_answer_is_whole(pods: FakePods, client: KubeClient) -> None:
    rows = [row(number, name="x" * 200) for number in range(500)]
    async with FakePage(answer(*rows)) as page:
        pods.ports = {"proxy-a": page.port}
        (only,) = await ClusterProxies(client, NAMESPACE).read("/sessions")
    assert (len(only.items), only.problem) == (500, "")


async def test_a_pod_without_a_listener_is_a_problem_of_its_own(pods: FakePods, client: KubeClient) -> None:
    async with FakePage(answer(row(1))) as one:
        pods.ports = {"proxy-a": one.port, "proxy-b": None}
        answers = await ClusterProxies(client, NAMESPACE).read("/sessions")
    assert [each.has_answered for each in answers] == [True, False]
    assert answers[1].problem == "does not answer: the port-forward failed: connection refused"


async def test_the_right_that_is_missing_is_named(pods: FakePods, client: KubeClient) -> None:
    pods.ports, pods.forbidden = {"proxy-a": 1}, True
    assert problems(await ClusterProxies(client, NAMESPACE).read("/sessions")) == [
        "does not answer: the API server refused a WebSocket: Forbidden; you need the right to create pods/portforward"
    ]


@pytest.mark.parametrize(
    ("response", "problem"),
    [
        pytest.param(b"", "nothing listens at the port; the option connector_sessions may be empty", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", "the answer ended early", id="half of a head"),
        pytest.param(b"SSH-2.0-x\r\n\r\n", "the answer is not HTTP with a length", id="another protocol"),
        pytest.param(b"HTTP/1.1 abc\r\nContent-Length: 2\r\n\r\n{}", "the answer is not HTTP with a length",
                     id="a status that is not a number"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n{}", "the answer is not HTTP with a length", id="no length"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\n{}", "the answer is not HTTP with a length",
                     id="a length that is not a number"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "the answer ended early", id="half of a body"),
        pytest.param(b"x" * (proxy_sessions.MAX_HEAD + 1), "the answer is not HTTP with a length", id="a long head"),
    ],
)  # fmt: skip
async def test_a_response_that_is_not_whole_is_a_problem(
    pods: FakePods, client: KubeClient, response: bytes, problem: str
) -> None:
    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(respond, "127.0.0.1", 0) as server:
        pods.ports = {"proxy-a": server.sockets[0].getsockname()[1]}
        answers = await ClusterProxies(client, NAMESPACE).read("/sessions")
    assert problems(answers) == [f"does not answer: {problem}"]


async def test_a_pod_that_never_answers_is_a_problem(
    pods: FakePods, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_sessions, "TIMEOUT", 0.1)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(hang, "127.0.0.1", 0) as server:
        pods.ports = {"proxy-a": server.sockets[0].getsockname()[1]}
        answers = await ClusterProxies(client, NAMESPACE).read("/sessions")
    assert problems(answers) == ["does not answer within 0.1 s"]


async def test_pods_are_listed_again_after_a_problem_or_an_interval(
    pods: FakePods, client: KubeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxy_sessions, "LIST_INTERVAL", float("inf"))
    async with FakePage(answer(row(1))) as page:
        proxies = ClusterProxies(client, NAMESPACE)

        async def names() -> list[str]:
            return [each.proxy for each in await proxies.read("/sessions")]

        pods.ports = {"proxy-a": page.port}
        assert await names() == ["proxy-a"]
        pods.ports["proxy-b"] = page.port
        assert await names() == ["proxy-a"], "the list is not read for each look"
        pods.ports = {"proxy-a": None, "proxy-b": page.port}
        assert await names() == ["proxy-a"]
        assert await names() == ["proxy-a", "proxy-b"], "a problem can mean that the pods are others now"
        pods.ports = {"proxy-b": page.port}
        assert await names() == ["proxy-b"]
        pods.ports["proxy-c"] = page.port
        monkeypatch.setattr(proxy_sessions, "LIST_INTERVAL", 0.0)
        assert await names() == ["proxy-b", "proxy-c"]


async def test_without_a_pod_the_next_step_is_named(client: KubeClient) -> None:
    with pytest.raises(ParseError) as caught:
        await list_proxy_pods(client, NAMESPACE)
    assert str(caught.value) == (
        "no proxy runs in namespace connectors-system; see: kubectl get pods -n connectors-system "
        "-l app.kubernetes.io/name=connectors-proxy"
    )


async def test_pods_that_do_not_run_are_left_out(pods: FakePods, client: KubeClient) -> None:
    pods.ports = {"proxy-a": 1, "proxy-b": 1, "proxy-c": 1}
    pods.phases = {"proxy-a": "Pending", "proxy-b": None}
    assert await list_proxy_pods(client, NAMESPACE) == ["proxy-c"]


async def test_an_api_server_that_is_down_is_an_error(pods: FakePods, client: KubeClient) -> None:
    await pods.__aexit__()
    with pytest.raises(ApiError):
        await ClusterProxies(client, NAMESPACE).read("/sessions")


async def read_local(confdir: Path) -> ProxyAnswer:
    (only,) = await LoopbackProxies(confdir).read("/sessions")
    return only


async def test_each_proxy_of_this_machine_gets_its_secret(tmp_path: Path) -> None:
    async with FakePage(answer(row(1))) as one, FakePage(answer(row(2), row(3))) as two:
        for page, secret in ((one, "secret-1"), (two, "secret-2")):
            write_url(tmp_path, f"http://127.0.0.1:{page.port}/#{secret}")
        answers = await LoopbackProxies(tmp_path).read("/sessions")
    assert {(each.proxy, each.total, each.problem) for each in answers} == {
        (f"127.0.0.1:{one.port}", 1, ""), (f"127.0.0.1:{two.port}", 2, ""),
    }  # fmt: skip
    assert (one.authorizations, two.authorizations) == (["Bearer secret-1"], ["Bearer secret-2"])


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        pytest.param(b"http://127.0.0.1:1/#x", "Connection refused", id="a proxy that is gone"),
        pytest.param(b"http://127.0.0.1:99999/#x", "ValueError", id="a port out of range"),
        pytest.param(b"http://[::1/#x", "ValueError", id="half of an IPv6 address"),
        pytest.param(b"http://[::1\xff/#x", "ValueError", id="bytes that are not UTF-8"),
        pytest.param("http://127.0.0.1:1/#\u20ac".encode(), "Connection refused|UnicodeEncodeError",
                     id="a secret that is not ASCII"),
    ],
)  # fmt: skip
async def test_a_file_of_another_time_is_a_problem(tmp_path: Path, url: bytes, reason: str) -> None:
    await asyncio.to_thread((tmp_path / f"{PREFIX}1").write_bytes, url)
    local = await read_local(tmp_path)
    assert not local.has_answered
    assert local.problem in [f"does not answer: {each}; start one: connectorctl proxy" for each in reason.split("|")]


async def test_without_a_file_the_next_step_is_named(tmp_path: Path) -> None:
    local = await read_local(tmp_path)
    assert local.proxy == "local"
    assert local.problem == f"has no address in {tmp_path}; start it, or start it again: connectorctl proxy"
