"""Refusals of the proxy, one function for each, so that each has one text, one status code and one metric label.

A refusal contains a status code, a reason phrase, a warning and a Status object. kubectl shows the phrase for a
CONNECT, and the warning for a request.
"""

import json
import math
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, Literal

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.headers import Header, Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.printable import printable
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.callers.access import Unavailable
from connector_store.domain.credential.token_request import IssuedToken
from connector_store.domain.decision.warning import warning_header
from connector_store.domain.objects.models import TOKEN_NOT_ISSUED, Address, Target, Unusable
from connector_store.domain.permissions.evaluator import NotAllowed
from connector_store.domain.permissions.limits import Exceeded

Cause = Literal[
    "not_synced", "credentials", "cross_site", "token", "access", "unavailable", "unusable",
    "address", "path", "host", "identity_header", "absolute_form", "not_allowed", "impersonation", "locked",
    "bad_request", "header_too_large", "too_many", "limit", "not_found", "timeout",
    "target_unreachable", "target_denied", "target_refused", "target_redirect", "target_response", "loop", "audit",
    "addon", "internal",
]  # fmt: skip
"""Values of the label `reason` of the metric connector_denials_total."""
TARGET_REFUSED: Final = "target_refused"
"""Cause of the refusal after the target answered 401 for our credential."""

_DISCOVERY: Final = b"g=apidiscovery.k8s.io"
"""Parameter of the media type that client-go 1.26 and newer accepts for discovery (KEP-3352)."""
_MAX_PHRASE: Final = 512
_MAX_HEADER_NAME: Final = 64
_NOT_SYNCED_RETRY_AFTER: Final = 1
_TOO_MANY_RETRY_AFTER: Final = 5
_AUDIT_RETRY_AFTER: Final = 5
MAX_RETRY_AFTER: Final = 30
"""Maximum value of Retry-After after a limit, in seconds. client-go waits for it without a message."""
# Values of metav1.StatusReason (k8s.io/apimachinery/pkg/apis/meta/v1/types.go). client-go reads others as unknown.
_STATUS_REASONS: Final = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    407: "Unauthorized",
    421: "BadRequest",
    429: "TooManyRequests",
    431: "RequestEntityTooLarge",
    503: "ServiceUnavailable",
    504: "Timeout",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Deny:
    """A refusal. `retry_after` is in seconds, `challenge` is the scheme of a 401.

    `request_info` is the request that the Connector's permissions refuse. `role` is only for the audit log.
    """

    status: int
    message: str
    cause: Cause
    retry_after: int | None = None
    challenge: Literal["Bearer", "Basic"] = "Bearer"
    request_info: RequestInfo | None = None
    role: str = ""
    """ClusterRole that denies the request."""
    detail: str = ""
    """Part of the cause, for the audit log. The caller does not get it."""

    @property
    def reason(self) -> str:
        """StatusReason of the Kubernetes API."""
        return _STATUS_REASONS.get(self.status, "InternalError")

    @property
    def phrase(self) -> bytes:
        """Reason phrase (RFC 9112 section 4) in printable ASCII. kubectl shows only this for a refused CONNECT."""
        text = f"{HTTPStatus(self.status).phrase}: {self.message}"[:_MAX_PHRASE]
        return "".join(character if " " <= character <= "~" else "?" for character in text).encode("ascii")

    @property
    def body(self) -> bytes:
        """Status object (meta/v1) as JSON."""
        status: dict[str, object] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": printable(self.message),
            "reason": self.reason,
            "code": self.status,
        }
        if self.retry_after is not None:
            status["details"] = {"retryAfterSeconds": self.retry_after}
        if self.request_info is not None:
            details = {
                "name": self.request_info.name,
                "group": self.request_info.group,
                "kind": self.request_info.resource,
            }
            status["details"] = {name: value for name, value in details.items() if value}
        return json.dumps(status, separators=(",", ":")).encode("ascii")

    @property
    def text(self) -> bytes:
        """Message as a text, which clients show where they cannot read a Status."""
        return printable(self.message).encode()

    @property
    def headers(self) -> tuple[Header, ...]:
        """Headers of the refusal. The writer of the response adds Content-Length and Connection.

        A Warning header repeats the message, because client-go's discovery reports a Status as "unknown".
        """
        headers: list[Header] = [(b"Content-Type", b"application/json"), (b"Cache-Control", b"no-cache, private")]
        headers.append(warning_header(self.message))
        if self.status == 407:
            headers.append((b"Proxy-Authenticate", b'Basic realm="connectors"'))
        if self.status == 401:
            headers.append((b"WWW-Authenticate", f'{self.challenge} realm="connectors"'.encode()))
        if self.retry_after is not None:
            headers.append((b"Retry-After", b"%d" % self.retry_after))
        return tuple(headers)


def is_discovery(headers: Headers) -> bool:
    """Return True for a request of client-go's discovery, which reads a text, and reports a Status as "unknown"."""
    return any(_DISCOVERY in value for value in headers.values(b"accept"))


def not_synced() -> Deny:
    return Deny(
        status=503,
        message="the proxy has not read all Connectors yet; try again in a moment",
        cause="not_synced",
        retry_after=_NOT_SYNCED_RETRY_AFTER,
    )


def bad_credentials(error: ParseError, *, on_connect: bool) -> Deny:
    """Refuse missing or invalid credentials."""
    return Deny(status=407 if on_connect else 401, message=str(error), cause="credentials")


def cross_site() -> Deny:
    """Refuse Basic credentials that a browser added to a request of a page of another origin."""
    return Deny(
        status=403,
        message="Basic credentials are not accepted in requests of pages of another origin; send the token as Bearer",
        cause="cross_site",
    )


def bad_token(*, on_connect: bool) -> Deny:
    """Refuse an invalid token. In a CONNECT it comes from a kubeconfig whose `proxy-url` contains the token."""
    alternative = ", or use a rotating one, whose token clients read again" if on_connect else ""
    return Deny(
        status=407 if on_connect else 401,
        message=f"the token is not valid, has expired or is for another audience; get a new kubeconfig{alternative}",
        cause="token",
    )


def unavailable(access: Unavailable) -> Deny:
    """Refuse because the access check failed."""
    public_reason = f": {access.public_reason}" if access.public_reason else ""
    return Deny(
        status=503,
        message=f"the caller cannot be checked at the moment{public_reason}; try again",
        cause="unavailable",
        retry_after=access.retry_after,
        detail=access.kind,
    )


def access_denied(key: ObjectKey, *, may_request: bool = False) -> Deny:
    """Refuse a Connector that does not exist, or that the caller may not use. Both get the same refusal.

    With `may_request`, the caller may create access requests in the namespace. The hint depends only on the names.
    """
    next_step = "ask its owner for the right to use it"
    if may_request:
        next_step = f"ask for access with: connectorctl request {key} --for 1h --reason TEXT"
    return Deny(
        status=403,
        message=f'connectors.connectors.alauda.io "{key.name}" not found in namespace "{key.namespace}", '
        f"or you may not use it; check the name, or {next_step}",
        cause="access",
    )


def locked(key: ObjectKey, reason: str) -> Deny:
    """Refuse a caller whom an AccessLock locks out of the Connector."""
    return Deny(
        status=403,
        message=f"you are locked out of Connector {key}: {printable(reason) or 'no reason is given'}; "
        "ask the owner of the lock",
        cause="locked",
    )


def unusable(problem: Unusable) -> Deny:
    """Refuse an unusable Connector. The status is 502 if the target issued no token, as if it were unreachable."""
    status = 502 if problem.reason == TOKEN_NOT_ISSUED else 503
    return Deny(status=status, message=f"Connector {problem.key} cannot be used: {problem.message}", cause="unusable")


def wrong_address(key: ObjectKey, address: Address) -> Deny:
    return Deny(
        status=403,
        message=f"Connector {key} is for {address} only; use that as the server of your kubeconfig",
        cause="address",
    )


def path_outside(key: ObjectKey, address: Address) -> Deny:
    return Deny(
        status=403,
        message=f"Connector {key} is for paths below {address.prefix}/ only, written without dot segments"
        if address.prefix
        else "the request target is not a path",
        cause="path",
    )


def path_traversal(key: ObjectKey) -> Deny:
    return Deny(
        status=403,
        message=f"the path of a request to Connector {key} has dot segments, or escapes that might stand for them",
        cause="path",
    )


def misdirected() -> Deny:
    """Refuse on this connection (RFC 9110 section 15.5.20). Clients may try again on another connection."""
    return Deny(
        status=421,
        message="the server name of the connection, Host and path do not name one and the same Connector",
        cause="host",
    )


def wrong_host(key: ObjectKey, address: Address) -> Deny:
    return Deny(status=403, message=f"Connector {key} is for Host {address.authority} only, named once", cause="host")


def impersonation_header(header: bytes) -> Deny:
    name = header[:_MAX_HEADER_NAME].decode("latin-1")
    return Deny(
        status=403,
        message=f"header {name} is not passed on: impersonation does not work through a Connector",
        cause="identity_header",
    )


def not_permitted(key: ObjectKey, info: RequestInfo, result: NotAllowed) -> Deny:
    """Refuse in the words of k8s.io/apiserver, pkg/endpoints/handlers/responsewriters/errors.go."""
    missing = result.missing
    if missing.resource:
        resource = f"{missing.resource}/{missing.subresource}" if missing.subresource else missing.resource
        scope = f'in the namespace "{missing.namespace}"' if missing.namespace else "at the cluster scope"
        missing_right = f'"{missing.verb}" on resource "{resource}" in API group "{missing.group}" {scope}'
    else:
        missing_right = f'"{missing.verb}" on path "{missing.path}"'
    subject = f"{info.resource}.{info.group}" if info.group else info.resource
    quoted_name = f' "{info.name}"' if info.name else ""
    start = f"{subject}{quoted_name} is forbidden" if subject else "forbidden"
    explanation = f": {result.reason}" if result.reason else ""
    return Deny(
        status=403,
        message=f'{start}: Connector "{key}" does not allow {missing_right}{explanation}',
        cause="not_allowed",
        request_info=info,
        role=result.denied_by,
    )


def cannot_impersonate(key: ObjectKey, error: ParseError) -> Deny:
    """Refuse a caller whose identity cannot be passed on to the target."""
    return Deny(status=403, message=f'Connector "{key}" cannot impersonate you: {error.reason}', cause="impersonation")


def absolute_form() -> Deny:
    return Deny(
        status=403,
        message="only CONNECT to the https address of a Connector is served, no plain http",
        cause="absolute_form",
    )


def invalid_message(status: int, reason: str, limit: int) -> Deny:
    """Refuse an invalid HTTP message. A `status` of 431 means that its head is too large."""
    return header_too_large(limit) if status == 431 else bad_request(reason)


def unreadable_delete_options(error: ParseError) -> Deny:
    """Refuse a deletion that cannot become a dry run."""
    return bad_request(
        f"the Connector allows dry runs only, and the body of this deletion {error.reason}; send DeleteOptions as JSON"
    )


def bad_authority() -> Deny:
    """Refuse a CONNECT with an invalid authority (RFC 9110 section 9.3.6)."""
    return bad_request("the authority is not HOST:PORT")


def bad_method() -> Deny:
    return bad_request("a method that the Kubernetes API does not have")


def bad_request(message: str) -> Deny:
    return Deny(status=400, message=message, cause="bad_request")


def header_too_large(limit: int) -> Deny:
    """Refuse a head that is larger than `limit` bytes."""
    return Deny(status=431, message=f"the header is larger than {limit} bytes", cause="header_too_large")


def too_many_connections(limit: int) -> Deny:
    return Deny(
        status=429,
        message=f"more than {limit} connections of one caller to one Connector; close some",
        cause="too_many",
        retry_after=_TOO_MANY_RETRY_AFTER,
    )


def limit_exceeded(key: ObjectKey, exceeded: Exceeded) -> Deny:
    """Refuse a request that exceeds `spec.limits`. The status is 403 if the limit is 0, because waiting does not help.

    A wait above MAX_RETRY_AFTER is only in the message, so that the request of a client-go program fails at once.
    """
    rate, scope = exceeded.rate, exceeded.scope
    field = f"spec.limits.{rate.field} of Connector {key}"
    if rate.amount == 0:
        return Deny(
            status=403,
            message=f"{field} is 0, so this request is refused; ask the owner of the Connector",
            cause="limit",
            detail=rate.field,
        )
    callers = {
        "": "one caller",
        "namespace": f"all callers of namespace {scope.name} together",
        "connector": "all its callers together",
    }[scope.kind]
    limit = rate.amount * scope.factor
    message = f"{field} allows {limit} sessions at once for {callers}; close some"
    retry_after: int | None = _TOO_MANY_RETRY_AFTER
    if exceeded.wait is not None:
        wait = max(1, math.ceil(exceeded.wait))
        message = f"{field} allows {limit} requests of this kind per {rate.period} for {callers}; try again in {wait} s"
        retry_after = wait if wait <= MAX_RETRY_AFTER else None
    return Deny(status=429, message=message, cause="limit", retry_after=retry_after, detail=rate.field)


def not_found() -> Deny:
    """Refuse a request to the proxy itself."""
    message = "not found; the proxy itself serves /ca.crt and /kubeconfig, and Connectors at /connectors/NAMESPACE/NAME"
    return Deny(status=404, message=message, cause="not_found")


def target_unreachable(target: Target, problem: str) -> Deny:
    """Refuse because the connection to the target failed. `problem` is the reason, such as an invalid certificate."""
    return Deny(
        status=502, message=f"target {target.address} of Connector {target.key}: {problem}", cause="target_unreachable"
    )


def target_denied(target: Target, address: str) -> Deny:
    """Refuse a target that resolves only to addresses that the address policy denies, such as `address`."""
    return Deny(
        status=503,
        message=f"target {target.address} of Connector {target.key} resolves to {address}, which targets-deny covers; "
        "add it to targets-allow if it is meant",
        cause="target_denied",
    )


def target_timeout(target: Target, seconds: float) -> Deny:
    return Deny(
        status=504,
        message=f"target {target.address} of Connector {target.key} did not answer within {seconds:g} s",
        cause="timeout",
    )


def target_refused(target: Target) -> Deny:
    """Refuse because the target answered 401 for our credential."""
    fix = f"; renew Secret {target.secret_name}" if target.secret_name else ""
    message = f"the target refused the credential of Connector {target.key}{fix}"
    if isinstance(target.credential, IssuedToken):
        message = f"the target refused the token that it granted for Connector {target.key}; try again for another one"
    return Deny(status=502, message=message, cause=TARGET_REFUSED)


def target_redirect(target: Target) -> Deny:
    """Refuse a redirect to another server at direct access, because the client would send its token there."""
    return Deny(
        status=502,
        message=f"target {target.address} of Connector {target.key} redirects to another server, where the client "
        "would send its token; set the address of the Connector to a server that does not redirect",
        cause="target_redirect",
    )


def target_response(target: Target, problem: str) -> Deny:
    """Refuse a response that the proxy must rewrite and cannot read. The client gets nothing of it."""
    return Deny(
        status=502,
        message=f"target {target.address} of Connector {target.key} sent a response that the proxy must rewrite, and "
        f"cannot read: {problem}; try again, and check that the address is that of the API server",
        cause="target_response",
    )


def loop(key: ObjectKey) -> Deny:
    """Refuse a request that was sent to a target for the same Connector before."""
    return Deny(
        status=508,
        message=f"the address of Connector {key} leads back to the Connector; set it to the API server of the target",
        cause="loop",
    )


def audit_log_full() -> Deny:
    """Refuse because the audit log is full. The proxy serves only requests that it can record."""
    return Deny(
        status=503,
        message="the proxy's audit log is not read, and nothing is served that is not written down; try again later",
        cause="audit",
        retry_after=_AUDIT_RETRY_AFTER,
    )


def refused_by_addon(status: int, message: str) -> Deny:
    """Describe the refusal of an addon of the user, whose response the client gets. `message` can be empty."""
    text = message or f"an addon of the proxy responded with status {status}"
    return Deny(status=status, message=text, cause="addon")


def failed_addon() -> Deny:
    """Refuse because an addon of the user raised an exception. It may be the addon that refuses such requests."""
    return Deny(status=500, message='an addon of the proxy failed; "Addon error" in its log says why', cause="addon")


def watch_error(reason: str) -> bytes:
    """Return an event of type ERROR that ends a watch: a WatchEvent (meta/v1) as a line of JSON."""
    status = Deny(status=403, message=f"the proxy closed the watch: {reason}", cause="access")
    return b'{"type":"ERROR","object":%b}\n' % status.body


def internal_error() -> Deny:
    """Refuse because of an error in the proxy. The log has the error."""
    return Deny(status=500, message="the proxy failed; its log says why", cause="internal")
