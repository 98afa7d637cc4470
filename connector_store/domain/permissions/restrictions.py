"""Restrictions that change how the proxy serves a request: masks of Secrets, and plan mode.

    permissions:
      mask: [{resources: [secrets]}]     reading Secrets passes, and the proxy masks the values in the response
      dryRun: true                       each write is sent as a dry run, and nothing changes
      customGroups: [cert-manager.io]    API groups beyond Kubernetes' own, which are refused otherwise

`restrict` decides on requests that the roles of a Connector allow.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final
from urllib.parse import unquote_plus

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.names import is_dns_subdomain
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.base.selectors import selected_fields
from connector_store.domain.permissions.request_attributes import READ_BY_UPGRADE

MASKED_RESOURCE: Final = "secrets"
MAX_CUSTOM_GROUPS: Final = 64
"""Maximum number of entries in `customGroups`."""
BUILTIN_GROUPS: Final = frozenset(
    {
        "", "admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io", "apps",
        "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch", "certificates.k8s.io",
        "coordination.k8s.io", "discovery.k8s.io", "events.k8s.io", "extensions", "flowcontrol.apiserver.k8s.io",
        "internal.apiserver.k8s.io", "networking.k8s.io", "node.k8s.io", "policy", "rbac.authorization.k8s.io",
        "resource.k8s.io", "scheduling.k8s.io", "storage.k8s.io", "storagemigration.k8s.io",
    }
)  # fmt: skip
"""API groups that the API server serves itself (Kubernetes 1.37). Another server may serve the others."""

_CONNECTS: Final = frozenset({"exec", "attach", "portforward", "proxy"})
_CHANGES: Final = frozenset({"create", "update", "patch", "delete", "deletecollection"})
_CREATED_SUBRESOURCES: Final = frozenset({("pods", "binding"), ("pods", "eviction")})
"""Subresources whose `create` has a dry run. A dry run of another one can act, such as that of `token`."""
_READS: Final = frozenset({"get", "list", "watch"})
_SELECTABLE_FIELDS: Final = frozenset({"metadata.name", "metadata.namespace", "type"})
"""Fields of a Secret that a selector may name. A selector on another field could tell its value."""
_HELM_RELEASE: Final = "sh.helm.release.v1."
_HELM_LABEL: Final = "owner=helm"
_HELM_REASON: Final = "Helm keeps releases in Secrets, which are masked; set HELM_DRIVER=configmap"


class Treatment(Enum):
    """Ways in which the proxy serves a request that it sends to the target."""

    UNCHANGED = "the request and its response pass unread"
    MASK = "the values of Secrets in the response are masked"
    DRY_RUN = "the target gets the request as a dry run"
    REVIEW = "the response to a self-review becomes the intersection with the permissions"


@dataclass(frozen=True, slots=True, kw_only=True)
class Restrictions:
    """The part of `spec.permissions` that is not about roles."""

    masks_secrets: bool = False
    dry_run: bool = False
    """Plan mode: writes are sent as dry runs."""
    custom_groups: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return self.masks_secrets or self.dry_run


NO_RESTRICTIONS: Final = Restrictions()


def parse_restrictions(permissions: Fields) -> Restrictions:
    """Parse the fields of `spec.permissions` that are not about roles. ParseError names the field."""
    groups = permissions.texts("customGroups")
    path = permissions.path_of("customGroups")
    if len(groups) > MAX_CUSTOM_GROUPS:
        raise ParseError(path, f"has more than {MAX_CUSTOM_GROUPS} entries")
    for index, group in enumerate(groups):
        if not is_dns_subdomain(group):
            raise ParseError(f"{path}[{index}]", "is not the name of an API group")
    restrictions = Restrictions(
        masks_secrets=_parse_mask(permissions),
        dry_run=permissions.flag("dryRun"),
        custom_groups=frozenset(groups),
    )
    if permissions.value("customGroups") is not None and not restrictions:
        raise ParseError(path, "has no effect without mask or dryRun; leave it out")
    return restrictions


def _parse_mask(permissions: Fields) -> bool:
    if permissions.value("mask") is None:
        return False
    entries = permissions.items("mask")
    path = permissions.path_of("mask")
    if len(entries) != 1:
        raise ParseError(path, "has one entry: resources: [secrets]")
    entries[0].reject_others(["resources"], "an entry has resources")
    if entries[0].texts("resources") != (MASKED_RESOURCE,):
        raise ParseError(entries[0].path_of("resources"), "is not [secrets]; only Secrets can be masked")
    return True


def restrict(restrictions: Restrictions, info: RequestInfo, query: str, *, is_upgrade: bool) -> Treatment | str:
    """Return the treatment of a request that the roles allow, or why it is refused. `query` is not decoded."""
    if _is_masked(restrictions, info):
        if info.verb not in _READS or info.subresource or is_upgrade:
            return "Secrets are masked, so only get, list and watch are allowed"
        return _problem_of_masked_query(info, query) or Treatment.MASK
    is_custom = info.resource and info.group not in BUILTIN_GROUPS and info.group not in restrictions.custom_groups
    if is_custom and restrictions.masks_secrets:
        return "Secrets are masked, and another server may serve this API group; name it in customGroups"
    treatment = _plan(info, is_upgrade=is_upgrade) if restrictions.dry_run else Treatment.UNCHANGED
    if is_custom and treatment is Treatment.DRY_RUN:
        return "only dry runs are allowed, and another server may serve this API group; name it in customGroups"
    return treatment


def _is_masked(restrictions: Restrictions, info: RequestInfo) -> bool:
    return restrictions.masks_secrets and info.resource == MASKED_RESOURCE and not info.group


def _plan(info: RequestInfo, *, is_upgrade: bool) -> Treatment | str:
    """Return the treatment of a request in plan mode, or why it is refused."""
    is_connect = info.verb == "proxy" or info.subresource in _CONNECTS
    is_stream = is_upgrade and info.subresource not in READ_BY_UPGRADE
    if not (is_connect or is_stream) and info.verb in (_READS if info.resource else ("get", "head")):
        return Treatment.UNCHANGED
    is_known_create = (
        info.verb != "create" or not info.subresource or (info.resource, info.subresource) in _CREATED_SUBRESOURCES
    )
    if is_connect or is_upgrade or not info.resource or info.verb not in _CHANGES or not is_known_create:
        return "only dry runs are allowed, and this request has none"
    return Treatment.DRY_RUN


def _problem_of_masked_query(info: RequestInfo, query: str) -> str:
    if info.name.startswith(_HELM_RELEASE):
        return _HELM_REASON
    for pair in query.split("&") if query else ():
        name, _, value = (unquote_plus(part) for part in pair.partition("="))
        if name == "labelSelector" and _HELM_LABEL in value:
            return _HELM_REASON
        if name == "fieldSelector":
            fields = selected_fields(value)
            if fields is None or not fields <= _SELECTABLE_FIELDS:
                return "Secrets are masked, so field selectors may name metadata.name, metadata.namespace and type only"
    return ""


def includes_masked(restrictions: Restrictions, info: RequestInfo) -> bool:
    """Return True if a right covers masked objects. A second check that requires it fails.

    An object could otherwise name a masked one as its parameter, and print its values.
    """
    return restrictions.masks_secrets and info.group in ("", "*") and info.resource in (MASKED_RESOURCE, "*")
