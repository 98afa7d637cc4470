"""Options of the chart, compared with those of cert-manager's chart: ours for each, or the reason why there is none.

Most rows are rendered together, because each sets another value. The others change too much for that.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from lab.helm import Helm
from tests.cluster.deploy.rendering import Key, Objects, objects_in

CHART = Path(__file__).parents[3] / "charts" / "kubernetes-connector"
SYSTEM, CSI = "connectors-system", "connectors-csi"
PROXY = ("Deployment", SYSTEM, "connectors-proxy")
CONTROLLER = ("Deployment", SYSTEM, "connectors-controller")
NODES = ("DaemonSet", CSI, CSI)
SERVICE = ("Service", SYSTEM, "connectors-proxy")
MONITOR = ("ServiceMonitor", SYSTEM, "kubernetes-connector")
CONFIG = ("ConfigMap", SYSTEM, "connectors-config")
DIGEST = "sha256:" + "a" * 64
VOLUME = {"name": "ca", "secret": {"secretName": "ca"}}
MOUNT = {"name": "ca", "mountPath": "/ca", "readOnly": True}
SIDECAR = {"name": "helper", "image": "registry.example/helper:1"}
ALIAS = {"ip": "192.0.2.1", "hostnames": ["hub.example.com"]}
TAINT = {"key": "dedicated", "operator": "Exists"}
SPREAD = {"maxSkew": 1, "topologyKey": "rack", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
RULE = {"action": "labeldrop", "regex": "pod"}
TERM = {"matchExpressions": [{"key": "pool", "operator": "Exists"}]}
AFFINITY = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [TERM]}}}
EXTRA = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "extra", "namespace": "{{ .Release.Namespace }}"},
}


class Row(NamedTuple):
    """Values, and what they must change: a path of keys below an object, and its value there."""

    values: dict[str, Any]
    key: Key
    path: str
    expected: Any


def proxy(**values: Any) -> dict[str, Any]:
    return {"proxy": values}


def pods(**values: Any) -> dict[str, Any]:
    return {"pods": values}


POD, CONTAINER = "spec.template.spec", "spec.template.spec.containers.0"

TOGETHER: Mapping[str, Row] = {
    "global.imagePullSecrets": Row(
        {"image": {"pullSecrets": [{"name": "login"}]}}, NODES, f"{POD}.imagePullSecrets", [{"name": "login"}]
    ),
    "global.nodeSelector": Row(pods(nodeSelector={"pool": "a"}), CONTROLLER, f"{POD}.nodeSelector.pool", "a"),
    "global.commonLabels": Row({"commonLabels": {"team": "platform"}}, CONFIG, "metadata.labels.team", "platform"),
    "global.revisionHistoryLimit": Row(pods(revisionHistoryLimit=3), NODES, "spec.revisionHistoryLimit", 3),
    "global.priorityClassName": Row(pods(priorityClassName="high"), PROXY, f"{POD}.priorityClassName", "high"),
    "global.hostUsers": Row(proxy(hostUsers=False), PROXY, f"{POD}.hostUsers", False),
    "global.logLevel": Row(pods(logLevel="debug"), CONTROLLER, f"{CONTAINER}.args.-1", "--log-level=DEBUG"),
    "global.rbac.aggregateClusterRoles": Row(
        {"rbac": {"aggregate": False}},
        ("ClusterRole", "", "connectors-user"),
        "metadata.labels",
        {"app.kubernetes.io/version": "VERSION", "team": "platform"},
    ),
    "crds.keep": Row(
        {"crds": {"keep": False}},
        ("CustomResourceDefinition", "", "connectors.connectors.alauda.io"),
        "metadata.annotations",
        {},
    ),
    "replicaCount": Row({"controller": {"replicas": 3}}, CONTROLLER, "spec.replicas", 3),
    "strategy": Row(proxy(strategy={"type": "Recreate"}), PROXY, "spec.strategy", {"type": "Recreate"}),
    "podDisruptionBudget.maxUnavailable": Row(
        proxy(podDisruptionBudget={"maxUnavailable": "50%"}),
        ("PodDisruptionBudget", SYSTEM, "connectors-proxy"),
        "spec.maxUnavailable",
        "50%",
    ),
    "podDisruptionBudget.minAvailable": Row(
        {"controller": {"podDisruptionBudget": {"minAvailable": 1}}},
        ("PodDisruptionBudget", SYSTEM, "connectors-controller"),
        "spec",
        {
            "minAvailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": {"app.kubernetes.io/name": "connectors-controller"}},
        },
    ),
    "podDisruptionBudget.unhealthyPodEvictionPolicy": Row(
        proxy(podDisruptionBudget={"unhealthyPodEvictionPolicy": "IfHealthyBudget"}),
        ("PodDisruptionBudget", SYSTEM, "connectors-proxy"),
        "spec.unhealthyPodEvictionPolicy",
        "IfHealthyBudget",
    ),
    "image.repository": Row(
        {"image": {"repository": "registry.example/c"}}, PROXY, f"{CONTAINER}.image", f"registry.example/c@{DIGEST}"
    ),
    "image.digest": Row({"image": {"digest": DIGEST}}, NODES, f"{CONTAINER}.image", f"registry.example/c@{DIGEST}"),
    "image.pullPolicy": Row({"image": {"pullPolicy": "Always"}}, PROXY, f"{CONTAINER}.imagePullPolicy", "Always"),
    "serviceAccount.name": Row(
        {"controller": {"serviceAccount": {"name": "hub"}}}, CONTROLLER, f"{POD}.serviceAccountName", "hub"
    ),
    "serviceAccount.annotations": Row(
        {"controller": {"serviceAccount": {"annotations": {"role": "a"}}}},
        ("ServiceAccount", SYSTEM, "hub"),
        "metadata.annotations",
        {"role": "a"},
    ),
    "serviceAccount.labels": Row(
        {"controller": {"serviceAccount": {"labels": {"use": "a"}}}},
        ("ServiceAccount", SYSTEM, "hub"),
        "metadata.labels.use",
        "a",
    ),
    "config": Row({"settings": {"targets-deny": "10.96.0.0/12"}}, CONFIG, "data.targets-deny", "10.96.0.0/12"),
    "extraArgs": Row(
        proxy(extraArgs=["--set", "connector_recheck=10"]), PROXY, f"{CONTAINER}.args.-1", "connector_recheck=10"
    ),
    "extraContainers": Row(proxy(extraContainers=[SIDECAR]), PROXY, f"{POD}.containers.1", SIDECAR),
    "extraEnv": Row(
        pods(extraEnv=[{"name": "A", "value": "b"}]), NODES, f"{CONTAINER}.env.-1", {"name": "A", "value": "b"}
    ),
    "http_proxy": Row(
        {"controller": {"extraEnv": [{"name": "HTTPS_PROXY", "value": "http://192.0.2.1"}]}},
        CONTROLLER,
        f"{CONTAINER}.env.-1",
        {"name": "HTTPS_PROXY", "value": "http://192.0.2.1"},
    ),
    "resources": Row(
        {"csi": {"resources": {"limits": {"memory": "1Gi"}}}}, NODES, f"{CONTAINER}.resources.limits.memory", "1Gi"
    ),
    "securityContext": Row(pods(podSecurityContext={"fsGroup": 5}), PROXY, f"{POD}.securityContext.fsGroup", 5),
    "containerSecurityContext": Row(
        proxy(securityContext={"runAsUser": 1000660000}), PROXY, f"{CONTAINER}.securityContext.runAsUser", 1000660000
    ),
    "volumes": Row(pods(extraVolumes=[VOLUME]), NODES, f"{POD}.volumes.-1", VOLUME),
    "volumeMounts": Row(pods(extraVolumeMounts=[MOUNT]), CONTROLLER, f"{CONTAINER}.volumeMounts", [MOUNT]),
    "deploymentAnnotations": Row(
        pods(annotations={"reloader.example/auto": "true"}),
        NODES,
        "metadata.annotations",
        {"reloader.example/auto": "true"},
    ),
    "podAnnotations": Row(pods(podAnnotations={"a": "b"}), NODES, "spec.template.metadata.annotations.a", "b"),
    "podLabels": Row(pods(podLabels={"a": "b"}), PROXY, "spec.template.metadata.labels.a", "b"),
    "serviceAnnotations": Row(proxy(service={"annotations": {"a": "b"}}), SERVICE, "metadata.annotations", {"a": "b"}),
    "serviceLabels": Row(proxy(service={"labels": {"a": "b"}}), SERVICE, "metadata.labels.a", "b"),
    "serviceIPFamilyPolicy": Row(
        proxy(service={"ipFamilyPolicy": "PreferDualStack"}), SERVICE, "spec.ipFamilyPolicy", "PreferDualStack"
    ),
    "serviceIPFamilies": Row(
        proxy(service={"ipFamilies": ["IPv6", "IPv4"]}), SERVICE, "spec.ipFamilies", ["IPv6", "IPv4"]
    ),
    "serviceType": Row(proxy(service={"type": "LoadBalancer"}), SERVICE, "spec.type", "LoadBalancer"),
    "loadBalancerIP": Row(proxy(service={"loadBalancerIP": "192.0.2.9"}), SERVICE, "spec.loadBalancerIP", "192.0.2.9"),
    "podDnsPolicy": Row(pods(dnsPolicy="Default"), CONTROLLER, f"{POD}.dnsPolicy", "Default"),
    "podDnsConfig": Row(
        pods(dnsConfig={"nameservers": ["192.0.2.53"]}), PROXY, f"{POD}.dnsConfig", {"nameservers": ["192.0.2.53"]}
    ),
    "hostAliases": Row(pods(hostAliases=[ALIAS]), NODES, f"{POD}.hostAliases", [ALIAS]),
    "nodeSelector": Row(
        {"csi": {"nodeSelector": {"disk": "ssd"}}},
        NODES,
        f"{POD}.nodeSelector",
        {"disk": "ssd", "pool": "a", "kubernetes.io/os": "linux"},
    ),
    "affinity": Row({"controller": {"affinity": AFFINITY}}, CONTROLLER, f"{POD}.affinity", AFFINITY),
    "runtimeClassName": Row(proxy(runtimeClassName="gvisor"), PROXY, f"{POD}.runtimeClassName", "gvisor"),
    "tolerations": Row(pods(tolerations=[TAINT]), NODES, f"{POD}.tolerations", [TAINT, {"operator": "Exists"}]),
    "topologySpreadConstraints": Row(
        pods(topologySpreadConstraints=[SPREAD]), CONTROLLER, f"{POD}.topologySpreadConstraints", [SPREAD]
    ),
    "livenessProbe": Row(
        pods(livenessProbe={"failureThreshold": 9}),
        NODES,
        f"{CONTAINER}.livenessProbe",
        {"failureThreshold": 9, "httpGet": {"path": "/healthz", "port": "admin"}, "timeoutSeconds": 10},
    ),
    "readinessProbe": Row(
        pods(readinessProbe={"periodSeconds": 9}), PROXY, f"{CONTAINER}.readinessProbe.periodSeconds", 9
    ),
    "prometheus.servicemonitor.enabled": Row({"serviceMonitor": {"enabled": True}}, MONITOR, "kind", "ServiceMonitor"),
    "prometheus.servicemonitor.labels": Row(
        {"serviceMonitor": {"labels": {"release": "prometheus"}}}, MONITOR, "metadata.labels.release", "prometheus"
    ),
    "prometheus.servicemonitor.annotations": Row(
        {"serviceMonitor": {"annotations": {"a": "b"}}}, MONITOR, "metadata.annotations", {"a": "b"}
    ),
    "prometheus.servicemonitor.interval": Row(
        {"serviceMonitor": {"interval": "15s"}}, MONITOR, "spec.endpoints.0.interval", "15s"
    ),
    "prometheus.servicemonitor.scrapeTimeout": Row(
        {"serviceMonitor": {"scrapeTimeout": "9s"}}, MONITOR, "spec.endpoints.0.scrapeTimeout", "9s"
    ),
    "prometheus.servicemonitor.endpointAdditionalProperties": Row(
        {"serviceMonitor": {"relabelings": [RULE], "metricRelabelings": [RULE]}},
        MONITOR,
        "spec.endpoints.0.metricRelabelings",
        [RULE],
    ),
    "extraObjects": Row({"extraObjects": [EXTRA]}, ("ConfigMap", "default", "extra"), "metadata.name", "extra"),
}
"""By the name of cert-manager's option. The options of its webhook and cainjector have the same names."""

OURS: Mapping[str, Row] = {
    "proxy.service.trafficDistribution": Row(
        proxy(service={"trafficDistribution": "PreferSameZone"}), SERVICE, "spec.trafficDistribution", "PreferSameZone"
    ),
    "proxy.service.loadBalancerClass": Row(
        proxy(service={"loadBalancerClass": "example.com/lb"}), SERVICE, "spec.loadBalancerClass", "example.com/lb"
    ),
    "proxy.service.loadBalancerSourceRanges": Row(
        proxy(service={"loadBalancerSourceRanges": ["192.0.2.0/24"]}),
        SERVICE,
        "spec.loadBalancerSourceRanges",
        ["192.0.2.0/24"],
    ),
    "proxy.service.allocateLoadBalancerNodePorts": Row(
        proxy(service={"allocateLoadBalancerNodePorts": False}), SERVICE, "spec.allocateLoadBalancerNodePorts", False
    ),
    "proxy.service.externalTrafficPolicy": Row(
        proxy(service={"externalTrafficPolicy": "Local"}), SERVICE, "spec.externalTrafficPolicy", "Local"
    ),
    "csi.updateStrategy": Row(
        {"csi": {"updateStrategy": {"type": "OnDelete"}}}, NODES, "spec.updateStrategy", {"type": "OnDelete"}
    ),
    "csi.priorityClassName": Row(
        {"csi": {"priorityClassName": "nodes"}},
        ("ResourceQuota", CSI, CSI),
        "spec.scopeSelector.matchExpressions.0.values",
        ["system-node-critical", "nodes"],
    ),
    "pods.extraEnvFrom": Row(
        pods(extraEnvFrom=[{"secretRef": {"name": "a"}}]), PROXY, f"{CONTAINER}.envFrom", [{"secretRef": {"name": "a"}}]
    ),
    "pods.extraInitContainers": Row(pods(extraInitContainers=[SIDECAR]), NODES, f"{POD}.initContainers", [SIDECAR]),
    "pods.schedulerName": Row(pods(schedulerName="other"), NODES, f"{POD}.schedulerName", "other"),
    "pods.minReadySeconds": Row({"csi": {"minReadySeconds": 30}}, NODES, "spec.minReadySeconds", 30),
    "pods.startupProbe": Row(
        proxy(startupProbe={"failureThreshold": 90}), PROXY, f"{CONTAINER}.startupProbe.failureThreshold", 90
    ),
    "csi.terminationGracePeriodSeconds": Row(
        {"csi": {"terminationGracePeriodSeconds": 45}}, NODES, f"{POD}.terminationGracePeriodSeconds", 45
    ),
    "networkPolicy.metricsFrom": Row(
        {"networkPolicy": {"metricsFrom": ["monitoring", {"podSelector": {}}]}},
        ("NetworkPolicy", CSI, CSI),
        "spec.ingress.0.from",
        [
            {"namespaceSelector": {"matchLabels": {"connectors.alauda.io/metrics": "true"}}},
            {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}},
            {"podSelector": {}},
        ],
    ),
    "prometheusRule.annotations": Row(
        {"prometheusRule": {"enabled": True, "annotations": {"a": "b"}}},
        ("PrometheusRule", SYSTEM, "kubernetes-connector"),
        "metadata.annotations",
        {"a": "b"},
    ),
}
"""Options that cert-manager's chart does not have, by the name of ours."""


def _kinds(objects: Objects, *kinds: str) -> set[str]:
    return {kind for kind, _, _ in objects if kind in kinds}


ALONE: Mapping[str, tuple[dict[str, Any], Callable[[Objects], bool]]] = {
    "global.rbac.create": (
        {"rbac": {"create": False}, "namespaces": {"only": ["team-a"]}},
        lambda each: not _kinds(each, "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"),
    ),
    "crds.enabled": ({"crds": {"enabled": False}}, lambda each: not _kinds(each, "CustomResourceDefinition")),
    "podDisruptionBudget.enabled": (
        {"proxy": {"podDisruptionBudget": {"enabled": False}}},
        lambda each: (
            [key for key in each if key[0] == "PodDisruptionBudget"]
            == [("PodDisruptionBudget", SYSTEM, "connectors-controller")]
        ),
    ),
    "image.tag": (
        {"image": {"tag": "edge"}},
        lambda each: find(each[NODES], f"{CONTAINER}.image") == "localhost/kubernetes-connector:edge",
    ),
    "namespace": ({"namespaces": {"system": "platform"}}, lambda each: SYSTEM not in str(each)),
    "serviceAccount.create": (
        {"csi": {"serviceAccount": {"create": False, "name": "mine"}}},
        lambda each: (
            ("ServiceAccount", CSI, CSI) not in each
            and find(each[NODES], f"{POD}.serviceAccountName") == "mine"
            and find(each["ClusterRoleBinding", "", CSI], "subjects.0.name") == "mine"
        ),
    ),
    "networkPolicy.enabled": ({"networkPolicy": {"enabled": False}}, lambda each: not _kinds(each, "NetworkPolicy")),
    "cainjector.enabled": (
        {"csi": {"enabled": False}, "serviceMonitor": {"enabled": True}},
        lambda each: (
            not _kinds(each, "DaemonSet", "CSIDriver")
            and not [key for key in each if CSI in key]
            and find(each[MONITOR], "spec.namespaceSelector.matchNames") == [SYSTEM]
        ),
    ),
    "startupapicheck.enabled": (
        {"test": {"enabled": False}},
        lambda each: ("Pod", SYSTEM, "connectors-test") not in each,
    ),
}

NOT_OURS: Mapping[str, str] = {
    "global.podSecurityPolicy": "Kubernetes 1.25 removed it",
    "global.leaderElection": "the Lease is in the system namespace, and its times are fixed (decision 26)",
    "installCRDs": "deprecated there",
    "featureGates": "there are no feature gates",
    "maxConcurrentChallenges": "a function of cert-manager",
    "imageRegistry": "there is one image, and image.repository is its whole name",
    "imageNamespace": "see imageRegistry",
    "image.registry": "see imageRegistry",
    "image.name": "see imageRegistry",
    "clusterResourceNamespace": "a function of cert-manager",
    "fullnameOverride": "a cluster holds one installation, and roles, policies and pages have its names",
    "nameOverride": "see fullnameOverride",
    "serviceAccount.automountServiceAccountToken": "all programs need their token",
    "automountServiceAccountToken": "all programs need their token",
    "enableCertificateOwnerRef": "a function of cert-manager",
    "dns01RecursiveNameservers": "a function of cert-manager",
    "dns01RecursiveNameserversOnly": "a function of cert-manager",
    "disableAutoApproval": "a function of cert-manager",
    "approveSignerNames": "a function of cert-manager",
    "networkPolicy.ingress": "networkPolicy.metricsFrom adds peers, and callers can be everywhere",
    "networkPolicy.egress": "targets can be anywhere; the setting targets-deny limits them",
    "ingressShim": "a function of cert-manager",
    "acmesolver": "a function of cert-manager",
    "https_proxy": "see http_proxy",
    "no_proxy": "see http_proxy",
    "enableServiceLinks": "always false, because no program reads these variables",
    "prometheus.enabled": "metrics are always served; the NetworkPolicy limits who reads them",
    "prometheus.servicemonitor.namespace": "the selector of the Prometheus object finds it by its labels",
    "prometheus.servicemonitor.prometheusInstance": "a label: serviceMonitor.labels",
    "prometheus.servicemonitor.targetPort": "the port is fixed",
    "prometheus.servicemonitor.path": "the path is fixed",
    "prometheus.servicemonitor.honorLabels": "always true, because metrics have the label connector",
    "prometheus.podmonitor": "the ServiceMonitor finds the same pods",
    "webhook": "there is no webhook (decision 9); what its pods have in common with ours is in the rows above",
    "startupapicheck": "helm test starts a pod, and an installation starts none",
}
"""Options of cert-manager's chart that ours does not have, with the reason. A name stands for all names below it."""

CERT_MANAGER = (Path(__file__).parent / "cert_manager_options.txt").read_text().split()
"""Options of cert-manager's chart in 2026.

The options of its webhook and cainjector that its controller has, too, are there once.
"""


def find(obj: Any, path: str) -> Any:
    """Return the value at a path such as `spec.containers.0.image`. Names of labels have no dots here."""
    for name in path.split("."):
        obj = obj[int(name)] if isinstance(obj, list) else obj[name]
    return obj


def merged(*each_values: Mapping[str, Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for values in each_values:
        for key, value in values.items():
            both_are_maps = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both_are_maps else value
    return result


@pytest.fixture(scope="module")
def everything(helm: Helm) -> Objects:
    """The objects with the values of all rows."""
    values = merged(*(row.values for row in (*TOGETHER.values(), *OURS.values())))
    return objects_in(helm("template", "connector", str(CHART), values=values))


@pytest.mark.parametrize("option", [*TOGETHER, *OURS])
def test_a_value_reaches_its_field(everything: Objects, option: str) -> None:
    row = {**TOGETHER, **OURS}[option]
    value = find(everything[row.key], row.path)
    if isinstance(value, dict) and "app.kubernetes.io/version" in value:
        value["app.kubernetes.io/version"] = "VERSION"
    assert value == row.expected


@pytest.mark.parametrize("option", ALONE)
def test_a_value_leaves_out_or_moves_objects(helm: Helm, option: str) -> None:
    values, holds = ALONE[option]
    assert holds(objects_in(helm("template", "connector", str(CHART), values=values)))


def test_each_option_of_cert_manager_has_one_of_ours_or_a_reason() -> None:
    ours = {*TOGETHER, *ALONE}
    unexplained = [
        option
        for option in CERT_MANAGER
        if option not in ours and not any(option == name or option.startswith(f"{name}.") for name in NOT_OURS)
    ]
    assert unexplained == []
    assert ours <= set(CERT_MANAGER)
    assert all(any(each == name or each.startswith(f"{name}.") for each in CERT_MANAGER) for name in NOT_OURS)


def test_another_service_account_reaches_bindings_and_policies(everything: Objects) -> None:
    assert "connectors-system:connectors-controller" not in str(everything)
    subjects = [one["name"] for each in everything.values() for one in each.get("subjects", [])]
    assert "hub" in subjects
    assert "connectors-controller" not in subjects
    policy = str(everything["ValidatingAdmissionPolicy", "", "services.connectors.alauda.io"])
    assert 'system:serviceaccount:connectors-system:hub"' in policy


def test_values_of_pods_reach_all_three_programs(everything: Objects) -> None:
    for key in (PROXY, CONTROLLER, NODES):
        pod = everything[key]["spec"]["template"]["spec"]
        assert pod["hostAliases"] == [ALIAS], key
        assert {"name": "A", "value": "b"} in pod["containers"][0]["env"], key
        assert VOLUME in pod["volumes"], key
        assert everything[key]["spec"]["template"]["metadata"]["labels"]["team"] == "platform", key
