"""Small programs of Kubernetes clients, each as it is written with its library: scripts/clients, scripts/go.

`use NAMESPACE NAME LAST` prints what it got and lists, and what its watch shows. ConfigMap NAME becomes first, second
once it has seen first, and fourth once it has seen third, which a test has to write; it ends when it has seen LAST. Its
watch is begun again when it ends. ConfigMap `seed` must be there.

`exec NAMESPACE POD COMMAND…` is that command there, with the program's own streams and exit code.
"""

import re
from itertools import pairwise
from textwrap import indent

from lab.client_programs import PINS

PYTHON_PINS = PINS / "python"
DOCS = PINS.parents[1] / "docs" / "clients.md"


def documented_python() -> str:
    """The lines that docs/clients.md has for the synchronous Python client behind a proxy."""
    [snippet] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return str(snippet)


def documented_java() -> str:
    """How the official Java client is told of the proxy there; the first line says which file has the login."""
    [snippet] = re.findall(r"```java\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return str(snippet)


def documented_login() -> str:
    """Ansible's to the proxy there, a template that names NAMESPACE/NAME and /connector/."""
    [template] = re.findall(r'proxy_basic_auth: "(.*)"', DOCS.read_text())
    return str(template)


def documented_plugin() -> str:
    """The kubeconfig that docs/clients.md has for clients that know no tokenFile."""
    [snippet] = re.findall(r"```yaml\n(apiVersion: v1\nkind: Config\n.*?)```", DOCS.read_text(), re.DOTALL)
    return str(snippet)


def source(name: str) -> str:
    return (PYTHON_PINS / f"with_{name}.py").read_text()


def asynchronous(module: str) -> list[str]:
    return ["-c", source("asynchronous"), module]


PYTHON = {
    "kubernetes": ["-c", "def load():\n" + indent(documented_python(), "    ") + source("kubernetes")],
    "kubernetes-aio": asynchronous("kubernetes.aio"),
    "kr8s": ["-c", source("kr8s")],
}
"""Client -> what Python is told, of those that do without a lock of their own, on a kubeconfig with a proxy."""
PYTHON_DIRECT = {
    "kubernetes": ["-c", "from kubernetes import config\nload = config.load_config\n" + source("kubernetes")],
    "kubernetes-aio": asynchronous("kubernetes.aio"),
    "kubernetes-asyncio": asynchronous("kubernetes_asyncio"),
    "kr8s": ["-c", source("kr8s")],
    "lightkube": ["-c", source("lightkube")],
}
"""The same of those that take the proxy for the API server; nothing is said to them of it."""

SEED = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seed"}, "data": {"state": "sown"}}
SECOND = "second"
FOURTH = "fourth"


def has_completed(output: str) -> bool:
    """Whether a program said all of it up to its second state, in this order; it may have listed more, and warned.

    Its watch may have ended since: then the next one has shown the second state anew.
    """
    lines = [line for line in output.splitlines() if line.startswith(("got ", "listed ", "watched "))]
    changes = set(pairwise(lines))
    return lines[:1] == ["got sown"] and "listed seed" in lines and not changes.isdisjoint(CHANGES)


CHANGES = {
    ("watched ADDED first", "watched MODIFIED second"),
    # An operator is not told what was done to an object.
    ("watched MODIFIED first", "watched MODIFIED second"),
}
