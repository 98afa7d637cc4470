"""Judgement of an installation, by what the API server and the pods report.

Each function returns a detail for the user, or raises CheckFailedError or CheckSkippedError. `cluster_checks` reads.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from connector_store.domain.base.expiry import format_relative_time
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.proxy_service import Service, alias_service_name, is_alias_service
from connector_store.kube.server_clock import MAX_OFFSET
from connectorctl.diagnosis import CheckFailedError, CheckSkippedError

OLDEST: Final = 30
"""Minor version of the oldest Kubernetes that the chart accepts: `kubeVersion` in Chart.yaml."""
OLDEST_WITHOUT_COMPONENT: Final = 35
"""Minor version of Kubernetes that has CSIDriver.spec.serviceAccountTokenInSecrets."""
MAX_NAMES: Final = 5
"""Maximum number of names in a detail."""
PROXY, CONTROLLER, DRIVER = "connectors-proxy", "connectors-controller", "connectors-csi"
_VIRTUAL_LABELS: Final = (("type", "virtual-kubelet"), ("eks.amazonaws.com/compute-type", "fargate"))

Metrics = Mapping[str, Sequence[float]]
"""Values of the metrics of one pod, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramPod:
    """Pod of the proxy, the controller or the driver. `program` is the value of its label app.kubernetes.io/name."""

    key: ObjectKey
    program: str
    version: str
    account: str
    node: str
    is_ready: bool
    node_selector: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """Right that a program needs. `namespace` is empty for all namespaces."""

    program: str
    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""

    def __str__(self) -> str:
        resource = "/".join(part for part in (self.resource, self.subresource) if part)
        resource = f"{resource}.{self.group}" if self.group else resource
        name = f' "{self.name}"' if self.name else ""
        place = f" in namespace {self.namespace}" if self.namespace else ""
        return f"{self.program} may not {self.verb} {resource}{name}{place}"


def parse_pod(raw: Mapping[str, Any]) -> ProgramPod | None:
    """Parse a pod of the product. Return None if it is being deleted, or has run to its end."""
    metadata, spec, status = raw["metadata"], raw.get("spec") or {}, raw.get("status") or {}
    if metadata.get("deletionTimestamp") or status.get("phase") in ("Succeeded", "Failed"):
        return None
    labels = metadata.get("labels") or {}
    conditions = {each.get("type"): each.get("status") for each in status.get("conditions") or ()}
    return ProgramPod(
        key=ObjectKey(metadata["namespace"], metadata["name"]),
        program=labels.get("app.kubernetes.io/name", ""),
        version=labels.get("app.kubernetes.io/version", ""),
        account=spec.get("serviceAccountName", ""),
        node=spec.get("nodeName", ""),
        is_ready=conditions.get("Ready") == "True",
        node_selector=spec.get("nodeSelector") or {},
    )


def rights_of(system: str, namespaces: Collection[str] | None) -> tuple[Right, ...]:
    """Return rights without which a program does nothing. `namespaces` are those that it serves, or None for all."""
    served = ("",) if namespaces is None else tuple(sorted(namespaces))
    connectors, reviews = "connectors.alauda.io", "authorization.k8s.io"
    return (
        Right(program=PROXY, verb="create", group="authentication.k8s.io", resource="tokenreviews"),
        Right(program=PROXY, verb="create", group=reviews, resource="subjectaccessreviews"),
        Right(program=PROXY, verb="watch", group=connectors, resource="connectorclasses"),
        Right(program=PROXY, verb="watch", group="rbac.authorization.k8s.io", resource="clusterroles"),
        Right(program=PROXY, verb="watch", group="", resource="namespaces"),
        Right(program=PROXY, verb="watch", group="", resource="secrets", namespace=system),
        *(
            Right(program=program, verb="watch", group=group, resource=resource, namespace=namespace)
            for namespace in served
            for program, group, resource in (
                (PROXY, connectors, "connectors"),
                (PROXY, "", "secrets"),
                (PROXY, connectors, "accesslocks"),
                (CONTROLLER, "", "secrets"),
                (CONTROLLER, "", "services"),
            )
        ),
        Right(program=CONTROLLER, verb="watch", group=connectors, resource="connectors"),
        Right(program=CONTROLLER, verb="patch", group=connectors, resource="connectors", subresource="status"),
        Right(program=CONTROLLER, verb="patch", group="", resource="secrets", namespace=system,
              name="connectors-proxy-ca"),
        Right(program=DRIVER, verb="create", group="authentication.k8s.io", resource="tokenreviews"),
        Right(program=DRIVER, verb="create", group=reviews, resource="subjectaccessreviews"),
        Right(program=DRIVER, verb="watch", group=connectors, resource="connectors"),
    )  # fmt: skip


def judge_kubernetes(version: Mapping[str, Any]) -> str:
    """`version` is the answer of GET /version."""
    text = str(version.get("gitVersion", "of an unknown version"))
    digits = "".join(filter(str.isdigit, str(version.get("minor", ""))))
    minor = int(digits or 0)
    if version.get("major") != "1" or minor >= OLDEST_WITHOUT_COMPONENT:
        return f"Kubernetes {text}"
    if minor < OLDEST:
        raise CheckFailedError(f"Kubernetes {text} is older than 1.{OLDEST}", "upgrade Kubernetes")
    return f"Kubernetes {text}, which needs the component k8s-1.34"


def judge_definitions(expected: Collection[str], served: Collection[str]) -> str:
    """Compare the plurals of our API group."""
    missing = sorted(set(expected) - set(served))
    if missing:
        raise CheckFailedError(
            f"the API server does not know {_join(missing)}", "apply them: kubectl apply -k deploy/crds"
        )
    return f"the API server knows all {len(expected)} kinds"


def judge_programs(pods: Sequence[ProgramPod]) -> str:
    """A proxy and a controller must be ready, and no pod may be waiting."""
    for program in (PROXY, CONTROLLER):
        if not any(pod.program == program for pod in pods):
            raise CheckFailedError(f"{program} has no pods", "install the product as docs/install.md says")
    # Drivers have a check of their own, which names nodes.
    waiting = [str(pod.key) for pod in pods if not pod.is_ready and pod.program != DRIVER]
    if waiting:
        first = waiting[0].partition("/")
        raise CheckFailedError(
            f"not ready: {_join(waiting)}", f"see why: kubectl describe pod -n {first[0]} {first[2]}, and its log"
        )
    counts = (f"{sum(pod.program == name for pod in pods)} of {name}" for name in (PROXY, CONTROLLER, DRIVER))
    return "pods: " + ", ".join(counts)


def judge_versions(pods: Sequence[ProgramPod], own_version: str) -> str:
    """A release works with the one before and the one after it."""
    if not pods:
        raise CheckSkippedError("no program runs")
    by_program = {name: sorted({pod.version for pod in pods if pod.program == name}) for name in _programs(pods)}
    text = ", ".join(f"{name} {' and '.join(each or 'unknown' for each in by_program[name])}" for name in by_program)
    releases = {_release(pod.version) for pod in pods} - {None}
    own = _release(own_version)
    releases |= {own} - {None}
    majors = {release[0] for release in releases if release is not None}
    minors = [release[1] for release in releases if release is not None]
    if len(majors) > 1 or (minors and max(minors) - min(minors) > 1):
        raise CheckFailedError(
            f"{text}, connectorctl {own_version}: more than one release apart", "upgrade one release at a time"
        )
    return f"{text}, connectorctl {own_version}"


def judge_expiry(what: str, expiries: Sequence[float], now: float, warning: float, next_step: str) -> str:
    """The first of `expiries`, in Unix seconds, must be later than `warning` seconds from now."""
    if not expiries:
        raise CheckSkippedError(f"the expiry of {what} is not known")
    remaining = min(expiries) - now
    detail = f"{what} {'expires' if remaining > 0 else 'expired'} {format_relative_time(remaining)}"
    if remaining < warning:
        raise CheckFailedError(detail, next_step)
    return detail


def judge_settings(metrics: Mapping[str, Metrics]) -> str:
    """No program may have refused the settings."""
    values = _values_by_pod(metrics, "connector_settings_rejected")
    rejecting = sorted(pod for pod, each in values.items() if max(each) > 0)
    if rejecting:
        raise CheckFailedError(
            f"{_join(rejecting)} cannot use a setting, and keeps the previous ones", "read the log, which names the key"
        )
    return "all programs use the settings of the ConfigMap"


def judge_watches(metrics: Mapping[str, Metrics], stale_after: float) -> str:
    """No watch may be older than `stale_after` seconds."""
    oldest = {pod: max(each) for pod, each in _values_by_pod(metrics, "connector_watch_age_seconds").items()}
    stale = sorted(pod for pod, age in oldest.items() if age > stale_after)
    if stale:
        raise CheckFailedError(
            f"the data of {_join(stale)} is up to {max(oldest.values()):.0f} s old",
            "read the pod's log, and see that it reaches the API server",
        )
    return f"all data is younger than {max(1, int(max(oldest.values())) + 1)} s"


def judge_clocks(metrics: Mapping[str, Metrics]) -> str:
    """The clock of each pod's node must agree with the API server's."""
    values = _values_by_pod(metrics, "connector_clock_offset_seconds")
    offsets = {pod: max(each, key=abs) for pod, each in values.items()}
    wrong = sorted(pod for pod, offset in offsets.items() if abs(offset) > MAX_OFFSET)
    if wrong:
        raise CheckFailedError(
            f"the clock of {_join(wrong)} differs from the API server's by {offsets[wrong[0]]:+.0f} s",
            "set the clock of the pod's node",
        )
    return f"all clocks agree with the API server's, within {MAX_OFFSET:.0f} s"


def judge_rights(refused: Iterable[Right], count: int) -> str:
    """`refused` are those of `count` rights that the API server does not grant."""
    if not count:
        raise CheckSkippedError("no program runs")
    missing = [str(right) for right in refused]
    if missing:
        raise CheckFailedError(
            "; ".join(missing[:MAX_NAMES]) + (f"; and {len(missing) - MAX_NAMES} more" * (len(missing) > MAX_NAMES)),
            "apply deploy/rbac, deploy/system and deploy/csi, or the chart, of the version that runs",
        )
    return f"the programs have all {count} rights that were checked"


def judge_nodes(nodes: Sequence[Mapping[str, Any]], pods: Sequence[ProgramPod]) -> str:
    """Each Linux node that the driver's node selector includes must have a ready driver."""
    drivers = [pod for pod in pods if pod.program == DRIVER]
    if not drivers:
        raise CheckSkippedError("the driver is not installed, or has no pod yet")
    eligible = [node["metadata"]["name"] for node in nodes if _is_eligible(node, drivers[0].node_selector)]
    ready = {pod.node for pod in drivers if pod.is_ready}
    missing = sorted(set(eligible) - ready)
    if missing:
        namespace = drivers[0].key.namespace
        raise CheckFailedError(
            f"no ready driver on {_join(missing)}; pods with a volume cannot start there",
            f"see why: kubectl get pods -n {namespace} -o wide; kubectl describe daemonset -n {namespace}",
        )
    return f"the driver is ready on {len(eligible)} of {len(eligible)} nodes"


def judge_services(connectors: Mapping[ObjectKey, str], services: Iterable[Service], host: str) -> str:
    """The Service `c-NAME` of each Connector must be the controller's. `connectors` has the UIDs."""
    by_service = {
        ObjectKey(key.namespace, name): key for key in connectors if (name := alias_service_name(key.name)) is not None
    }
    foreign = [
        str(service.key)
        for service in services
        if (key := by_service.get(service.key)) is not None
        and not is_alias_service(service, key, connectors[key], host)
    ]
    if foreign:
        raise CheckFailedError(
            f"{_join(sorted(foreign))} is not the controller's, and callers could send their tokens to it",
            "find out who created it, and delete it; the controller then creates its own",
        )
    return f"no Service of another owner has the name of one of {len(connectors)} Connectors"


def _programs(pods: Sequence[ProgramPod]) -> list[str]:
    return [name for name in (PROXY, CONTROLLER, DRIVER) if any(pod.program == name for pod in pods)]


def _release(version: str) -> tuple[int, int] | None:
    """Return major and minor version, or None if it is not a version."""
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def _values_by_pod(metrics: Mapping[str, Metrics], name: str) -> dict[str, Sequence[float]]:
    values = {pod: each[name] for pod, each in metrics.items() if each.get(name)}
    if not values:
        raise CheckSkippedError(f"no pod reports {name}")
    return values


def _is_eligible(node: Mapping[str, Any], selector: Mapping[str, str]) -> bool:
    labels = node["metadata"].get("labels") or {}
    is_virtual = any(labels.get(name) == value for name, value in _VIRTUAL_LABELS)
    is_linux = labels.get("kubernetes.io/os", "linux") == "linux"
    return is_linux and not is_virtual and all(labels.get(name) == value for name, value in selector.items())


def _join(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(names[:MAX_NAMES]) + more
