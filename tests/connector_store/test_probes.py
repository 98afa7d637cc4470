"""Probes of real TLS servers on loopback."""

import asyncio
import time
from collections.abc import Iterator

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.objects.models import Address, HttpProbe, InvalidConnector
from connector_store.domain.status.conditions import ProbeFailure, ProbeResponse
from connector_store.domain.status.facts import ConnectorFacts
from connector_store.probes import Prober, ProbeRequest, probe_request
from connector_store.resolver import Resolver
from connector_store.target_client import TargetClient
from connector_store.token_manager import TokenManager
from connector_store.trust import TrustStore
from lab.certificates import make_ca
from lab.ports import Port
from lab.targets import CA, ENDLESS_RESPONSE, OK_RESPONSE, TargetServer, run_target, status_response
from tests.fakes.name_server import NameServer

LIVEZ, API = HttpProbe(path="/livez"), HttpProbe(path="/api")
TOKEN = "canary-token"
EVERYWHERE = AddressPolicy()
LOOPBACK_DENIED = AddressPolicy.from_settings(allow=(), deny=(), in_cluster=True)


@pytest.fixture
def server() -> Iterator[TargetServer]:
    with run_target() as target:
        yield target


def request(server: TargetServer, host: str = "127.0.0.1", prefix: str = "", **change) -> ProbeRequest:
    fields = {
        "address": Address(host=host, port=server.port, prefix=prefix),
        "ca": CA.pem,
        "liveness": LIVEZ,
        "auth": API,
        "credential": BearerToken(TOKEN),
    }
    return ProbeRequest(**{**fields, **change})


async def probe(request: ProbeRequest, policy: AddressPolicy = EVERYWHERE, *, seconds: float = 120.0):
    async with NameServer({}) as name_server:
        resolver = Resolver(servers=[name_server.address])
        client = TargetClient(TrustStore(), policy, resolver, user_agent="connectors-controller")
        outcomes = await Prober(client, TokenManager(client, timeout=seconds), timeout=seconds).probe(request)
        resolver.close()
    # A TLS connection sends close_notify after it was closed. The test's loop must not end before.
    deadline = time.monotonic() + 120
    while _open_transports() and time.monotonic() < deadline:  # noqa: ASYNC110 - asyncio tells nobody
        await asyncio.sleep(0.01)
    return outcomes


def _open_transports() -> list[object]:
    loop = asyncio.get_running_loop()
    return [each for each in loop._transports.values() if each._sock is not None]  # type: ignore[attr-defined]  # asyncio's own


async def test_both_probes_go_below_the_prefix_and_only_the_auth_probe_carries_the_token(server) -> None:
    outcomes = await probe(request(server, prefix="/kubernetes/global"))
    assert outcomes.liveness == outcomes.auth == ProbeResponse(status=200)
    livez, api, review = server.request_heads
    assert livez.startswith(b"GET /kubernetes/global/livez HTTP/1.1\r\n")
    assert api.startswith(b"GET /kubernetes/global/api HTTP/1.1\r\n")
    assert TOKEN.encode() not in livez
    assert b"\r\nAuthorization: Bearer canary-token\r\n" in api
    assert review.startswith(b"POST /kubernetes/global/apis/authentication.k8s.io/v1/selfsubjectreviews HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{server.port}\r\n".encode() in livez


async def test_method_path_and_headers_of_a_class_are_honoured_but_not_those_of_the_connection(server) -> None:
    headers = (("X-Team", "a"), ("Host", "evil"), ("Content-Length", "9"), ("Authorization", "Basic x"))
    special = HttpProbe(path="/a%2Fb?x=%20y", method="POST", headers=headers)
    await probe(request(server, auth=special, liveness=None))
    head, _ = server.request_heads
    assert head.startswith(b"POST /a%2Fb?x=%20y HTTP/1.1\r\n")
    assert b"X-Team: a\r\n" in head
    assert b"evil" not in head
    assert b"Basic x" not in head
    assert b"Content-Length: 9" not in head


@pytest.mark.parametrize("code", [204, 301, 401, 403, 404, 429, 500, 503])
async def test_any_answer_is_an_answer_and_redirects_are_not_followed(server, code) -> None:
    server.respond = lambda head: status_response(code).replace(
        b"\r\n\r\n", b"\r\nLocation: https://127.0.0.1:1/\r\n\r\n"
    )
    outcomes = await probe(request(server))
    assert outcomes.liveness == ProbeResponse(status=code)
    assert outcomes.auth == (None if code >= 500 else ProbeResponse(status=code))


async def test_ten_gigabytes_are_not_read(server) -> None:
    server.respond = lambda head: ENDLESS_RESPONSE
    outcomes = await probe(request(server))
    assert outcomes.liveness == ProbeResponse(status=200)
    assert outcomes.auth == ProbeResponse(status=200), "on a connection of its own"


async def test_a_silent_target_fails_after_the_timeout(server) -> None:
    server.silent = True
    outcomes = await probe(request(server), seconds=0.3)
    assert isinstance(outcomes.liveness, ProbeFailure)
    assert "did not answer within" in outcomes.liveness.message
    assert outcomes.auth is None


async def test_liveness_that_answered_stays_when_auth_does_not(server) -> None:
    server.respond = lambda head: OK_RESPONSE if b"/livez" in head else b"HTTP/1.1 "
    # A busy machine may need longer for the first response.
    for seconds in (1.0, 4.0, 16.0, 64.0):
        outcomes = await probe(request(server), seconds=seconds)
        if outcomes.liveness == ProbeResponse(status=200):
            break
    assert outcomes.liveness == ProbeResponse(status=200)
    assert isinstance(outcomes.auth, ProbeFailure)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"ca": make_ca().pem}, "certificate is not valid", id="another CA"),
        pytest.param({"ca": None}, "certificate is not valid", id="the system's CAs"),
        pytest.param({"ca": b"hello"}, "the CA of the target is not a PEM bundle", id="no PEM"),
        pytest.param({"host": "localhost"}, "certificate is not valid", id="a certificate for another name"),
        pytest.param({"host": "no-such-host.invalid"}, "cannot be resolved", id="a name that is not there"),
        pytest.param({"host": "x" * 64 + ".example"}, "", id="a name that cannot be"),
        pytest.param(
            {"liveness": HttpProbe(path="/", headers=(("X", "a\r\nb"),))}, "not a valid request", id="a bad header"
        ),
    ],
)
async def test_an_unreachable_target_has_a_reason_without_the_token(server, change, reason) -> None:
    outcomes = await probe(request(server, **change))
    assert isinstance(outcomes.liveness, ProbeFailure)
    assert reason in outcomes.liveness.message
    assert TOKEN not in str(outcomes)
    assert outcomes.auth is None


async def test_a_proxy_of_the_environment_gets_nothing(server, monkeypatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    outcomes = await probe(request(server))
    assert (outcomes.liveness, outcomes.auth) == (ProbeResponse(status=200), ProbeResponse(status=200))


async def test_a_closed_port() -> None:
    probe_request_ = ProbeRequest(address=Address(host="127.0.0.1", port=Port().number), liveness=LIVEZ)
    outcomes = await probe(probe_request_)
    assert isinstance(outcomes.liveness, ProbeFailure)
    assert "check that an API server listens there" in outcomes.liveness.message


async def test_a_plain_http_target_does_not_speak_tls() -> None:
    listener = await asyncio.start_server(_plain, "127.0.0.1", 0)
    async with listener:
        port = listener.sockets[0].getsockname()[1]
        outcomes = await probe(ProbeRequest(address=Address(host="127.0.0.1", port=port), liveness=LIVEZ))
    assert isinstance(outcomes.liveness, ProbeFailure)
    assert "does not speak TLS" in outcomes.liveness.message


async def _plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    writer.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_denied_addresses_are_not_dialled(server, host) -> None:
    outcomes = await probe(request(server, host=host), LOOPBACK_DENIED)
    assert isinstance(outcomes.liveness, ProbeFailure)
    assert "denied addresses only (127.0.0.1" in outcomes.liveness.message
    assert "targets-allow" in outcomes.liveness.message
    assert server.request_heads == []


async def test_denied_ipv6_literals_are_not_dialled_either() -> None:
    probe_request_ = ProbeRequest(address=Address(host="::ffff:127.0.0.1", port=443), liveness=LIVEZ)
    outcomes = await probe(probe_request_, LOOPBACK_DENIED)
    assert isinstance(outcomes.liveness, ProbeFailure)
    assert outcomes.liveness.message.startswith("[::ffff:127.0.0.1]:443 resolves to denied addresses only")


async def test_a_request_without_probes_has_no_outcome(server) -> None:
    outcomes = await probe(request(server, liveness=None, auth=None))
    assert outcomes.liveness is None
    assert outcomes.auth is None
    assert server.request_heads == []


def test_an_invalid_connector_has_no_probe_request() -> None:
    rejected = InvalidConnector(key=ObjectKey("a", "k8s"), class_name="k8s", reason="AddressInvalid", message="x")
    assert probe_request(ConnectorFacts(connector=rejected, cls=None)) is None
