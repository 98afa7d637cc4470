"""Checks of `connectorctl doctor` without a kubeconfig: the installation in a cluster, read with the user's rights."""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography import x509
from prometheus_client.parser import text_string_to_metric_families

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import CONFIG_MAP, Settings, environment_name, parse_settings
from connector_store.domain.grants.admission import ADMISSION_CONFIG_MAP
from connector_store.domain.kubeconfig.proxy_service import parse_service
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import (
    ACCESS_APPROVALS,
    ACCESS_LOCKS,
    ACCESS_POLICIES,
    ACCESS_REQUESTS,
    CONFIG_MAPS,
    CONNECTOR_CLASSES,
    CONNECTORS,
    GROUP,
    PODS,
    SERVICES,
    SUBJECT_ACCESS_REVIEWS,
    VALIDATING_ADMISSION_POLICIES,
    VALIDATING_ADMISSION_POLICY_BINDINGS,
    Resource,
)
from connector_store.version import VERSION
from connectorctl import access_health, cluster_health
from connectorctl.access_cluster import may
from connectorctl.cluster_health import CONTROLLER, PROXY, Metrics, ProgramPod, Right
from connectorctl.diagnosis import CheckFailedError, CheckSkippedError, HealthCheck
from connectorctl.proxy_sessions import get_from_pod

MAX_REVIEWS: Final = 20
"""Maximum number of SubjectAccessReviews at the same time. 500 namespaces need 2,500."""
TIMEOUT: Final = 30.0
"""Seconds for one check."""
ADMIN_PORT: Final = 9091
"""Port of the metrics in each pod."""
MAX_PODS: Final = 20
"""Maximum number of pods whose metrics are read."""
PART_OF: Final = "app.kubernetes.io/part-of=kubernetes-connector"
CA_NAME: Final = "connectors-proxy-ca"
"""ConfigMap in the system namespace with the CA that callers trust."""
CA_WARNING: Final = 30 * 86400
"""Seconds before the expiry of the CA, as in the alert ConnectorCAEnds. The controller renews its own CA earlier."""
CERTIFICATE_WARNING: Final = 14 * 86400
"""Seconds before the expiry of a certificate that a proxy serves, as in the alert ConnectorCertificateExpires."""
_ACCESS_DEFINITIONS: Final = (ACCESS_POLICIES, ACCESS_REQUESTS, ACCESS_APPROVALS, ACCESS_LOCKS)
"""Kinds of access requests. The name of the admission policy of each is that of its definition."""
_DEFINITIONS: Final = (CONNECTORS, CONNECTOR_CLASSES, *_ACCESS_DEFINITIONS)
_NODES: Final = Resource("", "v1", "nodes", "Node")


@dataclass(kw_only=True)
class ClusterSubject:
    """Installation to check. The first checks fill in the rest."""

    client: KubeClient
    shared_settings: Settings
    """Settings of the installation: those of this process until the ConfigMap is read."""
    pods: Sequence[ProgramPod] = ()
    metrics: Mapping[str, Metrics] = field(default_factory=dict)
    """Metrics by pod."""


async def _check_api_server(subject: ClusterSubject) -> str:
    return cluster_health.judge_kubernetes(await subject.client.get("/version"))


async def _check_definitions(subject: ClusterSubject) -> str:
    discovery = await subject.client.find(f"/apis/{GROUP}/v1alpha1") or {}
    resources = discovery.get("resources") or []
    return cluster_health.judge_definitions(
        [each.plural for each in _DEFINITIONS], [str(each.get("name")) for each in resources]
    )


async def _check_programs(subject: ClusterSubject) -> str:
    raw_pods = await subject.client.list_objects(PODS.path(), {"labelSelector": PART_OF})
    subject.pods = [pod for pod in map(cluster_health.parse_pod, raw_pods) if pod is not None]
    return cluster_health.judge_programs(subject.pods)


async def _check_versions(subject: ClusterSubject) -> str:
    return cluster_health.judge_versions(subject.pods, VERSION)


async def _check_settings(subject: ClusterSubject) -> str:
    path = CONFIG_MAPS.path(subject.shared_settings.system_namespace, CONFIG_MAP)
    environment = {environment_name("system-namespace"): subject.shared_settings.system_namespace}
    try:
        data = (await subject.client.get(path)).get("data") or {}
        settings = parse_settings(explicit={}, environ=environment, config_map=data, in_cluster=True)
    except ParseError as error:
        raise CheckFailedError(str(error), f"correct the key of the ConfigMap {CONFIG_MAP}") from None
    subject.shared_settings = settings
    unknown = f"; unknown keys: {', '.join(settings.unknown_keys)}" if settings.unknown_keys else ""
    return f"the ConfigMap {CONFIG_MAP} can be read{unknown}"


async def _check_ca(subject: ClusterSubject) -> str:
    config_map = await subject.client.get(CONFIG_MAPS.path(subject.shared_settings.system_namespace, CA_NAME))
    pem = str((config_map.get("data") or {}).get("ca.crt", ""))
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        raise CheckFailedError(
            f"the ConfigMap {CA_NAME} has no certificate in ca.crt", "read the log of the controller"
        ) from None
    # While a CA is replaced, there are two. The new one is the later one.
    expiry = max(each.not_valid_after_utc.timestamp() for each in certificates)
    return cluster_health.judge_expiry(
        "the proxy's CA", [expiry], time.time(), CA_WARNING, "do what docs/runbooks.md says for ConnectorCAEnds"
    )


async def _check_metrics(subject: ClusterSubject) -> str:
    pods = [pod for pod in subject.pods if pod.program in (PROXY, CONTROLLER)][:MAX_PODS]
    answers = await asyncio.gather(*(_read_metrics(subject.client, pod.key) for pod in pods))
    subject.metrics = {str(pod.key): answer for pod, answer in zip(pods, answers, strict=True) if answer is not None}
    if not subject.metrics:
        raise CheckSkippedError("no pod answers by port-forward; you need the right to create pods/portforward")
    return f"{len(subject.metrics)} of {len(pods)} proxies and controllers answer by port-forward"


async def _check_watches(subject: ClusterSubject) -> str:
    return cluster_health.judge_watches(subject.metrics, subject.shared_settings.stale_after)


async def _check_settings_in_use(subject: ClusterSubject) -> str:
    return cluster_health.judge_settings(subject.metrics)


async def _check_clocks(subject: ClusterSubject) -> str:
    return cluster_health.judge_clocks(subject.metrics)


async def _check_certificates(subject: ClusterSubject) -> str:
    name = "connector_served_certificate_expiry_timestamp_seconds"
    # 0: the proxy has served none yet.
    expiries = [value for each in subject.metrics.values() for value in each.get(name, ()) if value > 0]
    return cluster_health.judge_expiry(
        "the first certificate of a proxy", expiries, time.time(), CERTIFICATE_WARNING, "restart the proxies"
    )


async def _check_rights(subject: ClusterSubject) -> str:
    shared_settings = subject.shared_settings
    served = () if shared_settings.follows_role_bindings else shared_settings.namespaces
    accounts = {pod.program: f"system:serviceaccount:{pod.key.namespace}:{pod.account}" for pod in subject.pods}
    rights = [
        each for each in cluster_health.rights_of(shared_settings.system_namespace, served) if each.program in accounts
    ]
    places = asyncio.Semaphore(MAX_REVIEWS)

    async def is_allowed(right: cluster_health.Right) -> bool:
        async with places:
            return await _is_allowed(subject.client, accounts[right.program], right)

    allowed = await asyncio.gather(*map(is_allowed, rights))
    refused = [right for right, is_allowed in zip(rights, allowed, strict=True) if not is_allowed]
    return cluster_health.judge_rights(refused, len(rights))


async def _check_nodes(subject: ClusterSubject) -> str:
    return cluster_health.judge_nodes(await subject.client.list_objects(_NODES.path()), subject.pods)


async def _check_services(subject: ClusterSubject) -> str:
    if subject.shared_settings.proxy_host is None:
        raise CheckSkippedError("the setting proxy-service names no Service")
    connectors = {
        ObjectKey(raw["metadata"]["namespace"], raw["metadata"]["name"]): str(raw["metadata"].get("uid", ""))
        for raw in await subject.client.list_objects(CONNECTORS.path())
    }
    services = map(parse_service, await subject.client.list_objects(SERVICES.path()))
    return cluster_health.judge_services(connectors, services, subject.shared_settings.proxy_host)


async def _check_admission_policies(subject: ClusterSubject) -> str:
    policies = await subject.client.list_objects(VALIDATING_ADMISSION_POLICIES.path())
    bindings = await subject.client.list_objects(VALIDATING_ADMISSION_POLICY_BINDINGS.path())
    return access_health.judge_admission_policies(list(map(str, _ACCESS_DEFINITIONS)), policies, bindings)


async def _check_access_requests(subject: ClusterSubject) -> str:
    path = CONFIG_MAPS.path(subject.shared_settings.system_namespace, ADMISSION_CONFIG_MAP)
    return access_health.judge_admission_proof(await subject.client.find(path))


async def _check_own_rights(subject: ClusterSubject) -> str:
    system = subject.shared_settings.system_namespace
    may_approve = await may(subject.client, "create", ACCESS_APPROVALS) and await may(
        subject.client, "approve", ACCESS_POLICIES
    )
    # A lock in the system namespace holds for all namespaces.
    may_lock = await may(subject.client, "create", ACCESS_LOCKS, system)
    return access_health.describe_own_rights(may_approve=may_approve, may_lock=may_lock)


def _health_check(
    name: str, run: Callable[[ClusterSubject], Awaitable[str]], *needs: str
) -> HealthCheck[ClusterSubject]:
    async def run_bounded(subject: ClusterSubject) -> str:
        try:
            async with asyncio.timeout(TIMEOUT):
                return await run(subject)
        except ApiError as error:
            if error.status == 403:
                raise CheckSkippedError(f"you do not have the right: {error.message}") from None
            raise CheckFailedError(str(error), "see that the object exists and the API server answers") from None
        except TimeoutError:
            raise CheckFailedError(f"no answer within {TIMEOUT:g} s", "see that the API server answers") from None

    return HealthCheck(name=name, run=run_bounded, needs=needs)


CHECKS: Final = (
    _health_check("API server", _check_api_server),
    _health_check("definitions", _check_definitions, "API server"),
    _health_check("programs", _check_programs, "API server"),
    _health_check("versions", _check_versions, "API server"),
    _health_check("settings", _check_settings, "API server"),
    _health_check("CA", _check_ca, "API server"),
    _health_check("metrics", _check_metrics, "API server"),
    _health_check("settings in use", _check_settings_in_use, "API server"),
    _health_check("watches", _check_watches, "API server"),
    _health_check("clocks", _check_clocks, "API server"),
    _health_check("certificates", _check_certificates, "API server"),
    _health_check("rights", _check_rights, "API server"),
    _health_check("nodes", _check_nodes, "API server"),
    _health_check("Services", _check_services, "definitions"),
    _health_check("admission policies", _check_admission_policies, "definitions"),
    _health_check("access requests", _check_access_requests, "definitions"),
    _health_check("your rights", _check_own_rights, "definitions"),
)


async def _read_metrics(client: KubeClient, pod: ObjectKey) -> Metrics | None:
    """Return None if the pod does not answer."""
    with contextlib.suppress(ApiError, TimeoutError, ValueError):
        status, body = await get_from_pod(client, pod, ADMIN_PORT, "/metrics")
        if status == 200:
            return parse_metrics(body.decode("utf-8", "replace"))
    return None


def parse_metrics(text: str) -> Metrics:
    """Parse the Prometheus text format."""
    values: dict[str, list[float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values.setdefault(sample.name, []).append(sample.value)
    return values


async def _is_allowed(client: KubeClient, account: str, right: Right) -> bool:
    _, _, namespace, _ = account.split(":")
    attributes = {
        name: value
        for name in ("verb", "group", "resource", "subresource", "namespace", "name")
        if (value := getattr(right, name))
    }
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated"]
    review = {
        "apiVersion": SUBJECT_ACCESS_REVIEWS.api_version,
        "kind": SUBJECT_ACCESS_REVIEWS.kind,
        "spec": {"user": account, "groups": groups, "resourceAttributes": attributes},
    }
    answer = await client.create(SUBJECT_ACCESS_REVIEWS.path(), review)
    return bool(answer["status"].get("allowed"))
