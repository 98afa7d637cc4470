"""charts/kubernetes-connector: the objects of deploy/, and what each value changes of them."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.config import settings
from connector_store.domain.decision.direct_access import PATH_PREFIX
from connector_store.domain.grants.shipped_policies import SPEC_DIGESTS, has_shipped_spec
from lab.helm import Helm
from lab.kubectl import Kubectl
from tests.cluster.deploy.rendering import Key, Objects, objects_in, without_rollout

ROOT = Path(__file__).parents[3]
CHART = ROOT / "charts" / "kubernetes-connector"
DEPLOY = ROOT / "deploy"
SYSTEM, CSI = "connectors-system", "connectors-csi"
PROXY = ("Deployment", SYSTEM, "connectors-proxy")
CONTROLLER = ("Deployment", SYSTEM, "connectors-controller")
NODES = ("DaemonSet", CSI, CSI)
WORKLOADS = [PROXY, CONTROLLER, NODES]
CONFIG = ("ConfigMap", SYSTEM, "connectors-config")
SERVICE = ("Service", SYSTEM, "connectors-proxy")
DRIVER = ("CSIDriver", "", CSI)
VERSION_LABEL = "app.kubernetes.io/version"
Values = dict[str, Any]
Render = Callable[..., Objects]


@pytest.fixture(scope="module")
def kustomize(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Objects]:
    """There is no cluster behind it."""
    kubectl = Kubectl(cluster_programs / "kubectl", tmp_path_factory.mktemp("kustomize") / "none.kubeconfig")
    return lambda folder: objects_in(kubectl("kustomize", str(folder)))


@pytest.fixture
def render(helm: Helm) -> Render:
    def template(values: Values | None = None, *arguments: str) -> Objects:
        return without_hooks(objects_in(helm("template", "connector", str(CHART), *arguments, values=values or {})))

    return template


@pytest.fixture(scope="module")
def default(helm: Helm) -> Objects:
    """The objects without values."""
    return without_hooks(objects_in(helm("template", "connector", str(CHART), values={})))


def without_hooks(objects: Objects) -> Objects:
    """Without what `helm test` alone creates."""
    return {key: each for key, each in objects.items() if "helm.sh/hook" not in each["metadata"].get("annotations", {})}


def pod_of(workload: dict[str, Any]) -> dict[str, Any]:
    pod_spec: dict[str, Any] = workload["spec"]["template"]["spec"]
    return pod_spec


def container_of(workload: dict[str, Any]) -> dict[str, Any]:
    [container] = pod_of(workload)["containers"]
    only_container: dict[str, Any] = container
    return only_container


def test_the_default_values_render_the_same_objects_as_kustomize(
    render: Render, kustomize: Callable[[Path], Objects]
) -> None:
    chart, manifests = without_rollout(render()), without_rollout(kustomize(DEPLOY))
    assert chart.keys() == manifests.keys()
    for key, each in manifests.items():
        assert chart[key] == each, key


def without_version(objects: Objects) -> Objects:
    """Kustomize gives the label to the product alone, and not to what a component adds."""
    objects = without_rollout(objects)
    for each in objects.values():
        labels = each["metadata"].pop("labels", {})
        labels.pop(VERSION_LABEL, None)
        if labels:
            each["metadata"]["labels"] = labels
    return objects


@pytest.mark.parametrize(
    ("component", "values", "arguments"),
    [
        pytest.param("servicemonitor", {"serviceMonitor": {"enabled": True}}, [], id="a service monitor"),
        pytest.param("tekton", {"tekton": {"enabled": True}}, [], id="approvals by ApprovalTasks"),
        pytest.param("prometheusrule", {"prometheusRule": {"enabled": True}}, [], id="rules"),
        pytest.param("unchecked-secrets", {"policies": {"secrets": False}}, [], id="Secrets that nobody checks"),
        pytest.param("k8s-1.34", {}, ["--kube-version", "1.34.2"], id="an older Kubernetes, by itself"),
        pytest.param("k8s-1.34", {"csi": {"serviceAccountTokenInSecrets": False}}, [], id="an older one, by value"),
        pytest.param("kubelet-root", {"csi": {"kubeletRoot": "/var/lib/k0s/kubelet"}}, [], id="another kubelet root"),
    ],
)
def test_a_value_is_the_component_of_the_same_purpose(
    render: Render,
    kustomize: Callable[[Path], Objects],
    tmp_path: Path,
    component: str,
    values: Values,
    arguments: list[str],
) -> None:
    (tmp_path / "product").symlink_to(DEPLOY / "product")
    (tmp_path / "component").symlink_to(DEPLOY / "components" / component)
    node = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": CSI, "name": "connectors-csi-node"}}
    (tmp_path / "node.yaml").write_text(yaml.safe_dump(node | {"data": {"kubelet-root": "/var/lib/k0s/kubelet"}}))
    overlay = {"resources": ["product", "node.yaml"], "components": ["component"]}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    expected = kustomize(tmp_path)
    del expected["ConfigMap", CSI, "connectors-csi-node"]
    assert without_version(render(values, *arguments)) == without_version(expected)


def test_another_approval_gate_is_in_the_policy(render: Render) -> None:
    gate = "system:serviceaccount:openshift-pipelines:manual-approval-gate-controller"
    objects = render({"tekton": {"enabled": True, "gate": gate}})
    policy = objects["ValidatingAdmissionPolicy", "", "approvaltasks.connectors.alauda.io"]
    assert policy["spec"]["variables"][0]["expression"] == f'request.userInfo.username == "{gate}"'


def test_namespaces_that_it_serves_are_the_overlay_of_the_examples(
    render: Render, kustomize: Callable[[Path], Objects]
) -> None:
    expected = without_version(kustomize(DEPLOY / "examples" / "overlay-namespaced"))
    assert without_version(render({"namespaces": {"only": ["team-a", "team-b"]}})) == expected


@pytest.mark.parametrize("name", ["10042", "1e3", "true", "null"])
def test_a_name_that_yaml_would_read_as_something_else_stays_a_name(render: Render, name: str) -> None:
    ingress = {"enabled": True, "host": "connectors.example.com", "className": name, "tlsSecretName": name}
    objects = render({"namespaces": {"only": [name]}, "proxy": {"ingress": ingress}})
    assert ("RoleBinding", name, "connectors-proxy-namespace") in objects
    spec = objects["Ingress", SYSTEM, "connectors-proxy"]["spec"]
    assert (spec["ingressClassName"], spec["tls"][0]["secretName"]) == (name, name)


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        pytest.param({}, "registry.example/connector:{version}", id="by default the chart's version"),
        pytest.param({"tag": "edge"}, "registry.example/connector:edge", id="a tag"),
        pytest.param(
            {"tag": "edge", "digest": "sha256:" + "a" * 64},
            "registry.example/connector@sha256:" + "a" * 64,
            id="a digest goes before a tag",
        ),
    ],
)
def test_every_program_runs_the_image_from_the_values(render: Render, image: Values, reference: str) -> None:
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    objects = render({"image": {"repository": "registry.example/connector", **image}})
    images = {container_of(objects[each])["image"] for each in WORKLOADS}
    assert images == {reference.format(version=version)}


def _of_pod(field: str) -> Callable[[dict[str, Any]], Any]:
    return lambda each: pod_of(each)[field]


def _of_container(field: str) -> Callable[[dict[str, Any]], Any]:
    return lambda each: container_of(each)[field]


def _metadata(field: str) -> Callable[[dict[str, Any]], Any]:
    return lambda each: each["spec"]["template"]["metadata"][field]


ZONE = {
    "maxSkew": 1,
    "topologyKey": "topology.kubernetes.io/zone",
    "whenUnsatisfiable": "ScheduleAnyway",
    "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "connectors-proxy"}},
    "matchLabelKeys": ["pod-template-hash"],
}
HOSTS = {"topologyKey": "kubernetes.io/hostname"}


@pytest.mark.parametrize(
    ("values", "key", "look", "expected"),
    [
        pytest.param({"proxy": {"replicas": 5}}, PROXY, lambda each: each["spec"]["replicas"], 5, id="replicas"),
        pytest.param(
            {"controller": {"resources": {"limits": {"memory": "1Gi"}, "requests": None}}},
            CONTROLLER,
            _of_container("resources"),
            {"limits": {"memory": "1Gi"}},
            id="resources",
        ),
        pytest.param(
            {"proxy": {"extraArgs": ["--set", "connector_recheck=10"]}},
            PROXY,
            lambda each: container_of(each)["args"][-2:],
            ["--set", "connector_recheck=10"],
            id="further arguments come last",
        ),
        pytest.param(
            {"csi": {"extraEnv": [{"name": "A", "value": "b"}]}},
            NODES,
            lambda each: container_of(each)["env"][-1],
            {"name": "A", "value": "b"},
            id="further environment",
        ),
        pytest.param({}, PROXY, _of_pod("topologySpreadConstraints"), [ZONE], id="zones"),
        pytest.param(
            {"proxy": {"zoneSpread": True, "topologySpreadConstraints": [HOSTS]}},
            PROXY,
            _of_pod("topologySpreadConstraints"),
            [HOSTS, ZONE],
            id="zones beside other constraints",
        ),
        pytest.param(
            {"proxy": {"priorityClassName": "high"}}, PROXY, _of_pod("priorityClassName"), "high", id="a priority"
        ),
        pytest.param(
            {"csi": {"nodeSelector": {"pool": "ci"}}},
            NODES,
            _of_pod("nodeSelector"),
            {"pool": "ci", "kubernetes.io/os": "linux"},
            id="nodes beside those that the driver needs",
        ),
        pytest.param(
            {"image": {"pullSecrets": [{"name": "login"}]}},
            NODES,
            _of_pod("imagePullSecrets"),
            [{"name": "login"}],
            id="a registry's login",
        ),
        pytest.param(
            {"openshift": True},
            PROXY,
            _of_pod("securityContext"),
            {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            id="users that OpenShift chooses",
        ),
        pytest.param(
            {"proxy": {"podAnnotations": {"a": "b"}}},
            PROXY,
            lambda each: _metadata("annotations")(each)["a"],
            "b",
            id="annotations of pods",
        ),
        pytest.param(
            {"proxy": {"podDisruptionBudget": {"maxUnavailable": "50%"}}},
            ("PodDisruptionBudget", SYSTEM, "connectors-proxy"),
            lambda each: each["spec"]["maxUnavailable"],
            "50%",
            id="a disruption budget",
        ),
        pytest.param(
            {"proxy": {"service": {"type": "LoadBalancer", "loadBalancerSourceRanges": ["192.0.2.0/24"]}}},
            SERVICE,
            lambda each: (each["spec"]["type"], each["spec"]["loadBalancerSourceRanges"]),
            ("LoadBalancer", ["192.0.2.0/24"]),
            id="callers from outside of the cluster",
        ),
        pytest.param(
            {"settings": {"targets-deny": "10.96.0.0/12", "drain": 30, "ca-secret": None}},
            CONFIG,
            lambda each: each["data"],
            {"targets-deny": "10.96.0.0/12", "drain": "30"},
            id="settings beside, over and without those of the manifests",
        ),
        pytest.param(
            {"settings": {"expiry-warning": 2592000, "probe-interval": 0.5, "proxy-tls": True, "audience": "0x1F"}},
            CONFIG,
            lambda each: each["data"] | {"ca-secret": None},
            {
                "ca-secret": None,
                "expiry-warning": "2592000",
                "probe-interval": "0.5",
                "proxy-tls": "true",
                "audience": "0x1F",
            },
            id="settings as they are written, large numbers too",
        ),
        pytest.param(
            {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}, "interval": "15s"}},
            ("ServiceMonitor", SYSTEM, "kubernetes-connector"),
            lambda each: (each["metadata"]["labels"]["release"], each["spec"]["endpoints"][0]["interval"]),
            ("prometheus", "15s"),
            id="what Prometheus looks for",
        ),
    ],
)
def test_a_value_reaches_its_field(
    render: Render, values: Values, key: Key, look: Callable[[dict[str, Any]], Any], expected: Any
) -> None:
    assert look(render(values)[key]) == expected


def test_network_policies_can_be_left_out(render: Render) -> None:
    def policies(objects: Objects) -> int:
        return sum(kind == "NetworkPolicy" for kind, _, _ in objects)

    assert (policies(render()), policies(render({"networkPolicy": {"enabled": False}}))) == (3, 0)


PROGRAMS: dict[settings.Program, Key] = {"addons": PROXY, "connector_controller": CONTROLLER, "connector_csi": NODES}


@pytest.mark.parametrize("key", [key for key in settings.SETTINGS if key not in ("namespaces", "system-namespace")])
def test_a_setting_replaces_the_pods_of_the_programs_that_read_it_once(
    render: Render, default: Objects, key: str
) -> None:
    before, after = default, render({"settings": {key: "1"}})
    assert before[CONFIG] != after[CONFIG]
    replaced = {program for program, each in PROGRAMS.items() if _template(before[each]) != _template(after[each])}
    assert replaced == {program for program in PROGRAMS if key in settings.keys_read_once(program)}


def test_another_namespace_that_is_served_replaces_no_pod(render: Render) -> None:
    before, after = (render({"namespaces": {"only": names}}) for names in (["team-a"], ["team-a", "team-b"]))
    assert before[CONFIG] != after[CONFIG]
    assert [before[each] for each in WORKLOADS] == [after[each] for each in WORKLOADS]


def _template(workload: dict[str, Any]) -> dict[str, Any]:
    template: dict[str, Any] = workload["spec"]["template"]
    return template


def test_the_rules_lead_to_the_runbooks_where_they_are(render: Render) -> None:
    base = "https://git.example.com/connector/"
    values = {"prometheusRule": {"enabled": True, "runbookBase": base, "labels": {"release": "prometheus"}}}
    rules = render(values)["PrometheusRule", SYSTEM, "kubernetes-connector"]
    assert rules["metadata"]["labels"]["release"] == "prometheus"
    found = [
        rule["annotations"]["runbook_url"]
        for each in rules["spec"]["groups"]
        for rule in each["rules"]
        if "alert" in rule
    ]
    assert found
    assert all(each.startswith(f"{base}docs/runbooks.md#") for each in found)


def test_the_board_is_a_config_map_for_grafanas_sidecar(render: Render) -> None:
    board = render({"dashboard": {"enabled": True}})["ConfigMap", SYSTEM, "kubernetes-connector-dashboard"]
    assert board["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert board["data"] == {"kubernetes-connector.json": (ROOT / "monitoring" / "dashboard.json").read_text()}


def test_autoscaling_leaves_the_number_of_replicas_to_it(render: Render) -> None:
    objects = render({"proxy": {"autoscaling": {"enabled": True, "maxReplicas": 7, "targetMemory": "600Mi"}}})
    assert "replicas" not in objects[PROXY]["spec"]
    scaler = objects["HorizontalPodAutoscaler", SYSTEM, "connectors-proxy"]["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 7)
    targets = {each["resource"]["name"]: each["resource"]["target"] for each in scaler["metrics"]}
    assert targets == {
        "cpu": {"type": "AverageValue", "averageValue": "500m"},
        "memory": {"type": "AverageValue", "averageValue": "600Mi"},
    }
    assert scaler["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 1800


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        pytest.param({}, 75, id="by default"),
        pytest.param({"settings": {"drain": 3600}}, 3615, id="a long drain"),
        pytest.param({"settings": {"drain": "0.5"}}, 16, id="a part of a second"),
        pytest.param({"settings": {"drain": None}}, 75, id="the default of the program"),
        pytest.param({"proxy": {"terminationGracePeriodSeconds": 300}}, 300, id="a longer one"),
    ],
)
def test_the_grace_of_a_proxy_covers_its_drain(render: Render, values: Values, seconds: int) -> None:
    assert pod_of(render(values)[PROXY])["terminationGracePeriodSeconds"] == seconds


ISSUER = {"issuer": {"url": "https://issuer.example", "audiences": ["connectors-proxy"]}, "claimMappings": {}}
AUTHENTICATION = ("ConfigMap", SYSTEM, "connectors-authentication")


def issuers_in(objects: Objects) -> list[Any]:
    configuration = yaml.safe_load(objects[AUTHENTICATION]["data"]["authentication.yaml"])
    assert (configuration["apiVersion"], configuration["kind"]) == (
        "apiserver.config.k8s.io/v1",
        "AuthenticationConfiguration",
    )
    issuers: list[Any] = configuration["jwt"]
    return issuers


def test_issuers_are_a_value_and_restart_no_pod(render: Render, default: Objects) -> None:
    templated = {"issuer": {"url": "https://{{ .Release.Name }}.example", "audiences": ["a"]}}
    objects = render({"authentication": {"jwt": [ISSUER, templated]}})
    issuers = issuers_in(objects)
    assert issuers[0] == ISSUER
    assert issuers[1]["issuer"]["url"] == "https://connector.example"
    assert "data" not in default[AUTHENTICATION], "what another manager writes is left alone"
    assert [objects[each] for each in WORKLOADS] == [default[each] for each in WORKLOADS]


def test_namespaces_with_a_role_binding_need_no_list(render: Render) -> None:
    objects = render({"namespaces": {"bound": True, "only": ["team-a"]}})
    assert objects[CONFIG]["data"]["namespaces"] == "RoleBinding"
    assert ("RoleBinding", "team-a", "connectors-proxy-namespace") in objects
    assert not [key for key in objects if key[0] == "ClusterRoleBinding" and key[2].endswith("-namespace")]


def test_helm_test_sends_a_connect_with_a_token_for_the_proxy(helm: Helm) -> None:
    values = {"settings": {"audience": "mine"}, "image": {"repository": "registry.example/c", "tag": "1"}}
    pod = objects_in(helm("template", "connector", str(CHART), values=values))["Pod", SYSTEM, "connectors-test"]
    assert pod["metadata"]["annotations"]["helm.sh/hook"] == "test"
    [container], [volume] = pod["spec"]["containers"], pod["spec"]["volumes"]
    assert volume["projected"]["sources"] == [
        {"serviceAccountToken": {"audience": "mine", "expirationSeconds": 600, "path": "token"}}
    ]
    assert container["image"] == "registry.example/c:1"
    compile(container["args"][0], "test", "exec")
    assert {"name": "PROXY", "value": f"connectors-proxy.{SYSTEM}.svc"} in container["env"]


def test_other_namespaces_reach_every_place_that_names_them(render: Render) -> None:
    objects = render({"namespaces": {"system": "platform", "csi": "platform-nodes"}})
    assert {key[1] for key in objects} == {"", "platform", "platform-nodes"}
    subjects = [one for each in objects.values() for one in each.get("subjects", [])]
    assert {each["namespace"] for each in subjects} == {"platform", "platform-nodes"}
    text = yaml.safe_dump([*objects.values()])
    assert "connectors-system" not in text
    assert not re.search(r"(namespace: |serviceaccounts?:)connectors-csi\b", text)
    driver = container_of(objects["DaemonSet", "platform-nodes", CSI])
    assert {"name": "CONNECTORS_SYSTEM_NAMESPACE", "value": "platform"} in driver["env"]
    assert ("Namespace", "", "platform-nodes") in objects


def test_the_controller_accepts_admission_policies_with_other_names(render: Render) -> None:
    accounts = {program: {"serviceAccount": {"name": f"a-{program}"}} for program in ("controller", "csi")}
    objects = render({"namespaces": {"system": "platform", "csi": "platform-nodes"}, **accounts})
    policies = [objects["ValidatingAdmissionPolicy", "", name] for name in SPEC_DIGESTS]
    assert all(has_shipped_spec(each, "system:serviceaccount:platform:a-controller") for each in policies)


def test_the_releases_own_namespace_is_not_created(render: Render) -> None:
    namespaces = {key[2] for key in render({}, "--namespace", SYSTEM) if key[0] == "Namespace"}
    assert namespaces == {CSI}
    assert not {key for key in render({"namespaces": {"create": False}}) if key[0] == "Namespace"}


def test_uninstalling_keeps_the_definitions(render: Render) -> None:
    definitions = [each for key, each in render().items() if key[0] == "CustomResourceDefinition"]
    assert len(definitions) >= 2
    for each in definitions:
        assert each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


EVERYTHING: Values = {
    "settings": {"targets-deny": "10.96.0.0/12"},
    "namespaces": {"only": ["team-a"]},
    "networkPolicy": {"enabled": True},
    "openshift": True,
    "proxy": {
        "autoscaling": {"enabled": True},
        "zoneSpread": True,
        "service": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "annotations": {"a": "b"}},
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "host": "connectors.example.com",
            "tlsSecretName": "tls",
            "annotations": {"a": "b"},
        },
        "serviceAccount": {"annotations": {"a": "b"}},
        "podDisruptionBudget": {"minAvailable": 1},
        "tolerations": [{"operator": "Exists"}],
    },
    "csi": {"priorityClassName": "", "tolerations": []},
}


def test_the_ingress_routes_direct_access_to_the_proxys_port(render: Render) -> None:
    objects = render(EVERYTHING)
    spec = objects["Ingress", SYSTEM, "connectors-proxy"]["spec"]
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"hosts": ["connectors.example.com"], "secretName": "tls"}]
    [rule] = spec["rules"]
    [path] = rule["http"]["paths"]
    assert rule["host"] == "connectors.example.com"
    assert (path["path"], path["pathType"]) == (PATH_PREFIX.decode(), "Prefix")
    backend = path["backend"]["service"]
    ports = {each["name"]: each for each in objects["Service", SYSTEM, backend["name"]]["spec"]["ports"]}
    assert ports[backend["port"]["name"]]["targetPort"] == "proxy"


def test_the_api_server_accepts_the_manifests_of_many_values(helm: Helm, private_control_plane: Any) -> None:
    """By Helm itself, under its strict decoding; there is no controller-manager to wait for."""
    kubectl = private_control_plane.kubectl
    kubectl("create", "namespace", "team-a")
    with_cluster = Helm(helm.program, kubectl.kubeconfig, helm.home)
    with_cluster("install", "connector", str(CHART), values=EVERYTHING)
    kubectl("get", "ingress,horizontalpodautoscaler", "connectors-proxy", namespace=SYSTEM)
    manifest = with_cluster("get", "manifest", "connector")
    strict = kubectl.run("apply", "--dry-run=server", "--validate=strict", "-f", "-", stdin=manifest)
    assert strict.returncode == 0, strict.stderr


def test_an_upgrade_keeps_issuers_of_others_and_survives_a_namespace_that_is_gone(
    helm: Helm, private_control_plane: Any
) -> None:
    """Another manager has written the issuers by server-side apply, and a namespace of the list does not exist."""
    kubectl = private_control_plane.kubectl
    kubectl("create", "namespace", "team-a")
    with_cluster = Helm(helm.program, kubectl.kubeconfig, helm.home)
    only = {"namespaces": {"only": ["team-a", "team-gone"]}}
    with_cluster("install", "connector", str(CHART), values=only)
    bindings = kubectl("get", "rolebindings", "--all-namespaces", "-o", "name")
    assert bindings.count("connectors-proxy-namespace") == 1
    configuration = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [ISSUER]}
    metadata = {"name": AUTHENTICATION[2], "namespace": SYSTEM}
    written = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": {"authentication.yaml": yaml.safe_dump(configuration)},
    }
    apply = ("apply", "--server-side", "--field-manager=platform", "--force-conflicts", "-f", "-")
    done = kubectl.run(*apply, stdin=yaml.safe_dump(written))
    assert done.returncode == 0, done.stderr

    def current() -> list[Any]:
        text = kubectl("get", "configmap", AUTHENTICATION[2], "-o", "yaml", namespace=SYSTEM)
        return issuers_in({AUTHENTICATION: yaml.safe_load(text)})

    with_cluster("upgrade", "connector", str(CHART), values=only | {"settings": {"drain": 30}})
    assert kubectl("get", "configmap", "connectors-config", "-o", "jsonpath={.data.drain}", namespace=SYSTEM) == "30"
    assert current() == [ISSUER]
    with_cluster("rollback", "connector")
    assert current() == [ISSUER]


def test_helm_lint_has_no_findings(helm: Helm) -> None:
    done = helm.run("lint", "--strict", str(CHART))
    assert done.returncode == 0, done.stdout
    assert not re.search(r"\[(WARNING|ERROR)\]", done.stdout)
