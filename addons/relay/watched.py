"""Requests that somebody looks at, in mitmweb or in another addon: each is shown as a flow, before it goes anywhere.

A watcher may hold a request, edit its head, answer it or end it; an edited head is decided on again. Nothing of the
response goes to the client before its head was shown.
"""

from dataclasses import dataclass

from mitmproxy.connection import Server

from addons.access.admission import Decision
from addons.access.grant import Asked
from addons.http1.messages import Event, Invalid, RequestHead
from addons.relay.exchange import Exchange
from addons.relay.flows import Observation
from addons.relay.requests import Phase, Requests
from addons.relay.response import Response
from addons.relay.upstream import Upstream
from connector_store.domain.decision import denial
from connector_store.domain.decision.denial import Deny
from connector_store.domain.decision.verdict import Forward, Inject


class WatchedResponse(Response):
    """The flow keeps what begins its body."""

    observation: Observation

    def _take(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, bytes):
            self.observation.keep("response", event)
        super()._take(event, out)


@dataclass(slots=True, kw_only=True)
class WatchedExchange(Exchange):
    """`observation` is None until it was decided that its Connector may be known."""

    observation: Observation | None = None
    showing: bool = False
    """The response's head is being shown."""
    shown: bool = False
    """It was, or is."""
    withheld: bytes = b""
    """Of the response, until its head was shown."""

    def take(self, event: Event, out: list[bytes]) -> None:
        if isinstance(event, bytes) and self.observation is not None:
            self.observation.keep("request", event)
        Exchange.take(self, event, out)

    def _respond(self, verdict: Inject | Forward, upgrade: bytes | None, *, max_head: int) -> Response:
        response = WatchedResponse(self.head, verdict.target, upgrade, max_head=max_head)
        if self.observation is None:
            raise RuntimeError("nobody was shown the request")
        response.observation = self.observation
        return response


class WatchedRequests(Requests):
    """See the module's text."""

    _exchange: WatchedExchange | None

    def _make_exchange(self, head: RequestHead, asked: Asked | None) -> WatchedExchange:
        return WatchedExchange(head=head, asked=asked, identity=self._door.identity, source_ip=self._sockets.source_ip)

    # The request

    def _decided(self, exchange: Exchange, decision: Decision) -> None:
        watched = self._watched()
        watched.decision = decision
        if watched.observation is not None or isinstance(decision.verdict, Deny):
            super()._decided(watched, decision)
        elif isinstance(decision.verdict, Inject | Forward):
            if watched.asked is not None and watched.asked.authority is None:
                self._address(watched, watched.asked, decision.verdict)
            self._show_request(watched, decision.verdict)

    def _show_request(self, exchange: WatchedExchange, verdict: Inject | Forward) -> None:
        keep = self._shared.keep_body
        found = exchange.observation = Observation(self._sockets.client, exchange.head, verdict.target, keep=keep)
        self._sockets.hold()
        self._sockets.ask(found.request_headers_hook(), lambda: self._headers_shown(found))

    def _headers_shown(self, found: Observation) -> None:
        if not self._killed(found):
            self._sockets.ask(found.request_hook(), lambda: self._request_shown(found))

    def _request_shown(self, found: Observation) -> None:
        """Somebody may have edited, answered or killed it, and all that it rests on may have changed meanwhile."""
        exchange, answer, edited = self._watched(), found.answer(), found.edited()
        if self._killed(found):
            return
        if answer is not None:
            exchange.status = answer[0]
            self._say_last(exchange, answer[1])
        elif isinstance(edited, Invalid):
            self._refuse(denial.bad_request(f"the edited request: {edited.reason}"))
        elif exchange.asked is not None:
            exchange.head = edited or exchange.head
            asked = exchange.asked._replace(authority=found.authority)
            decision = self._admission.request(exchange.head, asked, self._waited_for)
            if decision is not None:
                self._waited_for(decision)

    def _killed(self, found: Observation) -> bool:
        if found.killed:
            self.cut("killed by a watcher")
        return found.killed

    def _send_head(self, exchange: Exchange, verdict: Inject | Forward, upstream: Upstream) -> None:
        found = self._watched().observation
        if found is not None and isinstance(upstream.connection, Server):
            found.reached(upstream.connection)
        super()._send_head(exchange, verdict, upstream)

    # The response

    def _progress(self, exchange: Exchange, out: bytes) -> None:
        watched, response = self._watched(), exchange.response
        if response is None or response.head is None or response.failure is not None or watched.observation is None:
            super()._progress(exchange, out)
        elif watched.showing or not watched.shown:
            watched.withheld += out
            if not watched.shown and self._upstream is not None:
                watched.showing = watched.shown = True
                self._sockets.hold(self._upstream.connection)
                hook = watched.observation.response_headers_hook(response.head)
                self._sockets.ask(hook, lambda: self._response_shown(watched))
        else:
            super()._progress(exchange, out)

    def _response_shown(self, watched: WatchedExchange) -> None:
        watched.showing = False
        if watched.observation is None or self._killed(watched.observation):
            return
        upstream = self._upstream
        if upstream is not None:
            self._sockets.release(upstream.connection)
        out, watched.withheld = watched.withheld, b""
        self._progress(watched, out)
        if upstream is not None and upstream.ended and self._phase is not Phase.OVER:
            self._target_ended(upstream)

    def _target_ended(self, upstream: Upstream) -> None:
        """What was withheld comes first."""
        if self._exchange is None or not self._exchange.showing:
            super()._target_ended(upstream)

    def _upgrade(self, exchange: Exchange) -> None:
        self._end_observation(self._watched(), "")
        super()._upgrade(exchange)

    def _end_exchange(self, reason: str) -> None:
        if self._exchange is not None:
            self._end_observation(self._exchange, self._exchange.problem or reason)
        super()._end_exchange(reason)

    def _end_observation(self, exchange: WatchedExchange, problem: str) -> None:
        if exchange.observation is not None:
            exchange.observation.end(problem, self._sockets.tell)

    def _watched(self) -> WatchedExchange:
        if self._exchange is None:
            raise RuntimeError("no request runs")
        return self._exchange
