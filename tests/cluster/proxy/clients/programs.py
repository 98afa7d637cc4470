"""Small programs of Kubernetes clients. Each takes NAMESPACE and NAME, prints what it got and lists, writes ConfigMap
NAME twice, and ends when its watch has seen both. ConfigMap `seed` must be there.
"""

import re
from pathlib import Path

HERE = Path(__file__).parent
DOCS = HERE.parents[3] / "docs" / "clients.md"


def documented() -> str:
    """The lines that docs/clients.md has for the synchronous Python client."""
    [snippet] = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return str(snippet)


def _read(name: str) -> str:
    return (HERE / f"with_{name}.py").read_text()


PYTHON = {
    "kubernetes": documented() + _read("kubernetes"),
    "kubernetes-aio": _read("kubernetes_aio"),
    "kr8s": _read("kr8s"),
}


SEED = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "seed"}, "data": {"state": "sown"}}


def did_everything(output: str) -> bool:
    """Whether a program said all of it, in this order; it may have listed more, and warned."""
    lines = [line for line in output.splitlines() if line.startswith(("got ", "listed ", "watched "))]
    return (
        lines[:1] == ["got sown"]
        and "listed seed" in lines
        and lines[-2:] == ["watched ADDED first", "watched MODIFIED second"]
    )
