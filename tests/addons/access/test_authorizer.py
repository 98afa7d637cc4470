"""Access decisions: a check that fails or does not finish grants no access."""

import asyncio
import math
from base64 import b64encode
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import pytest
from mitmproxy.http import HTTPFlow

from addons.access import authorizer
from addons.access.authorizer import AuthorizationResult, Authorizer
from addons.access.caller_checks import AccessContext
from addons.access.connector_request import ConnectorRequest
from addons.access.target_tokens import TargetTokens, TokenPending
from addons.http1.messages import RequestHead
from addons.net.sockets import Sockets
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.credential.bearer_token import BearerToken
from connector_store.domain.credential.token_request import IssuingCredential, TokenRequest
from connector_store.domain.decision import denial
from connector_store.domain.decision.decide import Inject, ProxyLimits, Resolution
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import TOKEN_NOT_ISSUED
from connector_store.domain.permissions.limits import Limits
from connector_store.folder.caller_tokens import TokenAccess
from connector_store.token_manager import TokenManager
from tests.addons.relay.test_inject import target as usable
from tests.fakes.flow_watcher import add_watcher
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import FakeTarget
from tests.fakes.target_tokens import fixed_target_tokens
from tests.fakes.waiting import until

KEY = "team-a/k8s"


class SlowAccess:
    """Access without a cache. Results are returned once `go_on` is set."""

    revocation_count = 0

    def __init__(self, *results_in_order: AccessResult | Exception) -> None:
        self.results_in_order = list(results_in_order)
        self.check_count = 0
        self.go_on = asyncio.Event()

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        return None

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        self.check_count += 1
        await self.go_on.wait()
        result = self.results_in_order.pop(0)
        if isinstance(result, Exception):
            raise result
        return result

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        raise NotImplementedError

    async def recheck_use(
        self, token: str, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        raise NotImplementedError


GRANTED = Granted(identity=Identity(user="u"))
REFUSED = Refused(check="use", reason="no")
RIGHT = IssuingCredential(BearerToken("held"), TokenRequest(service_account=ObjectKey("ci", "deployer")))


def give(proxy: Proxy, access: SlowAccess) -> None:
    connections = proxy.master.addons.get("connections")
    access_context = replace(proxy.context.access_context, access=access)
    connections.set_parts(replace(connections.parts(), context=replace(proxy.context, access_context=access_context)))


def get(target: FakeTarget, token: str = "t") -> bytes:
    return b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %b\r\n\r\n" % (
        target.port,
        token.encode(),
    )


@pytest.mark.parametrize(
    ("result", "status"),
    [
        pytest.param(GRANTED, 200, id="granted"),
        pytest.param(Refused(check="token", reason=""), 401, id="a token that is none"),
        pytest.param(Refused(check="use", reason=""), 403, id="no right"),
        pytest.param(Unavailable(reason="", retry_after=7), 503, id="nobody to ask"),
        pytest.param(RuntimeError(), 503, id="a check that raises"),
    ],
)
async def test_with_password_x_each_request_is_authenticated_with_its_own_token(
    proxy: Proxy, target: FakeTarget, result: AccessResult | Exception, status: int
) -> None:
    access = SlowAccess(result)
    give(proxy, access)
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:x")
    await client.send(get(target))
    await until(lambda: access.check_count == 1)
    assert target.connections == []
    access.go_on.set()
    assert (await client.read_response()).status == status
    assert len(target.connections) == (status == 200)


async def test_with_password_x_a_request_without_a_token_gets_401(proxy: Proxy, target: FakeTarget) -> None:
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:x")
    await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    response = await client.read_response()
    assert (response.status, response.json()["reason"]) == (401, "Unauthorized")
    assert target.connections == []


async def test_while_a_check_runs_the_client_is_not_read(proxy: Proxy, target: FakeTarget) -> None:
    access = SlowAccess(GRANTED, Refused(check="use", reason=""))
    give(proxy, access)
    access.go_on.set()
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:t")
    access.go_on.clear()
    await client.send(b"PUT /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 100000000\r\n\r\n" % target.port)
    await until(lambda: access.check_count == 2)

    async def flood() -> None:
        for _ in range(1000):
            await asyncio.wait_for(client.send(b"x" * 65536), 0.5)

    # The kernel and asyncio buffer some data. Then writing blocks, as with a full pipe.
    with pytest.raises(TimeoutError):
        await flood()
    access.go_on.set()
    assert (await client.read_response()).status == 403


async def test_a_method_that_kubernetes_does_not_have_is_refused(proxy: Proxy, target: FakeTarget) -> None:
    client = await proxy.tunnel_to(target)
    await client.send(b"TRACE /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    assert (await client.read_response()).status == 400
    assert target.connections == []


async def test_an_error_in_the_data_path_closes_the_connection(
    proxy: Proxy, target: FakeTarget, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(SlowAccess):
        def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
            raise RuntimeError(f"about {token}")

    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:x")
    object.__setattr__(proxy.context.access_context, "access", Broken())
    await client.send(get(target, "canary-token"))
    assert await client.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)
    assert target.connections == []
    assert "RuntimeError in the data path" in caplog.text
    assert "canary" not in caplog.text


async def test_a_caller_who_loses_the_right_while_a_flow_is_intercepted_is_refused(
    folder: Path, confdir: Path, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Refused(check="token", reason="expired")
    async with running_proxy(folder, confdir, connector_flows="on") as watched:

        def revoke(_: HTTPFlow) -> None:
            monkeypatch.setattr(TokenAccess, "check_cached", lambda *_: refused)
            monkeypatch.setattr(TokenAccess, "revocation_count", 1)

        add_watcher(watched, "request", revoke)
        client = await watched.tunnel_to(target)
        await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
        assert (await client.read_response()).status == 401
    assert target.received == b""


class FakeSockets:
    """Sockets with the methods that an authorizer uses. They record running checks and close callbacks."""

    def __init__(self) -> None:
        self.checks_running: list[Callable[[AccessResult], None]] = []
        self.close_callbacks: list[Callable[[], None]] = []
        self.add_close_callback = self.close_callbacks.append
        self.source_ip = "192.0.2.1"
        self.is_paused = False
        self.authenticated_count = 0

    def on_authenticated(self) -> None:
        self.authenticated_count += 1

    def pause_reading(self) -> None:
        self.is_paused = True

    def run_task(
        self,
        name: str,
        work: Coroutine[Any, Any, AccessResult],
        _: AccessResult,
        on_done: Callable[[AccessResult], None],
    ) -> None:
        work.close()
        self.checks_running.append(on_done)


class CachedAccess(SlowAccess):
    """Access that has the callers in `identities`, by token, in its cache, valid until `valid_until`."""

    def __init__(self, identities: dict[str, str]) -> None:
        super().__init__()
        self.identities = identities
        self.valid_until = 0.0
        self.lookup_count = 0
        self.refuses = False

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        self.lookup_count += 1
        if self.refuses:
            return REFUSED
        if token not in self.identities:
            return None
        return Granted(identity=Identity(user=self.identities[token]), valid_until=self.valid_until)


class World:
    """Connector for h:443, and connections of the callers t and u."""

    def __init__(self, *, unsynced: frozenset[str] = frozenset()) -> None:
        self.target_tokens = fixed_target_tokens(lambda _: usable("target-token"))
        self.access = CachedAccess({"t": "t", "u": "u"})
        self.access_context = AccessContext(
            unsynced=unsynced,
            access=self.access,
            target_tokens=self.target_tokens,
            policy=ProxyLimits(max_connections=1),
        )
        self.sockets = FakeSockets()
        self.results: list[AuthorizationResult] = []

    def authorizer(self) -> Authorizer:
        return Authorizer(self.access_context, cast(Sockets, self.sockets))

    def connect(self, token: str | None = "t", authority: bytes = b"h:443") -> AuthorizationResult | None:
        fields = [] if token is None else [(b"Proxy-Authorization", b"Basic " + b64encode(f"a/b:{token}".encode()))]
        head = RequestHead(b"CONNECT", authority, 1, Headers(fields), 0)
        return self.authorizer().authorize_connect(head, self.results.append)


def status(decision: AuthorizationResult | None) -> int:
    assert decision is not None
    return decision.decision.status if isinstance(decision.decision, Deny) else 200


@pytest.mark.parametrize(
    ("token", "authority", "expected"),
    [
        pytest.param("t", b"h:443", 200, id="known, to the right address"),
        pytest.param(None, b"h:443", 407, id="no credentials"),
        pytest.param("!", b"h:443", 407, id="credentials that cannot be read"),
        pytest.param("t", b"other:443", 403, id="another address"),
        pytest.param("x", b"any:1", 200, id="the token comes inside"),
        pytest.param("x", b"any", 400, id="the token comes inside, and the authority is none"),
    ],
)
def test_a_cached_access_result_is_decided_on_at_once(token: str | None, authority: bytes, expected: int) -> None:
    world = World()
    assert status(world.connect(token, authority)) == expected
    assert (world.sockets.checks_running, world.sockets.is_paused) == ([], False)


def test_without_a_cached_result_the_caller_is_checked_while_the_client_is_paused() -> None:
    world = World()
    assert world.connect("stranger") is None
    (complete,) = world.sockets.checks_running
    assert (world.results, world.sockets.is_paused) == ([], True)
    complete(Refused(check="use", reason=""))
    (decision,) = world.results
    assert decision.request is not None
    assert (status(decision), decision.request.key, decision.identity) == (403, ObjectKey("a", "b"), None)


def test_a_request_that_is_refused_anyway_needs_no_check() -> None:
    world = World(unsynced=frozenset({"folder"}))
    request = ConnectorRequest(ObjectKey("a", "b"), "h:443", "stranger")
    head = RequestHead(b"GET", b"/api", 1, Headers([(b"Host", b"h:443")]), 0)
    assert status(world.authorizer().authorize_request(head, request, world.results.append)) == 503
    assert status(world.connect("stranger")) == 503
    assert world.sockets.checks_running == []


class FakeClient:
    """One client connection with several requests."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.authorizer = world.authorizer()

    def send(self, token: str = "t", name: str = "b") -> int | None:
        """Send a request. Return the status, or None while the caller is checked."""
        head = RequestHead(b"GET", b"/api", 1, Headers([(b"Host", b"h:443")]), 0)
        request = ConnectorRequest(ObjectKey("a", name), "h:443", token)
        decision = self.authorizer.authorize_request(head, request, self.world.results.append)
        return None if decision is None else status(decision)


def test_a_valid_grant_is_not_looked_up_again() -> None:
    world = World()
    world.access.valid_until = math.inf
    client = FakeClient(world)
    assert [client.send(), client.send(), world.access.lookup_count] == [200, 200, 1]
    assert world.access_context.cache_stats.hit_count == 2


def test_a_grant_without_validity_is_looked_up_each_time() -> None:
    world = World()
    client = FakeClient(world)
    assert [client.send(), client.send(), world.access.lookup_count] == [200, 200, 2]


def test_a_grant_is_not_reused_after_its_validity(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.access.valid_until = 100.0
    client = FakeClient(world)
    monkeypatch.setattr(authorizer, "boot_time", lambda: 99.0)
    assert client.send() == 200
    world.access.identities.clear()
    assert client.send() == 200
    monkeypatch.setattr(authorizer, "boot_time", lambda: 100.0)
    assert client.send() is None
    assert len(world.sockets.checks_running) == 1


def test_a_revoked_grant_is_not_reused() -> None:
    world = World()
    world.access.valid_until = math.inf
    client = FakeClient(world)
    assert client.send() == 200
    world.access.revocation_count += 1
    assert [client.send(), world.access.lookup_count] == [200, 2]


@pytest.mark.parametrize(
    "other", [pytest.param(("u", "b"), id="another caller"), pytest.param(("t", "c"), id="another Connector")]
)
def test_a_grant_is_reused_only_for_its_caller_and_connector(other: tuple[str, str]) -> None:
    world = World()
    world.access.valid_until = math.inf
    client = FakeClient(world)
    client.send()
    client.send(*other)
    client.send()
    assert world.access.lookup_count == 3


def test_a_refusal_is_not_reused() -> None:
    world = World()
    client = FakeClient(world)
    world.access.refuses = True
    assert client.send() == 403
    world.access.refuses = False
    assert client.send() == 200


class LateTokens(TargetTokens):
    """TargetTokens whose first token arrives only after the wait."""

    def __init__(self) -> None:
        super().__init__(lambda _: replace(usable("held"), credential=RIGHT), cast(TokenManager, None))
        self.resolution: Resolution = TokenPending(
            key=ObjectKey("a", "b"), reason=TOKEN_NOT_ISSUED, message="try again"
        )

    def get(self, key: ObjectKey) -> Resolution:
        return self.resolution


def test_a_verified_caller_waits_for_the_first_target_token_only() -> None:
    world = World()
    results = LateTokens()
    world.access_context = replace(world.access_context, target_tokens=results)
    assert world.connect() is None
    (complete,) = world.sockets.checks_running
    results.resolution = usable("minted")
    complete(GRANTED)
    (decision,) = world.results
    assert status(decision) == 200
    assert isinstance(decision.decision, Inject)
    assert decision.decision.target.credential == BearerToken("minted")
    assert status(world.connect()) == 200


class WaitingTokens(LateTokens):
    """LateTokens whose callers wait until `arrived` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting_count = 0
        self.arrived = asyncio.Event()

    async def wait_for_token(self, key: ObjectKey) -> None:
        self.waiting_count += 1
        await self.arrived.wait()


class RunningSockets(FakeSockets):
    """FakeSockets that run the checks."""

    def run_task(
        self,
        name: str,
        work: Coroutine[Any, Any, AccessResult],
        _: AccessResult,
        on_done: Callable[[AccessResult], None],
    ) -> None:
        asyncio.ensure_future(work).add_done_callback(lambda task: on_done(task.result()))


def waiting_world() -> tuple[World, SlowAccess, WaitingTokens]:
    world, access, tokens = World(), SlowAccess(GRANTED, GRANTED), WaitingTokens()
    world.access_context = replace(world.access_context, target_tokens=tokens, access=access)
    world.sockets = RunningSockets()
    return world, access, tokens


async def test_a_verified_caller_that_waits_for_a_target_token_is_counted_as_a_caller() -> None:
    world, access, tokens = waiting_world()
    assert world.connect() is None
    assert world.connect() is None
    assert world.sockets.authenticated_count == 0
    access.go_on.set()
    await until(lambda: tokens.waiting_count == 2)
    assert world.sockets.authenticated_count == 1, "the caller may have one connection"
    tokens.resolution = usable("issued")
    tokens.arrived.set()
    await until(lambda: len(world.results) == 2)
    assert [status(each) for each in world.results] == [200, 429]
    assert world.access_context.connection_counts.total() == 1
    for close in world.sockets.close_callbacks:
        close()
    assert not world.access_context.connection_counts


async def test_a_connection_that_closed_during_its_check_is_not_counted() -> None:
    world, access, tokens = waiting_world()
    assert world.connect() is None
    for close in world.sockets.close_callbacks:
        close()
    access.go_on.set()
    await until(lambda: tokens.waiting_count == 1)
    assert not world.access_context.connection_counts


async def test_a_verified_caller_that_need_not_wait_is_counted_with_its_decision_only() -> None:
    world, access, tokens = waiting_world()
    assert world.connect() is None
    tokens.resolution = None
    access.go_on.set()
    await until(lambda: tokens.waiting_count == 1)
    assert world.sockets.authenticated_count == 0


@pytest.mark.parametrize("result", [REFUSED, None], ids=["without the right", "not in the cache"])
def test_a_caller_without_access_does_not_wait_for_a_target_token(result: AccessResult | None) -> None:
    class Access(SlowAccess):
        def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
            return result

    world = World()
    world.access_context = replace(world.access_context, target_tokens=LateTokens(), access=Access())
    decision = world.connect()
    assert (decision is None) is (result is None)
    for complete in world.sockets.checks_running:
        complete(REFUSED)
    assert [status(each) for each in (*world.results, *([decision] if decision else []))] == [403]


def test_a_connection_is_counted_once_until_it_closes() -> None:
    world = World()
    assert status(world.connect()) == 200
    assert status(world.connect()) == 429
    assert status(world.connect("u")) == 200
    for close in world.sockets.close_callbacks:
        close()
    assert not world.access_context.connection_counts
    assert status(world.connect()) == 200


def test_connections_are_counted_by_caller() -> None:
    world = World()
    world.access_context = replace(world.access_context, policy=ProxyLimits(max_connections=2))
    for token in ("t", "t", "u"):
        assert status(world.connect(token)) == 200
    key = ObjectKey("a", "b")
    assert world.access_context.connection_counts == {("t", key): 2, ("u", key): 1}
    world.sockets.close_callbacks[0]()
    assert world.access_context.connection_counts == {("t", key): 1, ("u", key): 1}


def test_a_connection_is_reported_as_authenticated_once() -> None:
    world = World()
    authorizer = world.authorizer()
    head = RequestHead(b"GET", b"/api", 1, Headers([(b"Host", b"h:443")]), 0)
    for token in ("stranger", "t", "t"):
        authorizer.authorize_request(head, ConnectorRequest(ObjectKey("a", "b"), "h:443", token), world.results.append)
    assert world.sockets.authenticated_count == 1


def test_on_one_connection_each_request_is_counted_for_its_own_caller() -> None:
    world = World()
    authorizer = world.authorizer()
    head = RequestHead(b"GET", b"/api", 1, Headers([(b"Host", b"h:443")]), 0)
    for token in ("t", "t", "u"):
        request = ConnectorRequest(ObjectKey("a", "b"), "h:443", token)
        assert status(authorizer.authorize_request(head, request, world.results.append)) == 200
    assert world.access_context.connection_counts == {("u", ObjectKey("a", "b")): 1}


def test_no_text_form_shows_a_token() -> None:
    assert "canary" not in repr(
        AuthorizationResult(denial.internal_error(), ConnectorRequest(ObjectKey("a", "b"), None, "canary"))
    )


DELETE = RequestHead(b"DELETE", b"/api/v1/namespaces/web/pods/a", 1, Headers([(b"Host", b"h:443")]), 0)
EXEC = RequestHead(b"GET", b"/api/v1/namespaces/web/pods/a/exec", 1, Headers([(b"Host", b"h:443")]), 0)
REQUEST = ConnectorRequest(ObjectKey("a", "b"), "h:443", "t")


def limited(limits: Limits, max_connections: int = 9) -> World:
    """Return the world with limits of the Connector."""
    world = World()
    target = usable("target-token")
    world.access_context = replace(
        world.access_context,
        target_tokens=fixed_target_tokens(lambda _: replace(target, limits=limits)),
        policy=ProxyLimits(max_connections=max_connections),
    )
    return world


def test_a_request_counts_once_even_if_it_is_decided_on_again() -> None:
    world = limited(Limits(deletes_per_hour=1))
    client = world.authorizer()
    first = client.authorize_request(DELETE, REQUEST, world.results.append)
    again = client.authorize_request(DELETE, REQUEST, world.results.append, earlier=first)
    assert (status(first), status(again)) == (200, 200)
    assert status(client.authorize_request(DELETE, REQUEST, world.results.append)) == 429


def test_a_request_that_addons_edited_counts_as_what_it_became() -> None:
    world = limited(Limits(requests_per_second=9, deletes_per_hour=1))
    client = world.authorizer()
    get = replace(DELETE, method=b"GET")
    for expected in (200, 429):
        first = client.authorize_request(get, REQUEST, world.results.append)
        assert status(client.authorize_request(DELETE, REQUEST, world.results.append, earlier=first)) == expected


def test_a_checked_caller_counts_once() -> None:
    world = limited(Limits(deletes_per_hour=1))
    stranger = REQUEST._replace(token="stranger")
    for expected in (200, 429):
        assert world.authorizer().authorize_request(DELETE, stranger, world.results.append) is None
        world.sockets.checks_running.pop()(Granted(identity=Identity(user="stranger")))
        assert status(world.results.pop()) == expected


def test_a_connect_counts_against_nothing() -> None:
    world = limited(Limits(requests_per_second=1))
    assert [status(world.connect()) for _ in range(3)] == [200, 200, 200]
    assert len(world.access_context.budgets) == 0


def test_a_session_counts_until_its_connection_closes_or_serves_another_request() -> None:
    world = limited(Limits(sessions=1))
    first, second = world.authorizer(), world.authorizer()
    assert status(first.authorize_request(EXEC, REQUEST, world.results.append)) == 200
    earlier = first.authorize_request(EXEC, REQUEST, world.results.append)
    assert status(first.authorize_request(EXEC, REQUEST, world.results.append, earlier=earlier)) == 200
    assert status(second.authorize_request(EXEC, REQUEST, world.results.append)) == 429
    assert status(second.authorize_request(DELETE, REQUEST, world.results.append)) == 200
    for close in world.sockets.close_callbacks:
        close()
    assert status(world.authorizer().authorize_request(EXEC, REQUEST, world.results.append)) == 200
    third = world.authorizer()
    assert status(third.authorize_request(EXEC, REQUEST, world.results.append)) == 429


def test_a_session_of_a_closed_connection_is_not_counted() -> None:
    world = limited(Limits(sessions=1))
    client = world.authorizer()
    for close in world.sockets.close_callbacks:
        close()
    assert [status(client.authorize_request(EXEC, REQUEST, world.results.append)) for _ in range(3)] == [200, 200, 200]
