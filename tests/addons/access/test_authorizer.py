"""From a head to its decision: whoever does not answer, or raises, lets nobody in."""

import asyncio
import math
import time
from base64 import b64encode
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from mitmproxy.http import HTTPFlow

from addons.access.authorizer import AuthorizationResult, Authorizer
from addons.access.checks import Checks
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
from connector_store.domain.decision.decide import AccessPolicy, Inject, Resolution
from connector_store.domain.decision.denial import Deny
from connector_store.domain.objects.models import TOKEN_NOT_ISSUED
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
    """Knows nobody by heart; `answers` come when `go_on` is set."""

    revocation_count = 0

    def __init__(self, *answers: AccessResult | Exception) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.go_on = asyncio.Event()

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        return None

    async def check(self, token: str, key: ObjectKey) -> AccessResult:
        self.asked += 1
        await self.go_on.wait()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def recheck(self, token: str, identity: Identity, key: ObjectKey) -> AccessResult:
        raise NotImplementedError


GRANTED = Granted(identity=Identity(user="u"))
REFUSED = Refused(check="use", reason="no")
RIGHT = IssuingCredential(BearerToken("held"), TokenRequest(service_account=ObjectKey("ci", "deployer")))


def give(proxy: Proxy, access: SlowAccess) -> None:
    connections = proxy.master.addons.get("connections")
    checks = replace(proxy.shared.checks, access=access)
    connections.take(replace(connections.parts(), service=replace(proxy.shared, checks=checks)))


def get(target: FakeTarget, token: str = "t") -> bytes:
    return b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAuthorization: Bearer %b\r\n\r\n" % (
        target.port,
        token.encode(),
    )


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(GRANTED, 200, id="granted"),
        pytest.param(Refused(check="token", reason=""), 401, id="a token that is none"),
        pytest.param(Refused(check="use", reason=""), 403, id="no right"),
        pytest.param(Unavailable(reason="", retry_after=7), 503, id="nobody to ask"),
        pytest.param(RuntimeError(), 503, id="a check that raises"),
    ],
)
async def test_with_password_x_each_request_brings_its_token(
    proxy: Proxy, target: FakeTarget, answer: AccessResult | Exception, status: int
) -> None:
    access = SlowAccess(answer)
    give(proxy, access)
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:x")
    await client.send(get(target))
    await until(lambda: access.asked == 1)
    assert target.connections == []
    access.go_on.set()
    assert (await client.read_response()).status == status
    assert len(target.connections) == (status == 200)


async def test_with_password_x_a_request_without_a_token_gets_401(proxy: Proxy, target: FakeTarget) -> None:
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:x")
    await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
    answer = await client.read_response()
    assert (answer.status, answer.json()["reason"]) == (401, "Unauthorized")
    assert target.connections == []


async def test_while_a_check_runs_the_client_is_not_read(proxy: Proxy, target: FakeTarget) -> None:
    access = SlowAccess(GRANTED, Refused(check="use", reason=""))
    give(proxy, access)
    access.go_on.set()
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:t")
    access.go_on.clear()
    await client.send(b"PUT /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Length: 100000000\r\n\r\n" % target.port)
    await until(lambda: access.asked == 2)

    async def flood() -> None:
        for _ in range(1000):
            await asyncio.wait_for(client.send(b"x" * 65536), 0.5)

    # The kernel and asyncio hold some; then the client has to wait, as writing to a full pipe does.
    with pytest.raises(TimeoutError):
        await flood()
    access.go_on.set()
    assert (await client.read_response()).status == 403


async def test_a_method_that_kubernetes_does_not_have_is_refused(proxy: Proxy, target: FakeTarget) -> None:
    client = await proxy.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{proxy.token(KEY)}")
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
    object.__setattr__(proxy.shared.checks, "access", Broken())
    await client.send(get(target, "canary-token"))
    assert await client.read_to_eof() == b""
    await until(lambda: proxy.connection_count == 0)
    assert target.connections == []
    assert "RuntimeError in the data path" in caplog.text
    assert "canary" not in caplog.text


async def test_who_lost_the_right_while_a_person_thought_is_refused(
    folder: Path, confdir: Path, target: FakeTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = Refused(check="token", reason="expired")
    async with running_proxy(folder, confdir, connector_flows="on") as watched:

        def withdraw(_: HTTPFlow) -> None:
            monkeypatch.setattr(TokenAccess, "check_cached", lambda *_: refused)
            monkeypatch.setattr(TokenAccess, "revocation_count", 1)

        add_watcher(watched, "request", withdraw)
        client = await watched.tunnel(f"127.0.0.1:{target.port}", f"{KEY}:{watched.token(KEY)}")
        await client.send(b"GET /api HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n\r\n" % target.port)
        assert (await client.read_response()).status == 401
    assert target.received == b""


class FakeSockets:
    """Sockets, as far as an admission uses them: `waits` is what it waits for, `closes` what is done at the end."""

    def __init__(self) -> None:
        self.waits: list[Callable[[AccessResult], None]] = []
        self.closes: list[Callable[[], None]] = []
        self.add_close_callback = self.closes.append
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
        self.waits.append(on_done)


class Known(SlowAccess):
    """Knows by heart whom `identities` names by token; what it says holds until `holds_until`."""

    def __init__(self, identities: dict[str, str]) -> None:
        super().__init__()
        self.identities = identities
        self.holds_until = 0.0
        self.looks = 0
        self.refuses = False

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        self.looks += 1
        if self.refuses:
            return REFUSED
        if token not in self.identities:
            return None
        return Granted(identity=Identity(user=self.identities[token]), valid_until=self.holds_until)


class World:
    """A Connector that leads to h:443, and connections of callers t and u."""

    def __init__(self, *, missing: frozenset[str] = frozenset()) -> None:
        self.lending = fixed_target_tokens(lambda _: usable("target-token"))
        self.access = Known({"t": "t", "u": "u"})
        self.checks = Checks(
            unsynced=missing,
            access=self.access,
            target_tokens=self.lending,
            policy=AccessPolicy(max_connections=1),
        )
        self.sockets = FakeSockets()
        self.later: list[AuthorizationResult] = []

    def admission(self) -> Authorizer:
        return Authorizer(self.checks, cast(Sockets, self.sockets))

    def connect(self, token: str | None = "t", authority: bytes = b"h:443") -> AuthorizationResult | None:
        fields = [] if token is None else [(b"Proxy-Authorization", b"Basic " + b64encode(f"a/b:{token}".encode()))]
        head = RequestHead(b"CONNECT", authority, 1, Headers(fields), 0)
        return self.admission().authorize_connect(head, self.later.append)


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
def test_what_is_known_is_decided_at_once(token: str | None, authority: bytes, expected: int) -> None:
    world = World()
    assert status(world.connect(token, authority)) == expected
    assert (world.sockets.waits, world.sockets.is_paused) == ([], False)


def test_what_is_not_known_is_asked_while_the_client_is_not_read() -> None:
    world = World()
    assert world.connect("stranger") is None
    (then,) = world.sockets.waits
    assert (world.later, world.sockets.is_paused) == ([], True)
    then(Refused(check="use", reason=""))
    (decision,) = world.later
    assert (status(decision), decision.key, decision.identity) == (403, ObjectKey("a", "b"), None)


def test_nobody_is_asked_about_what_is_refused_anyway() -> None:
    world = World(missing=frozenset({"folder"}))
    asked = ConnectorRequest(ObjectKey("a", "b"), "h:443", "stranger")
    head = RequestHead(b"GET", b"/api", 1, Headers([(b"Host", b"h:443")]), 0)
    assert status(world.admission().authorize_request(head, asked, world.later.append)) == 503
    assert status(world.connect("stranger")) == 503
    assert world.sockets.waits == []


class Asking:
    """One connection on which requests of the same caller come."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.admission = world.admission()

    def ask(self, token: str = "t", name: str = "b") -> int | None:
        """The status; None where an answer is waited for."""
        head = RequestHead(b"GET", b"/api", 1, Headers([(b"Host", b"h:443")]), 0)
        asked = ConnectorRequest(ObjectKey("a", name), "h:443", token)
        decision = self.admission.authorize_request(head, asked, self.world.later.append)
        return None if decision is None else status(decision)


def test_while_an_answer_holds_it_is_not_looked_for_again() -> None:
    world = World()
    world.access.holds_until = math.inf
    asking = Asking(world)
    assert [asking.ask(), asking.ask(), world.access.looks] == [200, 200, 1]
    assert world.checks.cache_stats.hit_count == 2


def test_an_answer_that_holds_to_no_time_is_looked_for_each_time() -> None:
    world = World()
    asking = Asking(world)
    assert [asking.ask(), asking.ask(), world.access.looks] == [200, 200, 2]


def test_an_answer_holds_no_longer_than_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    world.access.holds_until = 100.0
    asking = Asking(world)
    monkeypatch.setattr(time, "monotonic", lambda: 99.0)
    assert asking.ask() == 200
    world.access.identities.clear()
    assert asking.ask() == 200
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    assert asking.ask() is None
    assert len(world.sockets.waits) == 1


def test_what_was_withdrawn_holds_no_more() -> None:
    world = World()
    world.access.holds_until = math.inf
    asking = Asking(world)
    assert asking.ask() == 200
    world.access.revocation_count += 1
    assert [asking.ask(), world.access.looks] == [200, 2]


@pytest.mark.parametrize(
    "other", [pytest.param(("u", "b"), id="another caller"), pytest.param(("t", "c"), id="another Connector")]
)
def test_an_answer_holds_for_its_caller_and_its_connector(other: tuple[str, str]) -> None:
    world = World()
    world.access.holds_until = math.inf
    asking = Asking(world)
    asking.ask()
    asking.ask(*other)
    asking.ask()
    assert world.access.looks == 3


def test_no_refusal_holds() -> None:
    world = World()
    asking = Asking(world)
    world.access.refuses = True
    assert asking.ask() == 403
    world.access.refuses = False
    assert asking.ask() == 200


class Later(TargetTokens):
    """Lends once its first token was waited for; the store holds a right to mint."""

    def __init__(self) -> None:
        super().__init__(lambda _: replace(usable("held"), credential=RIGHT), cast(TokenManager, None))
        self.found: Resolution = TokenPending(key=ObjectKey("a", "b"), reason=TOKEN_NOT_ISSUED, message="try again")

    def find(self, key: ObjectKey) -> Resolution:
        return self.found


def test_a_caller_who_is_known_waits_for_the_first_token_and_then_nobody_does() -> None:
    world = World()
    later = Later()
    world.checks = replace(world.checks, target_tokens=later)
    assert world.connect() is None
    (then,) = world.sockets.waits
    later.found = usable("minted")
    then(GRANTED)
    (decision,) = world.later
    assert status(decision) == 200
    assert isinstance(decision.decision, Inject)
    assert decision.decision.target.credential == BearerToken("minted")
    assert status(world.connect()) == 200


@pytest.mark.parametrize("answer", [REFUSED, None], ids=["who may not", "who is not known"])
def test_for_whom_may_not_no_token_is_waited_for(answer: AccessResult | None) -> None:
    class Access(SlowAccess):
        def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
            return answer

    world = World()
    world.checks = replace(world.checks, target_tokens=Later(), access=Access())
    decision = world.connect()
    assert (decision is None) is (answer is None)
    for then in world.sockets.waits:
        then(REFUSED)
    assert [status(each) for each in (*world.later, *([decision] if decision else []))] == [403]


def test_a_connection_has_one_place_and_gives_it_back_at_its_end() -> None:
    world = World()
    assert status(world.connect()) == 200
    assert status(world.connect()) == 429
    assert status(world.connect("u")) == 200
    for close in world.sockets.closes:
        close()
    assert not world.checks.connection_counts
    assert status(world.connect()) == 200


def test_connections_are_counted_by_caller() -> None:
    world = World()
    world.checks = replace(world.checks, policy=AccessPolicy(max_connections=2))
    for token in ("t", "t", "u"):
        assert status(world.connect(token)) == 200
    key = ObjectKey("a", "b")
    assert world.checks.connection_counts == {("t", key): 2, ("u", key): 1}
    world.sockets.closes[0]()
    assert world.checks.connection_counts == {("t", key): 1, ("u", key): 1}


def test_a_connection_is_known_once() -> None:
    world = World()
    admission = world.admission()
    head = RequestHead(b"GET", b"/api", 1, Headers([(b"Host", b"h:443")]), 0)
    for token in ("stranger", "t", "t"):
        admission.authorize_request(head, ConnectorRequest(ObjectKey("a", "b"), "h:443", token), world.later.append)
    assert world.sockets.authenticated_count == 1


def test_on_one_connection_each_request_is_counted_for_its_own_caller() -> None:
    world = World()
    admission = world.admission()
    head = RequestHead(b"GET", b"/api", 1, Headers([(b"Host", b"h:443")]), 0)
    for token in ("t", "t", "u"):
        asked = ConnectorRequest(ObjectKey("a", "b"), "h:443", token)
        assert status(admission.authorize_request(head, asked, world.later.append)) == 200
    assert world.checks.connection_counts == {("u", ObjectKey("a", "b")): 1}


def test_no_text_form_shows_a_token() -> None:
    assert "canary" not in repr(AuthorizationResult(denial.internal_error(), None, None, "canary"))
