"""Comparison of the admission policies for access objects with those of this release.

Each API server fills in defaults, and each installation has its own names of ServiceAccounts. Both are removed before
the comparison. So are fields that no supported version of Kubernetes has, because a later version may set them.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

SPEC_DIGESTS: Final = {
    "accessrequests.connectors.alauda.io": "162412ffbfdec46192cc3bc90fe42873fbba9390abd7872f5396bee0acc9d780",
    "accessapprovals.connectors.alauda.io": "87e7e10d63977ca600e611fbe00fa0e59290bee773076e36749c9a40b84f7a4e",
    "accesspolicies.connectors.alauda.io": "d7f48b60f643692fa5e39ee6a08746c6baa0eb3dc5c78ac89ae5a92d33cceb5e",
    "accesslocks.connectors.alauda.io": "8d73a546d8fdfd0ff5b56a2475fba1c2a044b5f9cce553465f421bd276de9b71",
}
"""SHA-256 of the spec of each ValidatingAdmissionPolicy in deploy/policy/access.yaml, as `digest_spec` returns it."""

_FIELDS: Final = frozenset({
    "apiGroups", "apiVersions", "auditAnnotations", "excludeResourceRules", "expression", "failurePolicy",
    "matchConditions", "matchConstraints", "matchPolicy", "message", "messageExpression", "name", "namespaceSelector",
    "objectSelector", "operations", "paramKind", "reason", "resourceNames", "resourceRules", "resources", "scope",
    "validations", "variables",
})  # fmt: skip
"""Fields of the spec and of its parts in Kubernetes 1.33 to 1.37."""
_DEFAULTS: Final = {"failurePolicy": "Fail", "matchPolicy": "Equivalent", "scope": "*"}
_DRIVER: Final = re.compile(r'request\.userInfo\.username == "system:serviceaccount:[a-z0-9-]+:[a-z0-9.-]+"')


def has_shipped_spec(policy: Mapping[str, Any], controller: str) -> bool:
    """Return True if a raw ValidatingAdmissionPolicy checks what the one of this release with its name checks.

    `controller` is the controller's user name. Policies that do not ship in deploy/policy/access.yaml are not compared.
    """
    digest = SPEC_DIGESTS.get(policy["metadata"]["name"])
    return digest is None or digest_spec(policy["spec"], controller) == digest


def digest_spec(spec: Mapping[str, Any], controller: str) -> str:
    """Return the SHA-256 of a spec without defaults and names. The CSI driver may be any ServiceAccount."""
    normal = _normalize(spec)
    for variable in normal.get("variables", ()):
        if variable["name"] == "driver" and _DRIVER.fullmatch(variable["expression"]):
            variable["expression"] = ""
    # JSON escapes control characters, so no expression of a policy has this one.
    text = json.dumps(normal, sort_keys=True).replace(json.dumps(controller)[1:-1], "\0")
    return hashlib.sha256(text.encode()).hexdigest()


def _normalize(value: Any) -> Any:
    """Return a copy without defaults and unknown fields. Lists of named parts are in the order of their names."""
    if isinstance(value, Mapping):
        return {
            field: _normalize(part)
            for field, part in value.items()
            if field in _FIELDS and part and part != _DEFAULTS.get(field)
        }
    if isinstance(value, list):
        parts = [_normalize(part) for part in value]
        # Server-side apply may keep another order of these.
        return sorted(parts, key=lambda part: part["name"]) if all(_is_named(part) for part in parts) else parts
    return value


def _is_named(part: Any) -> bool:
    return isinstance(part, Mapping) and "name" in part
