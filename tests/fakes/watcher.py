"""Somebody who watches flows, and may act on them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mitmproxy import http

from tests.fakes.proxy import Proxy


@dataclass
class Watcher:
    """An addon of mitmproxy's; `act` does something to a flow in the hook `at`."""

    at: str = ""
    act: Callable[[http.HTTPFlow], None] = lambda _: None
    seen: list[str] = field(default_factory=list)
    flows: list[http.HTTPFlow] = field(default_factory=list)

    def _hook(self, name: str, flow: http.HTTPFlow) -> None:
        self.seen.append(name)
        if flow not in self.flows:
            self.flows.append(flow)
        if name == self.at:
            self.act(flow)

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        self._hook("requestheaders", flow)

    def request(self, flow: http.HTTPFlow) -> None:
        self._hook("request", flow)

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        self._hook("responseheaders", flow)

    def response(self, flow: http.HTTPFlow) -> None:
        self._hook("response", flow)

    def error(self, flow: http.HTTPFlow) -> None:
        self._hook("error", flow)


def watch(proxy: Proxy, at: str = "", act: Callable[[http.HTTPFlow], None] = lambda _: None) -> Watcher:
    watcher = Watcher(at, act)
    proxy.master.addons.add(watcher)
    return watcher
