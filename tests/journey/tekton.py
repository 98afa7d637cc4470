"""The pod that Tekton makes of a TaskRun and its Task: one container a step, one volume a workspace.

Without Tekton's entrypoint, which only orders the steps of a Task that has several.
https://tekton.dev/docs/pipelines/workspaces, https://tekton.dev/docs/pipelines/variables
"""

import re
from typing import Any

WORKSPACES = "/workspace"
"""Where a workspace without a mountPath is."""
_ALL_OF = re.compile(r"^\$\(params\.([\w.-]+)\[\*\]\)$")


def pod_of(task: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    """A workspace that is not bound, or a param without a value, is a KeyError."""
    spec = run["spec"]
    bound = {each["name"]: each for each in spec["workspaces"]}
    values = {each["name"]: each["value"] for each in spec["params"]}
    declared = task["spec"]["workspaces"]
    volumes = [{"name": f"ws-{each['name']}", "csi": bound[each["name"]]["csi"]} for each in declared]
    mounts = [_mount(each, bound[each["name"]]) for each in declared]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{run['metadata']['name']}-pod"},
        "spec": {
            "restartPolicy": "Never",
            "serviceAccountName": spec["serviceAccountName"],
            "containers": [_container(step, values, mounts) for step in task["spec"]["steps"]],
            "volumes": volumes,
        },
    }


def _container(step: dict[str, Any], values: dict[str, Any], mounts: list[dict[str, Any]]) -> dict[str, Any]:
    return step | {
        "name": f"step-{step['name']}",
        "args": [each for argument in step["args"] for each in _substituted(argument, values)],
        "volumeMounts": mounts,
    }


def _mount(declaration: dict[str, Any], binding: dict[str, Any]) -> dict[str, Any]:
    name = declaration["name"]
    return {
        "name": f"ws-{name}",
        "mountPath": declaration.get("mountPath", f"{WORKSPACES}/{name}"),
        "readOnly": declaration.get("readOnly", False),
        "subPath": binding.get("subPath", ""),
    }


def _substituted(argument: str, values: dict[str, Any]) -> list[str]:
    """`$(params.NAME[*])` alone stands for all strings of an array."""
    found = _ALL_OF.match(argument)
    return list(values[found[1]]) if found else [argument]
