"""Permissions of a Connector (`spec.permissions`): the ClusterRoles that it allows and denies, and restrictions.

`evaluator.py` decides requests by them. `docs/permissions.md` describes the fields.
"""

from dataclasses import dataclass
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.names import is_dns_label
from connector_store.domain.permissions.builtin_roles import AGENT_ROLE
from connector_store.domain.permissions.rbac import parse_role_name
from connector_store.domain.permissions.restrictions import NO_RESTRICTIONS, Restrictions, parse_restrictions

MAX_ENTRIES: Final = 32
"""Maximum number of entries in `allow`, and in `deny`."""
MAX_NAMESPACES: Final = 256
"""Maximum number of namespaces in one entry."""
_FIELDS: Final = ("allow", "deny", "onRequest", "mask", "dryRun", "customGroups")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleEntry:
    """An entry of `allow` or `deny`. `namespaces` is None for all namespaces."""

    cluster_role: str
    namespaces: frozenset[str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Permissions:
    """Parsed `spec.permissions`. `allow` is None for everything that the credential can do."""

    allow: tuple[RoleEntry, ...] | None
    deny: tuple[RoleEntry, ...] = ()
    on_request: tuple[RoleEntry, ...] = ()
    """Roles that an approved access request may add for a while."""
    restrictions: Restrictions = NO_RESTRICTIONS

    @property
    def role_names(self) -> frozenset[str]:
        return frozenset(entry.cluster_role for entry in (*(self.allow or ()), *self.deny, *self.on_request))


def parse_permissions(spec: Fields) -> Permissions | None:
    """Parse `permissions` of a Connector's spec. Return None if it is absent. ParseError names the field."""
    fields = spec.child("permissions")
    if spec.value("permissions") is None:
        return None
    fields.reject_others(_FIELDS, f"permissions have {', '.join(_FIELDS)}")
    allow, deny = parse_role_entries(fields, "allow"), parse_role_entries(fields, "deny")
    restrictions = parse_restrictions(fields)
    if not allow and not deny and not restrictions:
        raise ParseError(fields.path, "has neither allow nor deny; name a ClusterRole in one of them, or leave it out")
    on_request = fields.child("onRequest")
    on_request.reject_others(["allow"], "onRequest has allow")
    entries = parse_role_entries(on_request, "allow") or ()
    if entries and not allow:
        raise ParseError(
            on_request.path, "adds nothing without allow, which allows everything; add allow, or leave it out"
        )
    if not restrictions.masks_secrets and any(entry.cluster_role == AGENT_ROLE for entry in (*(allow or ()), *entries)):
        raise ParseError(
            fields.path_of("mask"),
            f"is missing: ClusterRole {AGENT_ROLE} allows reading Secrets; write mask: [{{resources: [secrets]}}]",
        )
    return Permissions(allow=allow, deny=deny or (), on_request=entries, restrictions=restrictions)


def parse_role_entries(fields: Fields, name: str) -> tuple[RoleEntry, ...] | None:
    """Parse a list of ClusterRoles with their namespaces. Return None if it is absent."""
    if fields.value(name) is None:
        return None
    entries = fields.items(name)
    if not entries:
        raise ParseError(fields.path_of(name), "is empty; name a ClusterRole, or leave the field out")
    if len(entries) > MAX_ENTRIES:
        raise ParseError(fields.path_of(name), f"has more than {MAX_ENTRIES} entries")
    return tuple(_parse_entry(entry) for entry in entries)


def _parse_entry(fields: Fields) -> RoleEntry:
    fields.reject_others(["clusterRole", "namespaces"], "an entry has clusterRole and namespaces")
    return RoleEntry(cluster_role=parse_role_name(fields, "clusterRole"), namespaces=_parse_namespaces(fields))


def _parse_namespaces(fields: Fields) -> frozenset[str] | None:
    if fields.value("namespaces") is None:
        return None
    namespaces = fields.texts("namespaces")
    path = fields.path_of("namespaces")
    if not namespaces:
        raise ParseError(path, "is empty; name a namespace, or leave the field out to mean all")
    if len(namespaces) > MAX_NAMESPACES:
        raise ParseError(path, f"has more than {MAX_NAMESPACES} namespaces")
    for index, namespace in enumerate(namespaces):
        if not is_dns_label(namespace):
            raise ParseError(f"{path}[{index}]", "is not the name of a namespace")
    return frozenset(namespaces)
