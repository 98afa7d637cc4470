"""Tokens of targets: requested once, renewed before they expire, and what happens when a target refuses."""

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator

import jwt
import pytest

from connector_store import token_manager as subject
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.credential.token_request import IssuedToken, IssuingCredential, TokenRequest
from connector_store.domain.decision.address_policy import AddressPolicy
from connector_store.domain.objects.models import Address
from connector_store.resolver import Resolver
from connector_store.target_client import TargetClient
from connector_store.token_manager import (
    DIAL_RETRY_INTERVAL,
    MAX_DIALS_PER_ADDRESS,
    MIN_AGE_TO_INVALIDATE,
    TokenEndpoint,
    TokenFailure,
    TokenManager,
)
from connector_store.trust import TrustStore
from lab.ports import Port
from lab.targets import CA, OK_RESPONSE, TargetServer, run_target, status_response
from tests.fakes.clock import FakeClock
from tests.fakes.waiting import until

HELD = "canary-held"
KEY = ObjectKey("team-a", "k8s")
RIGHT = IssuingCredential(
    BearerToken(HELD), TokenRequest(service_account=ObjectKey("ci", "deployer"), expiration_seconds=600)
)


class Grants:
    """Responses of a target that issues `canary-N`, each valid for `life` seconds."""

    def __init__(self, life: float = 600) -> None:
        self.life = life
        self.count = 0

    def __call__(self, head: bytes) -> bytes:
        self.count += 1
        token = jwt.encode({"iat": 0, "exp": self.life, "n": self.count}, "x" * 32, algorithm="HS256")
        return created({"status": {"token": token, "expirationTimestamp": "2100-01-01T00:00:00Z"}})


def created(answer: object, code: int = 201) -> bytes:
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    return b"HTTP/1.1 %d Because\r\nContent-Length: %d\r\n\r\n%b" % (code, len(body), body)


@pytest.fixture
def server() -> Iterator[TargetServer]:
    with run_target() as target:
        target.respond = Grants()
        yield target


class World:
    def __init__(self, server: TargetServer) -> None:
        self.server = server
        self.clock = FakeClock(1000.0)
        self.request_results: list[str] = []
        self.counted_keys: set[ObjectKey] = set()
        client = TargetClient(TrustStore(), AddressPolicy(), Resolver(), user_agent="test")
        self.manager = TokenManager(client, timeout=300, clock=self.clock, on_token_request=self.count)

    def count(self, key: ObjectKey, result: str) -> None:
        self.request_results.append(result)
        self.counted_keys.add(key)

    def source(
        self, right: IssuingCredential = RIGHT, key: ObjectKey = KEY, ca: bytes | None = CA.pem
    ) -> TokenEndpoint:
        address = Address(host="127.0.0.1", port=self.server.port)
        return TokenEndpoint(key, address, ca, right, "target-secret")

    async def token(self) -> BearerToken:
        token = await self.manager.get_token(self.source())
        assert isinstance(token, BearerToken)
        return token

    async def failure(self) -> TokenFailure:
        failure = await self.manager.get_token(self.source())
        assert isinstance(failure, TokenFailure)
        return failure


@pytest.fixture
def world(server: TargetServer) -> World:
    return World(server)


async def test_a_token_is_requested_once_and_then_cached(world: World) -> None:
    assert world.manager.cached_token(world.source()) is None
    first = await world.token()
    assert await world.token() is first
    assert world.manager.cached_token(world.source()) is first
    (head,) = world.server.request_heads
    assert head.startswith(b"POST /api/v1/namespaces/ci/serviceaccounts/deployer/token HTTP/1.1\r\n")
    assert f"Authorization: Bearer {HELD}\r\n".encode() in head
    assert b"Content-Type: application/json\r\n" in head
    assert (world.request_results, world.counted_keys) == (["ok"], {KEY})


async def test_concurrent_callers_wait_for_the_same_request(world: World) -> None:
    tokens = await asyncio.gather(*(world.manager.get_token(world.source()) for _ in range(50)))
    assert len({id(each) for each in tokens}) == 1
    assert len(world.server.request_heads) == 1


async def test_a_cancelled_caller_does_not_cancel_the_request(world: World) -> None:
    impatient = asyncio.ensure_future(world.manager.get_token(world.source()))
    patient = asyncio.ensure_future(world.manager.get_token(world.source()))
    await asyncio.sleep(0)
    impatient.cancel()
    assert isinstance(await patient, BearerToken)


async def test_a_token_is_renewed_in_the_last_fifth_of_its_lifetime_in_the_background(world: World) -> None:
    first = await world.token()
    world.clock.now += 600 * 0.69
    assert world.manager.cached_token(world.source()) is first
    assert len(world.server.request_heads) == 1
    world.clock.now = 1000 + 600 * 0.8
    assert world.manager.cached_token(world.source()) is first, "nobody waits for the new one"
    await until(lambda: world.manager.cached_token(world.source()) != first)
    assert len(world.server.request_heads) == 2


async def test_the_old_token_serves_until_it_expires_while_renewal_fails(world: World) -> None:
    first = await world.token()
    world.server.respond = lambda head: status_response(403)
    world.clock.now = 1000 + 500
    assert world.manager.cached_token(world.source()) is first
    await until(lambda: world.request_results == ["ok", "refused"])
    assert world.manager.cached_token(world.source()) is first
    world.clock.now = 1000 + 600
    failed = await world.failure()
    assert failed.refused
    assert 'the credential in secrets "target-secret" may not create serviceaccounts/token' in failed.message
    assert world.manager.cached_token(world.source()) is None
    assert world.manager.current_failure(world.source()) is failed
    world.clock.now += 60
    assert world.manager.current_failure(world.source()) is None, "then it is asked again"


async def test_failed_requests_are_retried_with_growing_backoff(world: World) -> None:
    world.server.respond = lambda head: status_response(500)
    pauses = []
    for number in range(1, 9):
        await world.failure()
        assert len(world.server.request_heads) == number
        assert await world.failure()
        assert len(world.server.request_heads) == number, "not asked again at once"
        entry = world.manager._entries.get(KEY)
        assert entry is not None
        pauses.append(entry.backoff)
        world.clock.now = entry.retry_at
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]
    world.server.respond = Grants()
    await world.token()


async def test_retry_after_is_honoured_within_bounds(world: World) -> None:
    for value, least in ((b"7", 7), (b"99999", 60), (b"soon", 0), (b"9" * 400, 0)):
        world.manager.forget(KEY)
        world.server.respond = lambda head, value=value: (  # type: ignore[misc]  # mypy infers no lambda with a default
            b"HTTP/1.1 429 Slow\r\nRetry-After: %b\r\nContent-Length: 0\r\n\r\n" % value
        )
        await world.failure()
        entry = world.manager._entries.get(KEY)
        assert entry is not None
        assert least <= entry.retry_at - world.clock.now <= max(least, 1)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(lambda head: created({"status": {}}), "without a token", id="201 without a token"),
        pytest.param(
            lambda head: created({"status": {"token": "canary-x", "expirationTimestamp": "2020-01-01T00:00:00Z"}}),
            "has expired already",
            id="one already expired",
        ),
        pytest.param(lambda head: created(b"<html>canary-x</html>"), "something else than JSON", id="HTML"),
        pytest.param(lambda head: created(b"x" * 2_000_000), "more than 65536 bytes", id="2 MB"),
        pytest.param(lambda head: created(b""), "something else than JSON", id="nothing in it"),
        pytest.param(lambda head: b"", "broke off its answer", id="nothing"),
        pytest.param(lambda head: created({"status": {"token": "canary-x"}}, 200), "status code 200", id="200"),
        pytest.param(lambda head: status_response(302), "status code 302", id="a redirect"),
        pytest.param(lambda head: status_response(401), "does not accept the credential", id="401"),
        pytest.param(lambda head: status_response(403), "may not create serviceaccounts/token", id="403"),
        pytest.param(lambda head: status_response(404), 'serviceaccounts "deployer" not found', id="404"),
    ],
)
async def test_an_invalid_token_response_has_a_reason_without_the_token(
    world: World, answer: Callable[[bytes], bytes], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    def reply(head: bytes) -> bytes:
        response = answer(head)
        if not response:
            raise OSError("closed")
        return response

    world.server.respond = reply
    failed = await world.failure()
    assert reason in failed.message
    assert "canary" not in failed.message + caplog.text + repr(failed)
    assert reason in caplog.text


async def test_a_shorter_lifetime_than_requested_counts(world: World) -> None:
    world.server.respond = Grants(life=60)
    first = await world.token()
    world.clock.now += 60
    assert world.manager.cached_token(world.source()) is None
    assert await world.token() != first


async def test_a_changed_secret_address_trust_or_order_drops_the_token_at_once(world: World) -> None:
    first = await world.token()
    other = IssuingCredential(BearerToken("another"), RIGHT.request)
    assert world.manager.cached_token(world.source(other)) is None
    assert await world.manager.get_token(world.source(other)) != first
    assert world.manager.cached_token(world.source()) is None
    await world.token()
    assert world.manager.cached_token(world.source(ca=CA.pem + b"\n")) is None
    await world.token()
    world.manager.discard_unless(world.source())
    assert world.manager.cached_token(world.source()) is not None, "what is the same stays"
    world.manager.discard_unless(world.source(ca=None))
    assert world.manager.cached_token(world.source()) is None
    await world.token()
    world.manager.forget(KEY)
    assert world.manager.cached_token(world.source()) is None


async def test_a_token_that_the_target_refuses_is_replaced_but_not_over_and_over(world: World) -> None:
    first = await world.token()
    world.manager.invalidate(KEY, first)
    assert world.manager.cached_token(world.source()) is first, "a target that refuses each token gets few requests"
    world.clock.now += MIN_AGE_TO_INVALIDATE
    world.manager.invalidate(KEY, BearerToken("of before"))
    world.manager.invalidate(ObjectKey("team-a", "other"), first)
    assert world.manager.cached_token(world.source()) is first
    world.manager.invalidate(KEY, first)
    second = await world.token()
    assert second != first
    world.manager.invalidate(KEY, first)
    assert world.manager.cached_token(world.source()) is second
    assert len(world.server.request_heads) == 2


async def test_a_token_that_arrives_after_the_change_is_not_used(world: World) -> None:
    flight = asyncio.ensure_future(world.manager.get_token(world.source()))
    await until(lambda: world.server.request_heads)
    world.manager.forget(KEY)
    await flight
    assert world.manager.cached_token(world.source()) is None


async def test_the_number_of_tokens_is_bounded(server: TargetServer) -> None:
    client = TargetClient(TrustStore(), AddressPolicy(), Resolver(), user_agent="test")
    manager = TokenManager(client, timeout=30, max_tokens=2)
    world = World(server)
    for name in ("a", "b", "c"):
        await manager.get_token(world.source(key=ObjectKey("n", name)))
    assert len(manager) == 2
    assert manager.cached_token(world.source(key=ObjectKey("n", "a"))) is None


async def test_an_internal_error_is_a_failure_without_details(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(HELD)

    monkeypatch.setattr(subject, "parse_token_response", broken)
    failed = await world.failure()
    assert failed.message == "the request for a token failed"
    assert HELD not in caplog.text


@pytest.mark.slow
async def test_a_thousand_connectors_cost_one_request_each(world: World) -> None:
    sources = [world.source(key=ObjectKey("n", f"c{number}")) for number in range(1000)]
    started_at = time.monotonic()
    tokens = await asyncio.gather(*(world.manager.get_token(each) for each in sources))
    assert all(isinstance(each, BearerToken) for each in tokens), time.monotonic() - started_at
    assert len(world.server.request_heads) == 1000
    assert all(world.manager.cached_token(each) is token for each, token in zip(sources, tokens, strict=True))


async def test_connectors_of_a_hanging_target_do_not_delay_other_targets_and_share_its_dials() -> None:
    with run_target() as hanging, run_target() as healthy:
        hanging.silent, healthy.respond = True, Grants()
        world, healthy_world = World(hanging), World(healthy)
        world.manager = healthy_world.manager = TokenManager(
            TargetClient(TrustStore(), AddressPolicy(), Resolver(), user_agent="test"), timeout=10, clock=world.clock
        )
        keys = [ObjectKey("n", f"c{number}") for number in range(200)]
        waiting = [asyncio.ensure_future(world.manager.get_token(world.source(key=key))) for key in keys]
        await until(lambda: hanging.connection_count == MAX_DIALS_PER_ADDRESS)
        await healthy_world.token()
        assert not any(each.done() for each in waiting), "no request to the hanging target has ended"

        failures = await asyncio.gather(*waiting)
        assert {type(each) for each in failures} == {TokenFailure}
        assert hanging.connection_count == MAX_DIALS_PER_ADDRESS
        assert await world.manager.get_token(world.source(key=ObjectKey("n", "new"))) == failures[0]
        assert hanging.connection_count == MAX_DIALS_PER_ADDRESS

        world.clock.now += DIAL_RETRY_INTERVAL
        hanging.silent, hanging.respond = False, Grants()
        results = await asyncio.gather(
            *(world.manager.get_token(world.source(key=ObjectKey("n", name))) for name in ("first", "second"))
        )
        assert [type(each) for each in results] == [IssuedToken, TokenFailure], "one request tries the target again"
        assert isinstance(await world.manager.get_token(world.source(key=ObjectKey("n", "third"))), IssuedToken)


async def test_requests_without_a_response_release_their_slots(
    server: TargetServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "START_SLOTS", 2)
    monkeypatch.setattr(subject, "SLOT_TIMEOUT", 0.05)
    world, go = World(server), threading.Event()
    with run_target(lambda head: OK_RESPONSE if go.wait(120) else b"") as slow:
        address = Address(host="127.0.0.1", port=slow.port)
        sources = [world.source(key=ObjectKey("n", f"c{number}"))._replace(address=address) for number in range(20)]
        waiting = [asyncio.ensure_future(world.manager.get_token(each)) for each in sources]
        await world.token()
        await until(lambda: len(slow.request_heads) == len(sources))
        assert not any(each.done() for each in waiting)
        go.set()
        await asyncio.gather(*waiting)


async def test_at_most_start_slots_requests_start_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "START_SLOTS", 2)
    monkeypatch.setattr(subject, "SLOT_TIMEOUT", 60)
    grant, lock, counts = Grants(), threading.Lock(), [0]

    def respond(head: bytes) -> bytes:
        with lock:
            counts.append(counts[-1] + 1)
        response = grant(head)
        with lock:
            counts.append(counts[-1] - 1)
        return response

    with run_target(respond) as server:
        world = World(server)
        sources = [world.source(key=ObjectKey("n", f"c{number}")) for number in range(30)]
        await asyncio.gather(*(world.manager.get_token(each) for each in sources))
    assert max(counts) <= 2


async def test_an_unreachable_target_is_named(world: World) -> None:
    source = world.source()._replace(address=Address(host="127.0.0.1", port=Port().number))
    failed = await world.manager.get_token(source)
    assert isinstance(failed, TokenFailure)
    assert not failed.refused
    assert "check that an API server listens there" in failed.message
