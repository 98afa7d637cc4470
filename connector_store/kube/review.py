"""Reviews of a caller by the API server: TokenReview, SubjectAccessReview, and whether the token's owner exists."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, Literal

from connector_store.domain.base.expiry import read_token_times
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Granted, Identity, Refused, Unavailable, UnavailableKind
from connector_store.domain.config.settings import AccessRule
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import (
    ACCESS_REQUESTS,
    CONNECTORS,
    PODS,
    SERVICE_ACCOUNTS,
    SUBJECT_ACCESS_REVIEWS,
    TOKEN_REVIEWS,
    Resource,
)

TIMEOUT: Final = 10.0
"""Seconds for one review. A client waits for it in its CONNECT."""

_MIN_RETRY_AFTER: Final = 1
_MAX_RETRY_AFTER: Final = 60


async def review_token(client: KubeClient, token: str, audience: str) -> Granted | Refused | Unavailable:
    """Run a TokenReview (authentication.k8s.io/v1) of a token that must have `audience`."""
    body: dict[str, Any] = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": token, "audiences": [audience]},
    }
    try:
        review = await client.create(TOKEN_REVIEWS.path(), body, time_limit=TIMEOUT)
    except ApiError as e:
        return _unavailable("TokenReview", e)
    status = review.get("status") or {}
    if status.get("authenticated") is not True:
        return Refused(check="token", reason=f"token not accepted: {status.get('error') or 'not authenticated'}")
    # An authenticator without audience support leaves this empty. Then the token may be for another server.
    if audience not in (status.get("audiences") or ()):
        return Refused(check="token", reason=f"token is not for audience {audience}")
    return Granted(identity=_identity(status.get("user") or {}), token_expires_at=read_token_times(token).expires_at)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRequestSupport:
    """How access requests change the refusal of a caller without the right.

    `has_hint`: the refusal tells callers who may create access requests how to. `is_entitled` returns True for a caller
    whom a policy or an approved request lets in.
    """

    has_hint: bool = False
    is_entitled: Callable[[Identity, ObjectKey], bool] = lambda identity, key: False


NO_ACCESS_REQUESTS: Final = AccessRequestSupport()


async def review_access(
    client: KubeClient,
    identity: Identity,
    key: ObjectKey,
    rule: AccessRule,
    requests: AccessRequestSupport = NO_ACCESS_REQUESTS,
) -> Literal[True] | Refused | Unavailable:
    """Run a SubjectAccessReview (authorization.k8s.io/v1) for a caller's use of the Connector.

    The steps do not depend on whether the Connector exists, so neither do the refusal and its timing.
    """
    attributes = {
        "namespace": key.namespace,
        "name": key.name,
        "verb": rule.verb,
        "group": CONNECTORS.group,
        "version": CONNECTORS.version,
        "resource": rule.resource,
    }
    if rule.subresource:
        attributes["subresource"] = rule.subresource
    status = await _review_attributes(client, identity, attributes)
    if isinstance(status, Unavailable):
        return status
    reason = f"{identity.user} may not {rule} {key}"
    if status.get("denied"):
        return Refused(check="use", reason=f"{reason}: an authorizer of the API server denies it")
    if status.get("allowed") is True:
        return True
    return Refused(
        check="use",
        reason=reason,
        has_opinion=False,
        may_request=requests.has_hint and await _may_request(client, identity, key.namespace),
        is_entitled=requests.is_entitled(identity, key),
    )


async def _may_request(client: KubeClient, identity: Identity, namespace: str) -> bool:
    """Return True if the caller may create access requests in the namespace, and False if this cannot be checked."""
    attributes = {
        "namespace": namespace,
        "verb": "create",
        "group": ACCESS_REQUESTS.group,
        "version": ACCESS_REQUESTS.version,
        "resource": ACCESS_REQUESTS.plural,
    }
    status = await _review_attributes(client, identity, attributes)
    return not isinstance(status, Unavailable) and status.get("allowed") is True and not status.get("denied")


async def _review_attributes(
    client: KubeClient, identity: Identity, attributes: dict[str, str]
) -> Mapping[str, Any] | Unavailable:
    spec = {
        "user": identity.user,
        "uid": identity.uid,
        "groups": list(identity.groups),
        "extra": {name: list(values) for name, values in identity.extra.items()},
        "resourceAttributes": attributes,
    }
    body: dict[str, Any] = {"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec}
    try:
        review = await client.create(SUBJECT_ACCESS_REVIEWS.path(), body, time_limit=TIMEOUT)
    except ApiError as e:
        return _unavailable("SubjectAccessReview", e)
    status: Mapping[str, Any] = review.get("status") or {}
    return status


class ReviewAuthorizer:
    """Authorizer of callers that an OIDC issuer authenticated. It asks the API server."""

    def __init__(
        self, client: KubeClient, rule: AccessRule, requests: AccessRequestSupport = NO_ACCESS_REQUESTS
    ) -> None:
        self._client = client
        self._rule = rule
        self._requests = requests

    async def authorize_use(self, identity: Identity, key: ObjectKey) -> Literal[True] | Refused | Unavailable:
        """Return the API server's answer. Nothing is cached."""
        return await review_access(self._client, identity, key, self._rule, self._requests)


async def review_owner(client: KubeClient, identity: Identity) -> Literal[True] | Refused | Unavailable:
    """Check that the identity's ServiceAccount, and the pod that its token is bound to, still exist.

    It compares name and UID, as the API server does for a token that has not expired. It also refuses an identity that
    is not a ServiceAccount, because such a caller has no owner to check.
    """
    account = service_account(identity)
    if account is None:
        return Refused(check="token", reason="the token has expired, and its user is no ServiceAccount to look for")
    owners = [(SERVICE_ACCOUNTS, account, identity.uid)]
    if identity.pod:
        owners.insert(0, (PODS, ObjectKey(account.namespace, identity.pod), identity.pod_uid))
    for resource, key, uid in owners:
        result = await _check_exists(client, resource, key, uid)
        if result is not True:
            return result
    return True


def service_account(identity: Identity) -> ObjectKey | None:
    """Return the ServiceAccount of a user `system:serviceaccount:NAMESPACE:NAME`, or None for another user."""
    parts = identity.user.split(":")
    return ObjectKey(parts[2], parts[3]) if len(parts) == 4 and parts[:2] == ["system", "serviceaccount"] else None


async def _check_exists(
    client: KubeClient, resource: Resource, key: ObjectKey, uid: str
) -> Literal[True] | Refused | Unavailable:
    try:
        obj = await client.get(resource.path(key.namespace, key.name), metadata="object")
    except ApiError as e:
        if e.status == HTTPStatus.NOT_FOUND:
            return Refused(check="token", reason=f'{resource} "{key.name}" in namespace "{key.namespace}" is gone')
        return _unavailable(f"{resource.kind} of the caller", e)
    if (obj.get("metadata") or {}).get("uid") == uid:
        return True
    return Refused(check="token", reason=f'{resource} "{key.name}" in namespace "{key.namespace}" is another one now')


def _identity(user: Mapping[str, Any]) -> Identity:
    return Identity(
        user=str(user.get("username") or ""),
        uid=str(user.get("uid") or ""),
        groups=tuple(user.get("groups") or ()),
        extra={name: tuple(values or ()) for name, values in (user.get("extra") or {}).items()},
    )


def _unavailable(review: str, error: ApiError) -> Unavailable:
    retry_after = max(_MIN_RETRY_AFTER, min(error.retry_after or 0, _MAX_RETRY_AFTER))
    kinds: dict[int, UnavailableKind] = {403: "api_server_forbidden", 429: "api_server_throttled"}
    kind = kinds.get(error.status, "api_server_error")
    fix = "; apply deploy/rbac" if kind == "api_server_forbidden" else ""
    # A refusal of the proxy's own credential or right is an answer. It is not an outage.
    is_outage = (
        not error.status
        or error.status == HTTPStatus.TOO_MANY_REQUESTS
        or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR
    )
    return Unavailable(reason=f"{review}: {error}{fix}", kind=kind, retry_after=retry_after, is_outage=is_outage)
