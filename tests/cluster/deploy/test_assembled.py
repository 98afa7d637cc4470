"""deploy/ as an administrator applies it: one command on a fresh cluster, without a warning, and its removal."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.version import VERSION
from connectorctl.cluster_health import OLDEST_WITHOUT_COMPONENT
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.programs import GATEWAY_API, ensure_programs
from lab.waiting import wait_until
from tests.cluster.deploy.rendering import documents_in

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
EXAMPLES = DEPLOY / "examples"
CUSTOM_RESOURCES = {"Connector", "ConnectorClass"}


@pytest.fixture(scope="module")
def fresh(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with ControlPlane(tmp_path_factory.mktemp("assembled"), programs=cluster_programs) as plane:
        yield plane.kubectl


@pytest.fixture(scope="module")
def folder(kubernetes_minor: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder to apply: deploy/, or an overlay with the component for API servers older than 1.35."""
    if kubernetes_minor >= OLDEST_WITHOUT_COMPONENT:
        return DEPLOY
    overlay = tmp_path_factory.mktemp("overlay")
    (overlay / "product").symlink_to(DEPLOY / "product")
    (overlay / "component").symlink_to(DEPLOY / "components" / "k8s-1.34")
    kustomization = {"resources": ["product"], "components": ["component"]}
    (overlay / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return overlay


@pytest.fixture(scope="module")
def installed(fresh: Kubectl, folder: Path) -> Kubectl:
    """The product on a cluster of this module, where the shared one is left as it is."""
    result = fresh.run("apply", "--validate=strict", "-k", str(folder))
    assert (result.returncode, result.stderr) == (0, "")
    fresh.wait_for_crds("connectors.connectors.alauda.io", "connectorclasses.connectors.alauda.io")
    return fresh


def rendered(kubectl: Kubectl, folder: Path) -> list[dict[str, Any]]:
    return documents_in(kubectl("kustomize", str(folder)))


def identities(objects: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(each["kind"], each["metadata"]["name"]) for each in objects}


def containers(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    workloads = [each for each in objects if each["kind"] in ("Deployment", "DaemonSet")]
    return [one for each in workloads for one in each["spec"]["template"]["spec"]["containers"]]


def test_one_apply_installs_everything_on_a_fresh_cluster(installed: Kubectl) -> None:
    deployments = installed.json("get", "deployments", namespace="connectors-system")["items"]
    assert {each["metadata"]["name"]: each["spec"]["replicas"] for each in deployments} == {
        "connectors-proxy": 2,
        "connectors-controller": 2,
    }


def test_applying_twice_succeeds(installed: Kubectl, folder: Path) -> None:
    result = installed.run("apply", "-k", str(folder))
    assert (result.returncode, result.stderr) == (0, "")


def test_only_an_api_server_older_than_1_35_needs_the_component(installed: Kubectl, kubernetes_minor: int) -> None:
    result = installed.run("apply", "--dry-run=server", "--validate=strict", "-f", str(DEPLOY / "csi/csidriver.yaml"))
    is_known = 'unknown field "spec.serviceAccountTokenInSecrets"' not in result.stderr
    assert is_known is (kubernetes_minor >= OLDEST_WITHOUT_COMPONENT), result.stderr


def test_nothing_of_it_is_a_custom_resource(fresh: Kubectl) -> None:
    assert not CUSTOM_RESOURCES & {each["kind"] for each in rendered(fresh, DEPLOY)}


def test_uninstall_is_everything_but_the_crds(fresh: Kubectl) -> None:
    everything = identities(rendered(fresh, DEPLOY))
    crds = {each for each in everything if each[0] == "CustomResourceDefinition"}
    assert {name for _, name in crds} == {
        f"{plural}.connectors.alauda.io"
        for plural in (
            "connectors", "connectorclasses", "accesspolicies", "accessrequests", "accessapprovals", "accesslocks",
        )
    }  # fmt: skip
    assert identities(rendered(fresh, DEPLOY / "uninstall")) == everything - crds


def test_one_entry_of_an_overlay_changes_every_image(fresh: Kubectl) -> None:
    images = {each["image"] for each in containers(rendered(fresh, EXAMPLES / "overlay"))}
    assert images == {f"registry.example/platform/kubernetes-connector:{VERSION}"}


def test_every_container_has_a_pinned_tag(fresh: Kubectl) -> None:
    assert {each["image"] for each in containers(rendered(fresh, DEPLOY))} == {
        f"localhost/kubernetes-connector:{VERSION}"
    }


def test_every_rule_of_a_programs_role_names_its_verbs_and_resources(fresh: Kubectl) -> None:
    """The roles for spec.permissions have no bindings here."""
    objects = rendered(fresh, DEPLOY)
    bound = {(each["roleRef"]["kind"], each["roleRef"]["name"]) for each in objects if "roleRef" in each}
    roles = [each for each in objects if (each["kind"], each["metadata"]["name"]) in bound]
    assert len(roles) > 4
    for rule in (rule for each in roles for rule in each["rules"]):
        assert "*" not in [*rule["verbs"], *rule["resources"], *rule["apiGroups"]]


@pytest.mark.parametrize("overlay", ["overlay", "overlay-namespaced"])
def test_the_api_server_accepts_an_overlay(installed: Kubectl, overlay: str) -> None:
    for namespace in ("team-a", "team-b"):
        installed.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
    installed("apply", "--dry-run=server", "--validate=strict", "-k", str(EXAMPLES / overlay))


@pytest.mark.parametrize("role", ["connectors-proxy-namespace", "connectors-controller-namespace"])
def test_the_namespaced_overlay_binds_no_secrets_of_the_whole_cluster(fresh: Kubectl, role: str) -> None:
    objects = rendered(fresh, EXAMPLES / "overlay-namespaced")
    bindings = [each for each in objects if each.get("roleRef", {}).get("name") == role]
    assert {(each["kind"], each["metadata"].get("namespace")) for each in bindings} == {
        ("RoleBinding", "team-a"),
        ("RoleBinding", "team-b"),
    }


def settings_of(objects: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """The settings that the programs read, and the copy of each program, whose name ends with the hash of its data."""
    label, config_maps = "connectors.alauda.io/settings", [each for each in objects if each["kind"] == "ConfigMap"]
    return {
        re.sub(r"(-rollout-[a-z]+)-[a-z0-9]+$", r"\1", each["metadata"]["name"]): each["data"]
        for each in config_maps
        if (each["metadata"].get("labels") or {}).get(label) == "true"
    }


def rollouts(objects: list[dict[str, Any]]) -> dict[str, str]:
    """The name of the settings in each workload's template."""
    workloads = [each for each in objects if each["kind"] in ("Deployment", "DaemonSet")]
    return {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["annotations"]["connectors.alauda.io/settings"]
        for each in workloads
    }


def test_a_changed_setting_replaces_the_pods_of_the_programs_that_read_it_at_their_start(fresh: Kubectl) -> None:
    """The overlay changes a setting that is followed, and one that the proxy reads at its start."""
    before, after = rendered(fresh, DEPLOY), rendered(fresh, EXAMPLES / "overlay")
    shipped = {"ca-secret": "connectors-proxy-ca"}
    copies = {f"connectors-config-rollout-{program}": shipped for program in ("proxy", "controller", "csi")}
    assert settings_of(before) == {"connectors-config": shipped, **copies}
    at_start, followed = {"jwks-max-age": "3600"}, {"targets-deny": "10.96.0.0/12"}
    copies["connectors-config-rollout-proxy"] = shipped | at_start
    assert settings_of(after) == {"connectors-config": shipped | at_start | followed, **copies}
    assert rollouts(before).keys() == {"connectors-proxy", "connectors-controller", "connectors-csi"}
    for objects in (before, after):
        config_maps = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
        assert set(rollouts(objects).values()) < config_maps
    changed = {name for name, copy in rollouts(before).items() if rollouts(after)[name] != copy}
    assert changed == {"connectors-proxy"}


def test_the_examples_for_pods_apply_to_a_namespace_under_strict_decoding(installed: Kubectl) -> None:
    installed.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "examples"}})
    installed("apply", "--validate=strict", "-k", str(EXAMPLES / "pods"), namespace="examples")


def test_the_exposed_example_is_the_product_with_a_load_balancer_and_the_name_in_its_certificate(
    installed: Kubectl,
) -> None:
    objects = rendered(installed, EXAMPLES / "exposed")
    [proxy] = [
        each for each in objects if (each["kind"], each["metadata"]["name"]) == ("Deployment", "connectors-proxy")
    ]
    [container] = proxy["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--set", "connector_names=proxy.example.com"]
    installed("apply", "--dry-run=server", "--validate=strict", "-f", str(EXAMPLES / "exposed/loadbalancer.yaml"))


def test_the_examples_that_pass_tls_through_apply_and_lead_to_the_proxys_port_for_it(installed: Kubectl) -> None:
    definitions = ensure_programs(GATEWAY_API, ()) / "config" / "crd" / "standard"
    for kind in ("gateways", "tlsroutes"):
        installed("apply", "--server-side", "-f", str(definitions / f"gateway.networking.k8s.io_{kind}.yaml"))
        installed.wait_for_crds(f"{kind}.gateway.networking.k8s.io")
    for name in ("ingress-nginx", "tlsroute"):
        installed("apply", "--dry-run=server", "--validate=strict", "-f", str(EXAMPLES / f"exposed/{name}.yaml"))
    ports = installed.json("get", "service", "connectors-proxy", namespace="connectors-system")["spec"]["ports"]
    assert [(each["name"], each["port"]) for each in ports if each["port"] == 443] == [("https", 443)]


def test_the_shared_example_applies_under_strict_decoding(installed: Kubectl) -> None:
    installed("apply", "--validate=strict", "-f", str(EXAMPLES / "shared/connector.yaml"))
    installed.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}, namespace="shared")
    pod = str(EXAMPLES / "shared/pod.yaml")
    installed("apply", "--dry-run=server", "--validate=strict", "-f", pod, namespace="shared")


def test_the_example_grants_only_tokens_of_one_account_at_the_target(fresh: Kubectl) -> None:
    done = fresh.run("apply", "--validate=strict", "-k", str(EXAMPLES / "target"))
    assert (done.returncode, done.stderr) == (0, "")
    minter = "--as=system:serviceaccount:default:pipelines-minter"

    def may(*what: str) -> str:
        return fresh.run("auth", "can-i", "create", *what, minter, namespace="default").stdout.strip()

    wait_until(lambda: may("serviceaccounts/pipelines", "--subresource=token") == "yes", "the binding in force")
    assert may("serviceaccounts/default", "--subresource=token") == "no"
    assert may("pods") == "no"
    params = {
        each["spec"]["auth"]["params"][0]["value"]
        for folder in ("pods", "shared")
        for each in yaml.safe_load_all((EXAMPLES / folder / "connector.yaml").read_text())
        if each["kind"] == "Connector"
    }
    assert params == {"default/pipelines"}


def test_deleting_it_as_documented_keeps_the_connectors(cluster_programs: Path, tmp_path: Path) -> None:
    with ControlPlane(tmp_path / "plane", programs=cluster_programs) as plane:
        kubectl = plane.kubectl
        kubectl("apply", "-k", str(DEPLOY))
        kubectl.wait_for_crds("connectors.connectors.alauda.io")
        kubectl("apply", "-f", str(EXAMPLES / "shared/connector.yaml"))
        # Without a controller-manager a namespace never ends: nothing to wait for.
        kubectl("delete", "--wait=false", "-k", str(DEPLOY / "uninstall"))
        assert kubectl("get", "connectors", "-o", "name", namespace="shared").split() == [
            "connector.connectors.alauda.io/k8s-connector"
        ]
        assert "connectors-proxy" not in kubectl("get", "clusterroles", "-o", "name")
