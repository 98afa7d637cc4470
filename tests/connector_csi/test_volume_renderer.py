"""Rendering: access first, then the Connector, and one failure for everything that a pod must not learn."""

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import pytest
import yaml
from grpc import StatusCode

from connector_csi.failure import Failure
from connector_csi.volume_renderer import VolumeContent, VolumeRenderer, VolumeSpec
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.callers.pod_token import TOKENS_KEY
from connector_store.domain.config.settings import Settings
from connector_store.domain.kubeconfig.volume_request import Pod
from connector_store.domain.objects.models import Address, Connector, InvalidConnector

POD = {
    "csi.storage.k8s.io/pod.name": "web",
    "csi.storage.k8s.io/pod.namespace": "team-a",
    "csi.storage.k8s.io/pod.uid": "uid",
    "csi.storage.k8s.io/serviceAccount.name": "default",
    "csi.storage.k8s.io/ephemeral": "true",
}
CONTEXT = POD | {"connector.name": "k8s", "configuration.names": "kubeconfig"}
SECRETS = {TOKENS_KEY: json.dumps({"connectors-proxy": {"token": "s3cret"}})}
KEY = ObjectKey("team-a", "k8s")
GRANTED = Granted(identity=Identity(user="u"))
NOT_ALLOWED = Refused(check="use", reason="no")


@dataclass
class FakeAccess:
    results: dict[ObjectKey, AccessResult] = field(default_factory=dict)
    checked_keys: list[ObjectKey] = field(default_factory=list)
    revocation_count: int = 0

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        raise AssertionError("the driver does not use the cache")

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        assert token == "s3cret"
        self.checked_keys.append(key)
        return self.results.get(key, GRANTED)

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        raise AssertionError("the driver has no streams")

    async def recheck_use(
        self, token: str, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        raise AssertionError("the driver has no streams")


def connector(key: ObjectKey = KEY, host: str = "target") -> Connector:
    return Connector(key=key, class_name="k8s", address=Address(host=host, port=6443))


@dataclass
class FakeCluster:
    settings: Settings = field(default_factory=Settings)
    access: FakeAccess = field(default_factory=FakeAccess)
    ca: bytes | None = b"PEM"
    synced: asyncio.Event = field(default_factory=asyncio.Event)
    stale_reason: str | None = None
    connectors: dict[ObjectKey, Connector | InvalidConnector] = field(default_factory=lambda: {KEY: connector()})

    foreign_services: set[ObjectKey] = field(default_factory=set)
    """Connectors whose Service is not the controller's."""
    loaded_keys: list[ObjectKey] = field(default_factory=list)
    load_blocks: bool = False

    async def load(self, keys: Iterable[ObjectKey]) -> None:
        self.loaded_keys += keys
        if self.load_blocks:
            await asyncio.Event().wait()

    def connector(self, key: ObjectKey) -> Connector | InvalidConnector | None:
        return self.connectors.get(key)

    def is_alias_verified(self, key: ObjectKey) -> bool:
        return key not in self.foreign_services and "." not in key.name


@dataclass
class FakeRefusedPods:
    """Access by policies and requests: `results` by Connector. Without a result, the pod is denied."""

    results: dict[ObjectKey, Failure | None] = field(default_factory=dict)
    calls: list[tuple[ObjectKey, bool]] = field(default_factory=list)
    """Connector, and whether the volume is new."""
    blocks: bool = False

    async def check(
        self, pod: Pod, key: ObjectKey, refusal: Refused, denied: Failure, *, is_new: bool
    ) -> Failure | None:
        assert pod.name == "web"
        self.calls.append((key, is_new))
        if self.blocks:
            await asyncio.Event().wait()
        return self.results.get(key, denied)


@pytest.fixture
def cluster() -> FakeCluster:
    cluster = FakeCluster()
    cluster.synced.set()
    return cluster


async def render(cluster: FakeCluster, context: dict[str, str] = CONTEXT) -> VolumeContent | Failure:
    renderer = VolumeRenderer(cluster, FakeRefusedPods())
    spec = renderer.parse(context, SECRETS)
    assert isinstance(spec, VolumeSpec)
    return await renderer.render(spec)


async def test_a_pod_with_the_right_gets_its_files(cluster: FakeCluster) -> None:
    content = await render(cluster)
    assert isinstance(content, VolumeContent)
    kubeconfig = yaml.safe_load(content.files["kubeconfig"])["clusters"][0]["cluster"]
    assert kubeconfig["proxy-url"] == "http://team-a%2Fk8s:s3cret@c-k8s.team-a.svc.cluster.local:80"
    assert kubeconfig["server"] == "https://target:6443"
    assert "s3cret" not in repr(content)


async def test_a_connector_that_cannot_be_read_is_unavailable_and_not_absent(cluster: FakeCluster) -> None:
    cluster.load_blocks = True
    renderer = VolumeRenderer(cluster, FakeRefusedPods(), sync_timeout=0.01)
    spec = renderer.parse(CONTEXT, SECRETS)
    assert isinstance(spec, VolumeSpec)
    failure = await renderer.render(spec)
    assert isinstance(failure, Failure)
    assert (failure.code, failure.is_final) == (StatusCode.UNAVAILABLE, False)
    assert cluster.loaded_keys == [KEY]


@pytest.mark.parametrize("exists", [True, False])
async def test_a_pod_without_the_right_learns_nothing(cluster: FakeCluster, exists: bool) -> None:
    cluster.access.results[KEY] = NOT_ALLOWED
    cluster.connectors = {KEY: connector()} if exists else {}
    failure = await render(cluster)
    assert cluster.loaded_keys == []
    assert isinstance(failure, Failure)
    assert failure.code is StatusCode.PERMISSION_DENIED
    assert 'connectors.connectors.alauda.io "k8s" in namespace "team-a" does not exist, or' in failure.message


async def test_a_missing_connector_gives_the_same_failure(cluster: FakeCluster) -> None:
    cluster.connectors = {}
    absent = await render(cluster)
    cluster.access.results[KEY] = NOT_ALLOWED
    assert await render(cluster) == absent


async def test_the_failure_names_all_refused_connectors(cluster: FakeCluster) -> None:
    for name in ("a", "b"):
        cluster.access.results[ObjectKey("n", name)] = NOT_ALLOWED
    failure = await render(cluster, POD | {"connectors": "k8s,n/a,n/b"})
    assert isinstance(failure, Failure)
    assert '"a"' in failure.message
    assert '"b"' in failure.message
    assert '"k8s"' not in failure.message


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        pytest.param(Refused(check="token", reason="expired"), StatusCode.UNAUTHENTICATED, "expired", id="token"),
        pytest.param(Unavailable(reason="down"), StatusCode.UNAVAILABLE, "down", id="API server"),
    ],
)
async def test_a_failed_review_is_reported(
    cluster: FakeCluster, answer: AccessResult, code: StatusCode, text: str
) -> None:
    cluster.access.results[KEY] = answer
    failure = await render(cluster, POD | {"connectors": "k8s,other"})
    assert isinstance(failure, Failure)
    assert failure.code is code
    assert text in failure.message
    assert cluster.access.checked_keys == [KEY]


async def test_without_a_ca_the_volume_is_unavailable(cluster: FakeCluster) -> None:
    cluster.ca = None
    failure = await render(cluster)
    assert isinstance(failure, Failure)
    assert failure.code is StatusCode.UNAVAILABLE
    assert 'configmaps "connectors-proxy-ca" in namespace "connectors-system"' in failure.message


async def test_before_the_first_list_the_driver_is_unavailable() -> None:
    failure = await VolumeRenderer(FakeCluster(), FakeRefusedPods(), sync_timeout=0.01).wait_synced()
    assert failure is not None
    assert failure.code is StatusCode.UNAVAILABLE


async def test_stale_state_is_reported(cluster: FakeCluster) -> None:
    cluster.stale_reason = "Services are old"
    failure = await VolumeRenderer(cluster, FakeRefusedPods()).wait_synced()
    assert failure is not None
    assert (failure.code, failure.message) == (StatusCode.UNAVAILABLE, "Services are old")


async def test_a_call_waits_for_a_driver_that_has_just_started() -> None:
    cluster = FakeCluster()
    waiting = asyncio.ensure_future(VolumeRenderer(cluster, FakeRefusedPods()).wait_synced())
    await asyncio.sleep(0)
    assert not waiting.done()
    cluster.synced.set()
    assert await waiting is None


async def test_an_unusable_connector_has_a_reason(cluster: FakeCluster) -> None:
    cluster.connectors[KEY] = InvalidConnector(
        key=KEY, class_name="k8s", reason="AddressInvalid", message="spec.address: bad"
    )
    failure = await render(cluster)
    assert isinstance(failure, Failure)
    assert (failure.code, failure.message) == (
        StatusCode.FAILED_PRECONDITION,
        "connectors.connectors.alauda.io team-a/k8s cannot be used: spec.address: bad",
    )


async def test_an_unserved_namespace_is_reported_to_pods_with_the_right(cluster: FakeCluster) -> None:
    cluster.settings = Settings(namespaces=("team-b",))
    failure = await render(cluster)
    assert isinstance(failure, Failure)
    assert failure.code is StatusCode.FAILED_PRECONDITION
    assert 'namespace "team-a" is not served; add it to namespaces' in failure.message
    cluster.access.results[KEY] = NOT_ALLOWED
    refused = await render(cluster)
    assert isinstance(refused, Failure)
    assert "is not served" not in refused.message


async def test_a_name_without_a_service_uses_the_proxys_own(cluster: FakeCluster) -> None:
    key = ObjectKey("team-a", "a.b")
    cluster.connectors[key] = connector(key)
    content = await render(cluster, POD | {"connector.name": "a.b"})
    assert isinstance(content, VolumeContent)
    assert content.files["connector.status.proxyAddress"] == (
        b"http://connectors-proxy.connectors-system.svc.cluster.local"
    )
    assert content.unverified_aliases == ()


async def test_of_many_refusals_a_few_are_reported(cluster: FakeCluster) -> None:
    names = [f"n/c{number}" for number in range(32)]
    for name in names:
        cluster.access.results[ObjectKey.parse(name)] = NOT_ALLOWED
    failure = await render(cluster, POD | {"connectors": ",".join(names)})
    assert isinstance(failure, Failure)
    assert failure.message.endswith("; and 29 more")
    assert len(cluster.access.checked_keys) == 32


async def test_attributes_without_effect_are_reported(cluster: FakeCluster) -> None:
    spec = VolumeRenderer(cluster, FakeRefusedPods()).parse(
        CONTEXT | {"configuration.params": '{"kubeconfig": {}}'}, SECRETS
    )
    assert isinstance(spec, VolumeSpec)
    assert spec.ignored == ("configuration.params: no configuration has parameters",)
    twice = VolumeRenderer(cluster, FakeRefusedPods()).parse(CONTEXT | {TOKENS_KEY: "s3cret"}, SECRETS)
    assert isinstance(twice, VolumeSpec)
    assert twice.ignored == (f"{TOKENS_KEY}: kubelet sends its own",)
    from_old_kubelet = VolumeRenderer(cluster, FakeRefusedPods()).parse(CONTEXT | SECRETS, {})
    assert isinstance(from_old_kubelet, VolumeSpec)
    assert from_old_kubelet.ignored == ()


async def test_a_foreign_service_is_not_in_the_files(cluster: FakeCluster) -> None:
    cluster.foreign_services.add(KEY)
    content = await render(cluster)
    assert isinstance(content, VolumeContent)
    assert content.unverified_aliases == (KEY,)
    for name, file in content.files.items():
        assert b"c-k8s" not in file, name
    assert b"@connectors-proxy.connectors-system.svc.cluster.local:80" in content.files["kubeconfig"]


async def test_without_a_usable_connector_a_foreign_host_is_removed(cluster: FakeCluster) -> None:
    other = ObjectKey("team-a", "other")
    cluster.connectors[other] = connector(other)
    renderer = VolumeRenderer(cluster, FakeRefusedPods())
    spec = renderer.parse(POD | {"connectors": "k8s,other", "configuration.names": "kubeconfig"}, SECRETS)
    assert isinstance(spec, VolumeSpec)
    before = await renderer.render(spec)
    assert isinstance(before, VolumeContent)
    assert b"c-other" in before.files["kubeconfig"]
    cluster.access.results = dict.fromkeys((KEY, other), NOT_ALLOWED)
    assert isinstance(await renderer.render(spec, before.endpoints), Failure)
    cluster.foreign_services.add(other)
    after = await renderer.render(spec, before.endpoints)
    assert isinstance(after, VolumeContent)
    assert b"c-k8s" in after.files["kubeconfig"]
    assert b"c-other" not in after.files["kubeconfig"]
    assert set(after.problems) == {KEY, other}
    cluster.settings = Settings(proxy_service=None)
    without_proxy = await renderer.render(spec, before.endpoints)
    assert isinstance(without_proxy, Failure)
    assert without_proxy.code is StatusCode.PERMISSION_DENIED


async def test_without_a_proxy_service_the_volume_fails(cluster: FakeCluster) -> None:
    cluster.settings = Settings(proxy_service=None)
    failure = await render(cluster)
    assert isinstance(failure, Failure)
    assert failure.code is StatusCode.FAILED_PRECONDITION
    assert "proxy-service" in failure.message


async def test_inputs_change_with_token_ca_address_and_service_only(cluster: FakeCluster) -> None:
    renderer = VolumeRenderer(cluster, FakeRefusedPods())

    def inputs(token: str = "s3cret") -> object:
        spec = renderer.parse(CONTEXT, {TOKENS_KEY: json.dumps({"connectors-proxy": {"token": token}})})
        assert isinstance(spec, VolumeSpec)
        inputs = renderer.compute_inputs(spec)
        assert token not in repr(inputs)
        return inputs

    before = inputs()
    cluster.connectors[KEY] = Connector(
        key=KEY, class_name="k8s", address=Address(host="target", port=6443), generation=9
    )
    assert inputs() == before
    assert inputs("n3w-token") != before
    cluster.connectors[KEY] = connector(host="moved")
    assert inputs() != before
    cluster.connectors[KEY] = connector()
    cluster.foreign_services.add(KEY)
    assert inputs() != before
    cluster.foreign_services.clear()
    cluster.ca = b"other"
    assert inputs() != before


def test_wrong_attributes_and_a_missing_token_are_reported(cluster: FakeCluster) -> None:
    renderer = VolumeRenderer(cluster, FakeRefusedPods())
    wrong = renderer.parse(POD, SECRETS)
    assert isinstance(wrong, Failure)
    assert wrong.code is StatusCode.INVALID_ARGUMENT
    assert wrong.message.startswith("volumeAttributes: connector.name: is missing")
    without = renderer.parse(CONTEXT, {})
    assert isinstance(without, Failure)
    assert without.code is StatusCode.FAILED_PRECONDITION
    assert "spec.tokenRequests" in without.message


OTHER = ObjectKey("team-a", "other")
DENIED = Failure(code=StatusCode.PERMISSION_DENIED, message="joe denied the request", is_decided=True)
WAITING = Failure(code=StatusCode.PERMISSION_DENIED, message="waiting for approval")
SEVERAL = POD | {"connectors": "k8s,other"}


async def render_refused(
    cluster: FakeCluster,
    results: dict[ObjectKey, Failure | None],
    previous_endpoints: dict[str, tuple[str, str]] | None = None,
    *,
    sync_timeout: float = 10.0,
) -> VolumeContent | Failure:
    """Render a volume with two Connectors, of which the API server lets the pod use none."""
    cluster.access.results = {KEY: NOT_ALLOWED, OTHER: NOT_ALLOWED}
    cluster.connectors[OTHER] = connector(OTHER)
    refused_pods = FakeRefusedPods(results, blocks=sync_timeout < 1)
    renderer = VolumeRenderer(cluster, refused_pods, sync_timeout=sync_timeout)
    spec = renderer.parse(SEVERAL, SECRETS)
    assert isinstance(spec, VolumeSpec)
    content = await renderer.render(spec, previous_endpoints)
    assert refused_pods.calls == [(key, previous_endpoints is None) for key in (KEY, OTHER)]
    return content


async def test_a_pod_that_a_policy_or_a_request_lets_in_gets_its_files(cluster: FakeCluster) -> None:
    content = await render_refused(cluster, {KEY: None, OTHER: None})
    assert isinstance(content, VolumeContent)
    assert content.problems == {}
    assert cluster.loaded_keys == [KEY, OTHER]


async def test_a_pod_waits_for_all_of_its_connectors(cluster: FakeCluster) -> None:
    assert await render_refused(cluster, {KEY: None, OTHER: WAITING}) == WAITING


async def test_after_a_denial_a_new_volume_has_no_files(cluster: FakeCluster) -> None:
    content = await render_refused(cluster, {KEY: WAITING, OTHER: DENIED})
    assert isinstance(content, VolumeContent)
    assert (content.files, content.endpoints) == ({}, {})
    assert content.problems == {KEY: WAITING, OTHER: DENIED}
    assert await render_refused(cluster, {KEY: WAITING, OTHER: DENIED}, {}) == content


async def test_after_the_end_of_an_access_the_volume_keeps_its_files(cluster: FakeCluster) -> None:
    published = await render_refused(cluster, {KEY: None, OTHER: None})
    assert isinstance(published, VolumeContent)
    endpoints = dict(published.endpoints)
    content = await render_refused(cluster, {KEY: None, OTHER: DENIED}, endpoints)
    assert isinstance(content, VolumeContent)
    assert content.problems == {OTHER: DENIED}
    assert content.files
    assert await render_refused(cluster, {KEY: DENIED, OTHER: DENIED}, endpoints) == Failure(
        code=StatusCode.PERMISSION_DENIED, message="joe denied the request; joe denied the request"
    )


async def test_a_check_of_requests_that_fails_is_not_a_refusal(cluster: FakeCluster) -> None:
    away = Failure(code=StatusCode.UNAVAILABLE, message="away")
    assert await render_refused(cluster, {KEY: None, OTHER: away}) == away
    blocked = await render_refused(cluster, {}, sync_timeout=0.01)
    assert isinstance(blocked, Failure)
    assert blocked.code is StatusCode.UNAVAILABLE
