"""Permissions that approved access requests add to those of a Connector for a while."""

from collections.abc import Iterable

from connector_store.domain.grants.access_grant import AccessGrant
from connector_store.domain.permissions.evaluator import Allowed, NotAllowed, PermissionEvaluator
from connector_store.domain.permissions.request_attributes import RequestAttributes


def evaluate_grants(
    permissions: PermissionEvaluator,
    grants: Iterable[AccessGrant],
    attributes: RequestAttributes,
    refusal: NotAllowed,
) -> tuple[Allowed | NotAllowed, AccessGrant | None]:
    """Return the result with the first grant that allows what the Connector alone refuses, and that grant.

    Roles of two grants are not added up. A grant does not lift `deny`.
    """
    for grant in grants:
        wider = permissions.widen(grant.roles) if grant.roles and not refusal.denied_by else None
        result = wider.evaluate(attributes) if wider is not None else refusal
        if isinstance(result, Allowed):
            return result, grant
    return refusal, None


def widen_by_grants(permissions: PermissionEvaluator, grants: Iterable[AccessGrant]) -> tuple[PermissionEvaluator, ...]:
    """Return the permissions with those of each grant that adds some."""
    evaluators = (permissions.widen(grant.roles) for grant in grants if grant.roles)
    return tuple(each for each in evaluators if each is not None)
