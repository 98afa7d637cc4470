"""Small programs of Kubernetes clients, each as it is written with its library: scripts/clients, scripts/go.

`use NAMESPACE NAME LAST` prints what it got and lists, and what its watch shows. It sets ConfigMap NAME to first,
to second when it has seen first, and to fourth when it has seen third, which a test writes. It exits when it has seen
LAST. It restarts its watch when the watch ends. ConfigMap `seed` must exist.

`exec NAMESPACE POD COMMAND…` runs that command in the pod, with the program's own streams and exit code.
"""

import json
import re
from itertools import pairwise
from pathlib import Path
from textwrap import indent
from typing import Any

import yaml

from lab.client_programs import PINS

PYTHON_PINS = PINS / "python"
DOCS = PINS.parents[1] / "docs" / "clients.md"
EXAMPLES = PINS.parents[1] / "deploy" / "examples"
ARGOCD_TOKEN = "/var/run/secrets/connectors/token"


def documented_python() -> str:
    """Return the lines of docs/clients.md for the synchronous Python client behind a proxy."""
    [snippet] = re.findall(
        r"^The synchronous Python client:\n\n```python\n(.*?)```", DOCS.read_text(), re.DOTALL | re.M
    )
    return str(snippet)


def documented_kopf() -> str:
    """Return the login handler of docs/clients.md for kopf with the package `kubernetes`."""
    [snippet] = re.findall(r"```python\n(@kopf\.on\.login.*?)```", DOCS.read_text(), re.DOTALL)
    return str(snippet)


def kopf_arguments(absent: str, login: str = "") -> list[str]:
    """Return arguments of Python for kopf where the packages `absent` cannot be imported."""
    # kopf can also log in with kubernetes_asyncio, which is installed for other clients.
    names = [*absent.split(), "kubernetes_asyncio"]
    hidden = f"import sys\nsys.modules.update(dict.fromkeys({names}))\nimport kopf\n"
    return ["-c", hidden + login + source("kopf")]


def documented_java() -> str:
    """Return the page's code for the official Java client; its first line names the file with the login."""
    [snippet] = re.findall(r"```java\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return str(snippet)


def documented_login() -> str:
    """Return Ansible's login to the proxy on the page, a template with NAMESPACE/NAME and /connector/."""
    [template] = re.findall(r'proxy_basic_auth: "(.*)"', DOCS.read_text())
    return str(template)


def documented_plugin() -> str:
    """Return the kubeconfig of docs/clients.md for clients without tokenFile."""
    [snippet] = re.findall(r"```yaml\n(apiVersion: v1\nkind: Config\n.*?)```", DOCS.read_text(), re.DOTALL)
    return str(snippet)


def documented_argocd_plugin(token_file: Path) -> dict[str, Any]:
    """Return the credential plugin of deploy/examples/argocd/plugin.yaml, with another token file."""
    [cluster, *_] = yaml.safe_load_all((EXAMPLES / "argocd" / "plugin.yaml").read_text())
    config = json.loads(cluster["stringData"]["config"])
    text = json.dumps(config["execProviderConfig"])
    assert ARGOCD_TOKEN in text
    plugin: dict[str, Any] = json.loads(text.replace(ARGOCD_TOKEN, str(token_file)))
    return plugin


def documented_flux_configmap() -> dict[str, Any]:
    """Return the ConfigMap of docs/clients.md for Flux."""
    [snippet] = re.findall(r"```yaml\n(apiVersion: v1\nkind: ConfigMap\n.*?)\n---", DOCS.read_text(), re.DOTALL)
    document: dict[str, Any] = yaml.safe_load(snippet)
    return document


def source(name: str) -> str:
    return (PYTHON_PINS / f"with_{name}.py").read_text()


def asynchronous(module: str) -> list[str]:
    return ["-c", source("asynchronous"), module]


PYTHON = {
    "kubernetes": ["-c", "def load():\n" + indent(documented_python(), "    ") + source("kubernetes")],
    "kubernetes-aio": asynchronous("kubernetes.aio"),
    "kr8s": ["-c", source("kr8s")],
}
"""Client -> arguments of Python, for clients without their own lock file and a kubeconfig with a proxy."""
PYTHON_DIRECT = {
    "kubernetes": ["-c", "from kubernetes import config\nload = config.load_config\n" + source("kubernetes")],
    "kubernetes-aio": asynchronous("kubernetes.aio"),
    "kubernetes-asyncio": asynchronous("kubernetes_asyncio"),
    "kr8s": ["-c", source("kr8s")],
    "lightkube": ["-c", source("lightkube")],
}
"""The same for clients with direct access; they do not know that it is a proxy."""

SEED = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seed"}, "data": {"state": "sown"}}
SECOND = "second"
FOURTH = "fourth"


def has_completed(output: str) -> bool:
    """Return True if a program printed everything up to its second state, in order; more objects and warnings are fine.

    If its watch ended meanwhile, the next watch showed the second state again.
    """
    lines = [line for line in output.splitlines() if line.startswith(("got ", "listed ", "watched "))]
    changes = set(pairwise(lines))
    return lines[:1] == ["got sown"] and "listed seed" in lines and not changes.isdisjoint(CHANGES)


CHANGES = {
    ("watched ADDED first", "watched MODIFIED second"),
    # Its watch ended between them.
    ("watched ADDED first", "watched ADDED second"),
    # An operator does not learn the type of a change.
    ("watched MODIFIED first", "watched MODIFIED second"),
}
