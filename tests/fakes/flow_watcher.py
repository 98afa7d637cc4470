"""mitmproxy addon that records flows and can change them."""

from collections.abc import Callable
from dataclasses import dataclass, field

from mitmproxy import http

from tests.fakes.proxy import Proxy


@dataclass
class FlowWatcher:
    """Addon that records hooks and flows. It calls `act` with the flow in the hook named `hook`."""

    hook: str = ""
    act: Callable[[http.HTTPFlow], None] = lambda _: None
    hook_names: list[str] = field(default_factory=list)
    flows: list[http.HTTPFlow] = field(default_factory=list)

    def _hook(self, name: str, flow: http.HTTPFlow) -> None:
        self.hook_names.append(name)
        if flow not in self.flows:
            self.flows.append(flow)
        if name == self.hook:
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


def add_watcher(proxy: Proxy, hook: str = "", act: Callable[[http.HTTPFlow], None] = lambda _: None) -> FlowWatcher:
    watcher = FlowWatcher(hook, act)
    proxy.master.addons.add(watcher)
    return watcher
