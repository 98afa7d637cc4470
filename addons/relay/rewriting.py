"""Rewriting of a request and its response, for treatments other than UNCHANGED, without I/O."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote_plus

from addons.http1.messages import BodyEnd, RequestHead, ResponseHead
from connector_store.domain.base.headers import Headers
from connector_store.domain.base.request_info import RequestInfo
from connector_store.domain.objects.models import Target
from connector_store.domain.permissions.evaluator import PermissionEvaluator
from connector_store.domain.permissions.mask import accept_header, choose_form
from connector_store.domain.permissions.masked_body import Body, ErrorBody, ObjectBody, masked_body
from connector_store.domain.permissions.self_review import rewrite_self_review

_REQUEST_HEADERS: Final = (
    b"accept", b"accept-encoding", b"range", b"if-range", b"if-match", b"if-none-match", b"if-modified-since",
    b"if-unmodified-since",
)  # fmt: skip
"""Headers that choose the form of the response, or whether there is one. The proxy chooses the form itself."""
_RESPONSE_HEADERS: Final = frozenset(
    {
        b"date", b"cache-control", b"retry-after", b"audit-id", b"connection",
        b"x-kubernetes-pf-flowschema-uid", b"x-kubernetes-pf-prioritylevel-uid",
    }
)  # fmt: skip
"""Headers of the target that the client gets."""
_JSON: Final = b"application/json"


def make_dry_run(head: RequestHead, delete_options: bytes | None) -> RequestHead:
    """Return the head of a write as a dry run. `delete_options` is the rewritten body of a deletion.

    The parameter is the first one, so that no character in the rest of the query hides it.
    """
    path, _, query = head.target.partition(b"?")
    pairs = [pair for pair in query.split(b"&") if pair and unquote_plus(pair.partition(b"=")[0].decode()) != "dryRun"]
    head = replace(head, target=b"&".join([path + b"?dryRun=All", *pairs]))
    if delete_options is None:
        return head
    length = (b"Content-Length", b"%d" % len(delete_options))
    headers = [*head.headers.without(b"content-type", b"content-length", b"expect"), (b"Content-Type", _JSON), length]
    return replace(head, headers=Headers(headers), body=len(delete_options))


def mask_rewriter(head: RequestHead, info: RequestInfo) -> "ResponseRewriter":
    """Return the rewriter of a request for Secrets."""
    form = choose_form([value.decode("latin-1") for value in head.headers.values(b"accept")])
    return ResponseRewriter(
        head,
        accept_header(form, is_list=info.verb == "list"),
        lambda: masked_body(form, info.verb),
        statuses=frozenset({200}),
        is_stream=info.verb == "watch",
    )


def review_rewriter(head: RequestHead, target: Target, wider: Sequence[PermissionEvaluator] = ()) -> "ResponseRewriter":
    """Return the rewriter of a self-review. `target` has permissions. `wider` are those with an access request."""

    def rewrite(value: object) -> object:
        if target.permissions is None:
            raise ValueError("no permissions")
        return rewrite_self_review(value, target.permissions, str(target.key), wider)

    return ResponseRewriter(head, _JSON, lambda: ObjectBody(rewrite), statuses=frozenset({200, 201}))


class ResponseRewriter:
    """Rewriter of the response to one request. All methods raise ValueError if the response has another form.

    `accept` asks for that form, `create_body` creates the body of a response with one of `statuses`. With `is_stream`,
    the client gets the head as soon as it has arrived.
    """

    def __init__(
        self,
        head: RequestHead,
        accept: bytes,
        create_body: Callable[[], Body],
        *,
        statuses: frozenset[int],
        is_stream: bool = False,
    ) -> None:
        self._accept = accept
        self._create_body = create_body
        self._statuses = statuses
        self._is_stream = is_stream
        self._has_body = head.method != b"HEAD"
        self._body: Body | None = None
        self.pending_head: ResponseHead | None = None
        """Head that the client gets before the first byte of the body."""
        self.is_early = False
        """The client gets the head as soon as it has arrived."""

    def rewrite_request(self, head: RequestHead) -> RequestHead:
        """Return the head that asks the target for JSON without compression."""
        accept = [(b"Accept", self._accept), (b"Accept-Encoding", b"identity")]
        return replace(head, headers=Headers([*head.headers.without(*_REQUEST_HEADERS), *accept]))

    def start(self, head: ResponseHead) -> None:
        """Check the head of the response, and set `pending_head`."""
        content_type = (head.headers.single_value(b"content-type") or b"").partition(b";")[0].strip().lower()
        is_error = head.status >= 400
        if not is_error and (head.status not in self._statuses or content_type != _JSON):
            raise ValueError(f"status {head.status} and another content type than JSON")
        if head.headers.values(b"content-encoding") and not is_error:
            raise ValueError("it is compressed")
        if head.body is BodyEnd.CLOSE:
            raise ValueError("its length is not known")
        if self._has_body:
            self._body = ErrorBody() if is_error else self._create_body()
        self.is_early = self._is_stream and not is_error
        headers = [field for field in head.headers if field[0].lower() in _RESPONSE_HEADERS]
        self.pending_head = replace(
            head,
            reason=_phrase(head.status),
            headers=Headers([*headers, (b"Content-Type", _JSON)]),
            body=BodyEnd.LAST_CHUNK if self._has_body else 0,
        )

    def receive(self, data: bytes) -> bytes:
        """Return the rewritten bytes for the client."""
        return self._body.receive(data) if self._body is not None else b""

    def finish(self) -> bytes:
        """Handle the end of the body, and return the rest for the client."""
        return self._body.finish() if self._body is not None else b""


def _phrase(status: int) -> bytes:
    try:
        return HTTPStatus(status).phrase.encode("ascii")
    except ValueError:
        return b""
