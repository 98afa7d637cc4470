"""deploy/examples as they are, but for the target's address and token."""

import base64
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.node.csi_driver import eventually
from tests.journey import tekton
from tests.journey.product import ROOT, Product

EXAMPLES = ROOT / "deploy" / "examples"
NAMESPACE = "team-e"
STAGING = "staging"
CONNECTOR = f"{NAMESPACE}/k8s-connector"
TEKTON = EXAMPLES / "tekton"
DEPLOYED = "deployed-by-tekton"


@pytest.fixture(scope="module")
def target_token(product: Product, quickstart: str) -> str:
    """The token of deploy/examples/target; the target's CA is shared by all Connectors without one."""
    target = product.target
    target.create_namespace(STAGING)
    target.kubectl("create", "deployment", "web", "--image=web", namespace=STAGING)
    # kubectl in a pod takes the pod's own namespace for the default.
    target.create_namespace(NAMESPACE)
    target.kubectl("run", "idle", "--image=idle", namespace=NAMESPACE)
    target.kubectl("apply", "-k", str(EXAMPLES / "target"))
    minter = ("secret/pipelines-minter", "-o=jsonpath={.data.token}")
    target.kubectl("wait", minter[0], "--for=jsonpath={.data.token}", "--timeout=150s", namespace="default")
    ca = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "targets-ca", "labels": {"connectors.cpaas.io/ca-cert": "true"}},
        "data": {"ca.crt": base64.b64encode(target.ca_pem.encode()).decode()},
    }
    product.api.apply(ca, namespace="connectors-system")
    return base64.b64decode(target.kubectl("get", *minter, namespace="default")).decode()


def filled(product: Product, token: str, text: str) -> str:
    assert "https://192.168.1.100:6443" in text
    return text.replace("https://192.168.1.100:6443", product.target.url).replace("token: TOKEN", f"token: {token}")


@pytest.fixture(scope="module")
def pods(product: Product, target_token: str) -> str:
    """The namespace of deploy/examples/pods."""
    product.kubectl("create", "namespace", NAMESPACE)
    manifests = product.kubectl("kustomize", str(EXAMPLES / "pods"))
    product.kubectl("apply", "-f", "-", namespace=NAMESPACE, stdin=filled(product, target_token, manifests))
    return NAMESPACE


def finished(product: Product, job: str, namespace: str) -> str:
    """Its log."""
    done = product.kubectl.run(
        "wait", "--for=condition=Complete", f"job/{job}", "--timeout=400s", namespace=namespace, timeout=420
    )
    assert done.returncode == 0, f"{done.stderr}\n{product.state()}"
    # Of all its pods: the first one may have failed.
    return product.kubectl("logs", "--selector", f"job-name={job}", "--tail=-1", namespace=namespace)


def test_the_job_lists_the_targets_namespaces(product: Product, pods: str) -> None:
    assert STAGING in finished(product, "list-namespaces", pods)


def test_the_cron_job_restarts_the_targets_deployment(product: Product, pods: str) -> None:
    product.kubectl("create", "job", "now", "--from=cronjob/restart-nightly", namespace=pods)
    assert "restarted" in finished(product, "now", pods)
    annotations = "jsonpath={.spec.template.metadata.annotations}"
    assert "restartedAt" in product.target.kubectl("get", "deployment", "web", "-o", annotations, namespace=STAGING)


def test_the_deployment_watches_the_target(product: Product, pods: str) -> None:
    product.kubectl("rollout", "status", "deployment/watcher", "--timeout=400s", namespace=pods, timeout=420)

    def has_seen() -> bool:
        log = product.kubectl("logs", "deployment/watcher", namespace=pods)
        return "ADDED" in log and "idle" in log

    product.eventually(has_seen)


def test_a_shared_connector_serves_the_namespaces_that_are_bound(product: Product, target_token: str) -> None:
    text = (EXAMPLES / "shared" / "connector.yaml").read_text()
    product.kubectl("apply", "-f", "-", stdin=filled(product, target_token, text))
    product.kubectl("create", "namespace", "team-c")
    product.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=150s", namespace="team-c")
    product.kubectl("apply", "-f", str(EXAMPLES / "shared" / "pod.yaml"), namespace="team-c")
    product.node.wait_for_pod("uses-shared", "team-c", condition="jsonpath={.status.phase}=Succeeded")
    assert STAGING in product.kubectl("logs", "uses-shared", namespace="team-c")


def test_argo_cds_secret_gets_a_token_for_direct_access(product: Product, pods: str, tmp_path: Path) -> None:
    path, space = EXAMPLES / "argocd" / "cluster.yaml", "argocd"
    text = path.read_text()
    assert f"/connectors/{CONNECTOR}" in text
    [image] = re.findall(r"image: (.*)", text)
    product.kubectl("create", "namespace", space)
    product.kubectl("apply", "-f", "-", namespace=space, stdin=text.replace(image, product.node.box_image))
    commands = re.findall(r"^#   (.*)$", text, re.MULTILINE)
    product.shell(["\n".join(commands)])
    product.kubectl("create", "job", "now", "--from=cronjob/renew-target", namespace=space)
    finished(product, "now", space)
    data = product.kubectl.json("get", "secret", "cluster-target", namespace=space)["data"]
    config = json.loads(base64.b64decode(data["config"]))
    (tmp_path / "ca.crt").write_bytes(base64.b64decode(config["tlsClientConfig"]["caData"]))
    server = base64.b64decode(data["server"]).decode()
    options = ["--kubeconfig=/dev/null", f"--server={server}", f"--certificate-authority={tmp_path / 'ca.crt'}"]
    line = ["kubectl", *options, f"--token={config['bearerToken']}", "get", "namespaces", "-o", "name"]
    assert f"namespace/{STAGING}" in product.shell([shlex.join(line)])


@pytest.fixture(scope="module")
def pipelines(product: Product, pods: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Tekton on the node, and the namespace with a Connector for its pipelines."""
    tekton.install(product, tmp_path_factory.mktemp("tekton"))
    yield pods
    tekton.uninstall(product)


def apply(product: Product, file: str, namespace: str) -> None:
    """Apply an example. On a busy machine, Tekton's webhook may not respond in the 10 s that it has."""
    eventually(lambda: product.kubectl("apply", "-f", str(TEKTON / file), namespace=namespace))


def succeeded(product: Product, run: str, namespace: str) -> None:
    done = product.kubectl.run(
        "wait", "--for=condition=Succeeded", run, "--timeout=600s", namespace=namespace, timeout=620
    )
    runs = product.kubectl.run("get", "pipelineruns,taskruns", "-o", "yaml", namespace=namespace).stdout
    assert done.returncode == 0, f"{done.stderr}\n{runs}\n{product.state()}"


def calling_pods(product: Product) -> set[str]:
    """Return the pods in the audit log of the Connector. A line may come a moment after the pod has ended."""
    return {(each["caller"] or {}).get("pod", "") for each in product.audit() if each["connector"] == CONNECTOR}


def log_of(product: Product, task_run: str, namespace: str) -> str:
    return product.kubectl("logs", "-l", f"tekton.dev/taskRun={task_run}", "--all-containers", namespace=namespace)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        pytest.param("mountPath", "mountpath", id="of a workspace"),
        pytest.param("env", "environment", id="of a step"),
        pytest.param("volumeAttributes", "attributes", id="of the volume"),
    ],
)
def test_tekton_would_refuse_a_misspelt_field_of_the_task(
    product: Product, pipelines: str, right: str, wrong: str
) -> None:
    text = (TEKTON / "task.yaml").read_text().replace(f"{right}:", f"{wrong}:")

    def error() -> str:
        """Return another one if Tekton's webhook does not respond in the 10 s that it has."""
        done = product.kubectl.run("apply", "--dry-run=server", "-f", "-", namespace=pipelines, stdin=text)
        return done.stderr if done.returncode != 0 else ""

    eventually(lambda: wrong in error())


def test_the_tekton_task_lists_the_targets_namespaces(product: Product, pipelines: str) -> None:
    apply(product, "task.yaml", pipelines)
    succeeded(product, "taskrun/list-namespaces", pipelines)
    assert STAGING in log_of(product, "list-namespaces", pipelines)


def test_the_tekton_pipeline_deploys_to_the_target(product: Product, pipelines: str) -> None:
    """Its second task reads task.yaml's Task, which the test before has made."""
    apply(product, "task.yaml", pipelines)
    apply(product, "pipeline.yaml", pipelines)
    succeeded(product, "pipelinerun/deploy-to-staging", pipelines)
    assert DEPLOYED in product.target.kubectl("get", "deployments", "-o", "name", namespace=STAGING)
    assert DEPLOYED in log_of(product, "deploy-to-staging-look", pipelines)
    eventually(lambda: {"deploy-to-staging-deploy-pod", "deploy-to-staging-look-pod"} <= calling_pods(product))


def test_the_tekton_pipeline_with_the_direct_kubeconfig_scales_on_the_target(product: Product, pipelines: str) -> None:
    apply(product, "direct.yaml", pipelines)
    succeeded(product, "pipelinerun/scale-directly", pipelines)
    replicas = "jsonpath={.spec.replicas}"
    assert product.target.kubectl("get", "deployment", "web", "-o", replicas, namespace=STAGING) == "3"
    assert "deployment.apps/web scaled" in log_of(product, "scale-directly-scale", pipelines)
    eventually(lambda: "scale-directly-scale-pod" in calling_pods(product))
