"""Tekton Pipelines on the node: its own controller, webhook and entrypoint, by the manifests of their module.

https://tekton.dev/docs/installation/additional-configs
"""

import shutil
from pathlib import Path
from typing import Any

import yaml

from lab.node.csi_driver import eventually
from lab.node.oci_image import write_archive
from lab.programs import TEKTON, ensure_programs
from tests.journey.product import Product

IMAGE = "docker.io/kubernetes-connector/tekton:1"
NAMESPACE = "tekton-pipelines"
PARTS = (
    "100-namespace",
    "200-*",
    "201-*",
    "300-crds",
    "500-webhooks.yaml",
    "config-*.yaml",
    "controller.yaml",
    "webhook.yaml",
)
"""Files of the module's config folder, in the order in which they are applied."""
PROGRAMS = {"tekton-pipelines-controller": "controller", "webhook": "webhook"}
"""Container -> program."""
TIMEOUT = 400.0


def install(product: Product, folder: Path) -> None:
    """Returns when a Task can be made, which the webhook must have seen."""
    programs = ensure_programs(TEKTON, tuple(TEKTON.packages))
    (folder / "root" / "ko-app").mkdir(parents=True)
    for name in TEKTON.packages:
        shutil.copy(programs / name, folder / "root" / "ko-app" / name)
    write_archive(folder / "root", folder / "tekton.tar", name=IMAGE, command=["/ko-app/controller"])
    product.node.import_image(folder / "tekton.tar")
    for part in PARTS:
        objects = [
            each for path in files(programs / "config", part) for each in documents(path, product.node.box_image)
        ]
        stream = yaml.safe_dump_all(objects)
        product.kubectl("apply", "--server-side", "-f", "-", stdin=stream)
    product.kubectl.wait_for_crds("tasks.tekton.dev", "pipelineruns.tekton.dev")
    for name in ("tekton-pipelines-controller", "tekton-pipelines-webhook"):
        product.kubectl.run(
            *("rollout", "status", f"deployment/{name}", f"--timeout={TIMEOUT:.0f}s"),
            namespace=NAMESPACE,
            timeout=TIMEOUT + 20,
        )
    probe = yaml.safe_dump(
        {"apiVersion": "tekton.dev/v1", "kind": "Task", "metadata": {"name": "probe"}, "spec": STEPS}
    )
    dry = ("apply", "--dry-run=server", "-f", "-")
    eventually(lambda: product.kubectl.run(*dry, stdin=probe, namespace="default").returncode == 0, timeout=TIMEOUT)


STEPS = {"steps": [{"name": "one", "image": "any", "command": ["any"]}]}


def uninstall(product: Product) -> None:
    """The webhooks first: without their pod nothing could be written any more."""
    kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations"
    label = ("-l", "app.kubernetes.io/part-of=tekton-pipelines")
    product.kubectl("delete", kinds, *label)
    product.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def files(config: Path, part: str) -> list[Path]:
    paths = sorted(config.glob(part))
    return [path for each in paths for path in (sorted(each.glob("*.yaml")) if each.is_dir() else [each])]


def documents(path: Path, shell: str) -> list[dict[str, Any]]:
    """With our images in place of those that ko would build."""
    text = path.read_text().replace("ko://github.com/tektoncd/pipeline/cmd/entrypoint", IMAGE)
    objects = [each for each in yaml.safe_load_all(text) if each]
    for each in objects:
        if each["kind"] == "Deployment":
            [container] = each["spec"]["template"]["spec"]["containers"]
            container |= {"image": IMAGE, "command": [f"/ko-app/{PROGRAMS[container['name']]}"]}
            arguments = container.get("args", [])
            if "-shell-image" in arguments:
                arguments[arguments.index("-shell-image") + 1] = shell
    return objects
