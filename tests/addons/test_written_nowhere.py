"""A caller's token in the wrong place is in no line that the proxy writes."""

import logging
from collections.abc import Callable

import pytest

from tests.fakes.proxy import Proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

MISPLACED = [
    pytest.param(b"GET http://team-a%2Fk8s:TOKEN@HOST/version HTTP/1.1\r\nHost: HOST\r\n\r\n", id="an absolute form"),
    pytest.param(b"GET http://team-a/k8s:TOKEN@HOST/version HTTP/1.1\r\nHost: HOST\r\n\r\n", id="not even escaped"),
    pytest.param(b"CONNECT team-a%2Fk8s:TOKEN@HOST HTTP/1.1\r\nHost: HOST\r\n\r\n", id="an authority"),
    pytest.param(b"GET /kubeconfig?TOKEN HTTP/1.1\r\nHost: HOST\r\n\r\n", id="a bare query"),
    pytest.param(b"GET /kubeconfig?token=TOKEN HTTP/1.1\r\nHost: HOST\r\n\r\n", id="a parameter"),
    pytest.param(b"GET /TOKEN HTTP/1.1\r\nHost: HOST\r\n\r\n", id="a path"),
    pytest.param(b"GET /x HTTP/1.1\r\nHost: HOST\r\nUser-Agent: TOKEN\r\n\r\n", id="a user agent"),
    pytest.param(b"TOKEN\r\n\r\n", id="no request at all"),
    pytest.param(b"GET /x HTTP/1.1\r\nHost: HOST\r\nTOKEN\r\n\r\n", id="no header field"),
    pytest.param(b"GET /x HTTP/1.1\r\nHost: HOST\r\nProxy-Authorization: TOKEN\r\n\r\n", id="no scheme"),
]
INSIDE = [
    pytest.param(b"GET /api?TOKEN HTTP/1.1\r\nHost: HOST\r\n\r\n", id="a bare query"),
    pytest.param(b"GET /api?TOKEN= HTTP/1.1\r\nHost: HOST\r\n\r\n", id="a name"),
    pytest.param(b"GET /api?access_token=TOKEN HTTP/1.1\r\nHost: HOST\r\n\r\n", id="a parameter"),
    pytest.param(b"GET /api/TOKEN HTTP/1.1\r\nHost: HOST\r\n\r\n", id="a path"),
    pytest.param(b"GET https://team-a%2Fk8s:TOKEN@HOST/api HTTP/1.1\r\nHost: HOST\r\n\r\n", id="an absolute form"),
    pytest.param(b"GET /api HTTP/1.1\r\nHost: TOKEN@HOST\r\n\r\n", id="a Host"),
]


@pytest.mark.parametrize("message", MISPLACED)
async def test_in_front_of_a_tunnel(
    proxy: Proxy,
    target: FakeTarget,
    message: bytes,
    capsys: pytest.CaptureFixture[str],
    read_output: Callable[[], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    token = proxy.token("team-a/k8s")
    with caplog.at_level(logging.DEBUG):
        stream = await proxy.open()
        await stream.send(
            message.replace(b"TOKEN", token.encode()).replace(b"HOST", f"127.0.0.1:{target.port}".encode())
        )
        answer = await stream.read_response()
        assert answer.status >= 400
        await until(lambda: '"event":"connect"' in read_output())
        assert_not_written(token, capsys, caplog)


@pytest.mark.parametrize("message", INSIDE)
async def test_inside_a_tunnel(
    proxy: Proxy,
    target: FakeTarget,
    message: bytes,
    capsys: pytest.CaptureFixture[str],
    read_output: Callable[[], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    token, authority = proxy.token("team-a/k8s"), f"127.0.0.1:{target.port}"
    with caplog.at_level(logging.DEBUG):
        stream = await proxy.tunnel(authority, f"team-a/k8s:{token}")
        await stream.send(message.replace(b"TOKEN", token.encode()).replace(b"HOST", authority.encode()))
        await stream.read_response()
        await until(lambda: '"event":"request"' in read_output())
        assert_not_written(token, capsys, caplog)


def assert_not_written(token: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    written = capsys.readouterr()
    for part in (token, token.split(".")[2]):
        for text in (*written, caplog.text):
            assert part not in text
