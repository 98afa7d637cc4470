"""Environment of the refusals: a proxy, its targets, and changes while a tunnel is open."""

import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from prometheus_client.parser import text_string_to_metric_families

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Access, AccessResult, Identity, Refused, Unavailable
from connector_store.domain.config.settings import parse_access
from connector_store.domain.objects.models import Target as Usable
from connector_store.domain.objects.models import Unusable
from connector_store.folder.caller_tokens import TokenAccess
from connector_store.folder.signing_key import SigningKey
from connector_store.kube.access import KubeAccess
from connector_store.kube.client import KubeClient
from connector_store.resolver import ResolvedAddresses, Resolver
from lab.certificates import KeyPair, make_ca
from tests.addons.refusal_targets import running_targets
from tests.fakes.api_server import FakeApiServer, refusal
from tests.fakes.manifests import connector, secret, write
from tests.fakes.name_server import NameServer
from tests.fakes.proxy import PATIENCE, Proxy, running_proxy
from tests.fakes.target import FakeTarget
from tests.fakes.waiting import until

PREFIX = "/kubernetes/global"
AUDIENCE = "connectors-proxy"
DENIED = ("127.0.0.2", "127.0.0.3")
FADING = ObjectKey("team-a", "fading")
ON_GOOD = ("k8s", "prefixed", "nosecret", "noclass", "untrusted", "fading")
"""Connectors of the target that responds normally."""


class Checks:
    """`Access` of a folder with a clock of its own, or the one that a test puts in its place."""

    def __init__(self, confdir: Path) -> None:
        self.ahead = 0.0
        public = SigningKey.load_or_create(confdir).public_key
        self.tokens = TokenAccess(public, audience=AUDIENCE, recheck=30, now=lambda: time.time() + self.ahead)
        self.current: Access = self.tokens

    @property
    def revocation_count(self) -> int:
        return hash((self.ahead, id(self.current)))

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        return self.current.check_cached(token, key)

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        return await self.current.check(token, key, source_ip)

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        return await self.current.recheck_token(token, identity)

    async def recheck_use(
        self, token: str, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        return await self.current.recheck_use(token, identity, key)


class Names(Resolver):
    """Resolver for which `localhost` has only denied addresses."""

    async def resolve(self, host: str, port: int) -> ResolvedAddresses:
        return ResolvedAddresses(DENIED) if host == "localhost" else await super().resolve(host, port)


@dataclass(kw_only=True)
class World:
    """Proxy and targets. `targets` has each target by its Connector, `authorities` has those of all Connectors."""

    proxy: Proxy
    targets: Mapping[str, FakeTarget]
    authorities: Mapping[str, str]
    checks: Checks
    fading: tuple[dict[str, Any], dict[str, Any]]
    """Connector and Secret that tests may delete."""

    def heard(self) -> dict[str, list[bytes]]:
        """Return the bytes that each target received, by connection."""
        return {name: [bytes(each.received) for each in found.connections] for name, found in self.targets.items()}

    def counts(self) -> Counter[tuple[str, ...]]:
        """Return denials by reason, and requests by Connector and code, as a scrape shows them."""
        found: Counter[tuple[str, ...]] = Counter()
        for family in text_string_to_metric_families(self.proxy.scrape()):
            for sample in family.samples:
                if sample.name == "connector_denials_total":
                    found["denial", sample.labels["reason"]] += int(sample.value)
                elif sample.name == "connector_requests_total":
                    found["request", sample.labels["connector"], sample.labels["code"]] += int(sample.value)
        return found

    async def write_fading(self, *objects: dict[str, Any], until_it_is: type) -> None:
        if objects:
            write(self.proxy.folder, *objects, file="fading.yaml")
        else:
            (self.proxy.folder / "fading.yaml").unlink(missing_ok=True)
        await until(lambda: isinstance(self.proxy.context.store.get(FADING), until_it_is))


Meanwhile = Callable[[World], AbstractAsyncContextManager[None]]


@asynccontextmanager
async def unsynced(world: World) -> AsyncIterator[None]:
    store = world.proxy.context.store
    store.expect("later")
    try:
        yield
    finally:
        store.remove_source("later")


@asynccontextmanager
async def no_reviews(world: World) -> AsyncIterator[None]:
    """Access check of a cluster whose API server sends Retry-After with 7 s."""
    busy = FakeApiServer(faults=[lambda _: refusal(503, "ServiceUnavailable", "busy", {"Retry-After": "7"})])
    async with busy.serving(), KubeClient(busy.configuration) as client:
        world.checks.current = KubeAccess(client, audience=AUDIENCE, rule=parse_access("use:connectors/proxy"))
        try:
            yield
        finally:
            world.checks.current = world.checks.tokens


@asynccontextmanager
async def unread(world: World) -> AsyncIterator[None]:
    """The audit log is not read, and requests whose records cannot be written are refused."""
    access_context = world.proxy.context.access_context
    object.__setattr__(access_context, "is_audit_log_full", lambda: True)
    try:
        yield
    finally:
        object.__setattr__(access_context, "is_audit_log_full", None)


@asynccontextmanager
async def expired(world: World) -> AsyncIterator[None]:
    """Every valid token has expired."""
    world.checks.ahead = 7200
    try:
        yield
    finally:
        world.checks.ahead = 0


@asynccontextmanager
async def impatient(world: World) -> AsyncIterator[None]:
    """A target must answer within 3 s. Other targets have more time, because the machine may pause."""
    timeouts = world.proxy.context.timeouts
    object.__setattr__(timeouts, "connect", 3.0)
    try:
        yield
    finally:
        object.__setattr__(timeouts, "connect", PATIENCE)


@asynccontextmanager
async def one_open(world: World) -> AsyncIterator[None]:
    """The caller has as many tunnels to team-a/k8s as it may have."""
    stream = await world.proxy.tunnel(world.authorities["k8s"], f"team-a/k8s:{world.proxy.token('team-a/k8s')}")
    try:
        yield
    finally:
        stream.close()


@asynccontextmanager
async def deleted(world: World) -> AsyncIterator[None]:
    async with _restored(world):
        await world.write_fading(until_it_is=type(None))
        yield


@asynccontextmanager
async def moved(world: World) -> AsyncIterator[None]:
    """The Connector has another address."""
    old, held = world.fading
    async with _restored(world):
        write(
            world.proxy.folder, old | {"spec": old["spec"] | {"address": "https://h.example"}}, held, file="fading.yaml"
        )
        await until(lambda: "h.example" in str(getattr(world.proxy.context.store.get(FADING), "address", "")))
        yield


@asynccontextmanager
async def secretless(world: World) -> AsyncIterator[None]:
    async with _restored(world):
        await world.write_fading(world.fading[0], until_it_is=Unusable)
        yield


@asynccontextmanager
async def _restored(world: World) -> AsyncIterator[None]:
    try:
        yield
    finally:
        await world.write_fading(until_it_is=type(None))
        await world.write_fading(*world.fading, until_it_is=Usable)


@asynccontextmanager
async def running_world(home: Path, confdir: Path, *, watched: bool) -> AsyncIterator[World]:
    folder = home / "connectors"
    folder.mkdir()
    ca = make_ca("target CA")
    async with AsyncExitStack() as stack:
        targets = await stack.enter_async_context(running_targets(ca))
        unused = stack.enter_context(socket.socket())
        unused.bind(("127.0.0.1", 0))
        authorities = {name: f"127.0.0.1:{target.port}" for name, target in targets.items()}
        authorities |= dict.fromkeys(ON_GOOD, authorities["k8s"])
        authorities |= {"closed": f"127.0.0.1:{unused.getsockname()[1]}", "nameless": "no.invalid:6443"}
        authorities |= {"denied": f"{DENIED[0]}:6443", "denied-name": "localhost:6443"}
        fading = connector("fading", f"https://{authorities['fading']}", secret="fading"), secret("fading", ca=ca.pem)
        write(folder, *_objects(authorities, ca))
        write(folder, *fading, file="fading.yaml")
        proxy = await stack.enter_async_context(
            running_proxy(
                folder,
                confdir,
                connector_flows="on" if watched else "off",
                connector_connect_timeout=f"{PATIENCE:.0f}",
                connector_max_connections="1",
                connector_targets_deny=",".join(DENIED),
            )
        )
        name_server = await stack.enter_async_context(NameServer({}))
        checks = Checks(confdir)
        connections = proxy.master.addons.get("connections")
        connections.set_parts(
            replace(
                connections.parts(),
                context=replace(
                    proxy.context,
                    access_context=replace(proxy.context.access_context, access=checks),
                    resolver=Names(servers=[name_server.address]),
                ),
            )
        )
        yield World(proxy=proxy, targets=targets, authorities=authorities, checks=checks, fading=fading)


def _objects(authorities: Mapping[str, str], ca: KeyPair) -> list[dict[str, Any]]:
    made = [secret(ca=ca.pem), secret("other", ca=make_ca("other CA").pem)]
    for name, authority in authorities.items():
        if name == FADING.name:
            continue
        held = {"nosecret": "missing", "untrusted": "other"}.get(name, "secret")
        one = connector(name, f"https://{authority}{PREFIX if name == 'prefixed' else ''}", secret=held)
        if name == "noclass":
            one["spec"]["connectorClassName"] = "unknown"
        made.append(one)
    return made
