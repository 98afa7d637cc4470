"""Each component of deploy/components changes its objects of the product, and nothing else."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.grants.shipped_policies import SPEC_DIGESTS, has_shipped_spec
from lab.kubectl import Kubectl
from tests.cluster.deploy.rendering import Key, Objects, objects_in

DEPLOY = Path(__file__).parents[3] / "deploy"
KUBELET_ROOT = "/var/lib/k0s/kubelet"
Render = Callable[[str], Objects]
SYSTEM, CSI = "connectors-system", "connectors-csi"
PROXY = ("Deployment", SYSTEM, "connectors-proxy")
CONTROLLER = ("Deployment", SYSTEM, "connectors-controller")
NODES = ("DaemonSet", CSI, CSI)
WORKLOADS = [PROXY, CONTROLLER, NODES]
MONITOR = ("ServiceMonitor", SYSTEM, "kubernetes-connector")
RULES = ("PrometheusRule", SYSTEM, "kubernetes-connector")
DRIVER = ("CSIDriver", "", CSI)
PATH = ("ConfigMap", CSI, "connectors-csi-node")
TEKTON = "connectors-controller-tekton"
EVERYWHERE = [("ClusterRoleBinding", "", f"connectors-{each}-namespace") for each in ("controller", "proxy")]
SYSTEM_ELSEWHERE = "system-namespace"
ELSEWHERE = "platform"
OWN: dict[str, dict[str, Any]] = {
    SYSTEM_ELSEWHERE: {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": ELSEWHERE, "name": "connectors-system-namespace"},
        "data": {"system-namespace": ELSEWHERE},
    },
    "kubelet-root": {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"namespace": PATH[1], "name": PATH[2]},
        "data": {"kubelet-root": KUBELET_ROOT},
    },
}
"""Objects that an overlay with the component lists as well."""


def policy_of(workload: Key) -> Key:
    return ("NetworkPolicy", *workload[1:])


def metrics_of(workload: Key) -> Key:
    _, namespace, name = workload
    return "Service", namespace, f"{name}-metrics"


CHANGES = {
    "k8s-1.34": {"changed": {DRIVER}},
    "kubelet-root": {"added": {PATH}, "changed": {NODES}},
    "namespaced": {"gone": set(EVERYWHERE)},
    "prometheusrule": {"added": {RULES}},
    "unchecked-secrets": {
        "gone": {(f"ValidatingAdmissionPolicy{each}", "", "secrets.connectors.alauda.io") for each in ("", "Binding")}
    },
    "tekton": {
        "added": {
            ("ClusterRole", "", TEKTON),
            ("ClusterRoleBinding", "", TEKTON),
            ("Role", SYSTEM, TEKTON),
            ("RoleBinding", SYSTEM, TEKTON),
            *(
                (f"ValidatingAdmissionPolicy{each}", "", "approvaltasks.connectors.alauda.io")
                for each in ("", "Binding")
            ),
        }
    },
    "servicemonitor": {"added": {MONITOR, *(metrics_of(each) for each in WORKLOADS)}},
}


@pytest.fixture(scope="module")
def kubectl(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    """For kustomize alone: there is no cluster behind it."""
    return Kubectl(cluster_programs / "kubectl", tmp_path_factory.mktemp("kustomize") / "none.kubeconfig")


@pytest.fixture(scope="module")
def product(kubectl: Kubectl) -> Objects:
    return rendered(kubectl, DEPLOY / "product")


@pytest.fixture
def with_component(kubectl: Kubectl, tmp_path: Path) -> Render:
    """An overlay of the product with one component."""

    def render(component: str) -> Objects:
        (tmp_path / "product").symlink_to(DEPLOY / "product")
        (tmp_path / "component").symlink_to(DEPLOY / "components" / component)
        own = [OWN[component]] if component in OWN else []
        (tmp_path / "own.yaml").write_text(yaml.safe_dump_all(own))
        overlay = {"resources": ["product", "own.yaml"], "components": ["component"]}
        (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
        return rendered(kubectl, tmp_path)

    return render


def rendered(kubectl: Kubectl, folder: Path) -> Objects:
    return objects_in(kubectl("kustomize", str(folder)))


@pytest.mark.parametrize(
    "component", sorted({each.name for each in (DEPLOY / "components").iterdir()} - {SYSTEM_ELSEWHERE})
)
def test_it_changes_these_objects_and_no_other(product: Objects, with_component: Render, component: str) -> None:
    after = with_component(component)
    changed = {
        "added": after.keys() - product.keys(),
        "gone": product.keys() - after.keys(),
        "changed": {key for key in product.keys() & after.keys() if product[key] != after[key]},
    }
    assert {kind: objects for kind, objects in changed.items() if objects} == CHANGES[component]


def test_another_system_namespace_reaches_every_place_that_names_it_and_changes_nothing_else(
    product: Objects, with_component: Render
) -> None:
    after = with_component(SYSTEM_ELSEWHERE)
    own = OWN[SYSTEM_ELSEWHERE]["metadata"]
    del after["ConfigMap", own["namespace"], own["name"]]
    there = yaml.safe_dump(list(after.values())).replace(ELSEWHERE, SYSTEM)
    assert sorted(yaml.safe_load(there), key=str) == sorted(product.values(), key=str)
    assert SYSTEM not in yaml.safe_dump(list(after.values()))
    assert ("Namespace", "", ELSEWHERE) in after
    controller = f"system:serviceaccount:{ELSEWHERE}:connectors-controller"
    assert all(has_shipped_spec(after["ValidatingAdmissionPolicy", "", name], controller) for name in SPEC_DIGESTS)


def selected(label: str) -> dict[str, str]:
    return {"labelSelector": f"connectors.alauda.io/{label}=true"}


@pytest.mark.parametrize(
    ("selector", "replaced"),
    [
        pytest.param({"name": "connectors-config"}, set(), id="a live setting replaces none"),
        pytest.param(selected("proxy-settings"), {"connectors-proxy"}, id="one of the proxy"),
        pytest.param(selected("controller-settings"), {"connectors-controller"}, id="one of the controller"),
        pytest.param(selected("csi-settings"), {CSI}, id="one of the driver"),
        pytest.param(selected("settings"), {name for _, _, name in WORKLOADS}, id="one of all"),
    ],
)
def test_a_setting_replaces_the_pods_of_the_programs_that_read_it_once(
    kubectl: Kubectl, product: Objects, tmp_path: Path, selector: dict[str, str], replaced: set[str]
) -> None:
    (tmp_path / "product").symlink_to(DEPLOY / "product")
    patch = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "any"}, "data": {"drain": "5"}}
    patches = [{"target": {"kind": "ConfigMap", **selector}, "patch": yaml.safe_dump(patch)}]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump({"resources": ["product"], "patches": patches}))
    after = rendered(kubectl, tmp_path)
    assert after["ConfigMap", SYSTEM, "connectors-config"]["data"]["drain"] == "5"
    assert {key[2] for key in WORKLOADS if after[key] != product[key]} == replaced


def test_settings_of_an_overlay_roll_out_in_another_system_namespace_too(
    kubectl: Kubectl, tmp_path: Path, with_component: Render
) -> None:
    before = with_component(SYSTEM_ELSEWHERE)
    overlay = yaml.safe_load((tmp_path / "kustomization.yaml").read_text())
    patch = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "any"}, "data": {"drain": "5"}}
    target = {"kind": "ConfigMap", "labelSelector": "connectors.alauda.io/settings=true"}
    overlay["patches"] = [{"target": target, "patch": yaml.safe_dump(patch)}]
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    after = rendered(kubectl, tmp_path)
    for _, namespace, name in WORKLOADS:
        place = ELSEWHERE if namespace == SYSTEM else namespace
        kind = "DaemonSet" if name == CSI else "Deployment"
        old, new = (
            each[kind, place, name]["spec"]["template"]["metadata"]["annotations"]["connectors.alauda.io/settings"]
            for each in (before, after)
        )
        assert old != new
        assert after["ConfigMap", place, new]["data"]["drain"] == "5"


def test_k8s_1_34_omits_the_field_that_it_does_not_support(product: Objects, with_component: Render) -> None:
    before, after = product[DRIVER]["spec"], with_component("k8s-1.34")[DRIVER]["spec"]
    assert before["serviceAccountTokenInSecrets"] is True
    assert before == after | {"serviceAccountTokenInSecrets": True}
    assert "serviceAccountTokenInSecrets" not in after


def test_kubelet_root_reaches_the_driver_its_mount_and_the_host(with_component: Render) -> None:
    nodes = with_component("kubelet-root")[NODES]
    spec = nodes["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert {"name": "KUBELET_ROOT", "value": KUBELET_ROOT} in container["env"]
    assert "--kubelet-root=$(KUBELET_ROOT)" in container["args"]
    folders = [f"{KUBELET_ROOT}/{each}" for each in ("pods", "plugins/connectors-csi", "plugins_registry")]
    assert [each["mountPath"] for each in container["volumeMounts"]] == [*folders, "/node/sys"]
    assert [each["hostPath"]["path"] for each in spec["volumes"]] == [*folders, "/sys"]
    assert "/var/lib/kubelet" not in yaml.safe_dump(nodes)


def test_namespaced_has_no_binding_that_reads_secrets(product: Objects, with_component: Render) -> None:
    after = with_component("namespaced")
    roles = {name for _, _, name in EVERYWHERE}
    bound = [key for key, each in product.items() if each.get("roleRef", {}).get("name") in roles]
    assert sorted(bound) == EVERYWHERE
    assert [key for key, each in after.items() if each.get("roleRef", {}).get("name") in roles] == []
    assert roles <= {name for kind, _, name in after if kind == "ClusterRole"}


@pytest.mark.parametrize("workload", WORKLOADS, ids=" ".join)
def test_its_network_policies_narrow_every_port_but_the_one_for_callers(product: Objects, workload: Key) -> None:
    after = product
    policy, template = after[policy_of(workload)]["spec"], after[workload]["spec"]["template"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["podSelector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
    [container] = template["spec"]["containers"]
    narrowed: dict[bool, set[str]] = {True: set(), False: set()}
    for rule in policy["ingress"]:
        narrowed["from" in rule] |= {each["port"] for each in rule["ports"]}
    callers = {"proxy"} if workload == PROXY else set()
    assert narrowed == {True: {each["name"] for each in container["ports"]} - callers, False: callers}


@pytest.mark.parametrize("workload", WORKLOADS, ids=" ".join)
def test_servicemonitor_finds_the_admin_port(with_component: Render, workload: Key) -> None:
    after = with_component("servicemonitor")
    monitor, service = after[MONITOR]["spec"], after[metrics_of(workload)]
    template = after[workload]["spec"]["template"]
    assert service["metadata"]["namespace"] in monitor["namespaceSelector"]["matchNames"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
    [endpoint], [port], [container] = monitor["endpoints"], service["spec"]["ports"], template["spec"]["containers"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
    assert {"name": port["targetPort"], "containerPort": port["port"]} in container["ports"]
