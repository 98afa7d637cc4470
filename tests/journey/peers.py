"""Pods at the other end of kubectl's streams, one for each protocol, so that tests can distinguish the streams."""

from dataclasses import dataclass

from lab.node.csi_driver import eventually
from tests.journey.worker import NAMESPACE, Worker

SWITCHES = ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "KUBECTL_PORT_FORWARD_WEBSOCKETS")
"""Environment variables of kubectl's: with `false` it begins with SPDY, which it only falls back to otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The pod at the other end of one protocol's streams, so that tests can distinguish the protocols."""

    pod: str
    websockets: bool

    @property
    def environment(self) -> list[str]:
        return [f"{name}={str(self.websockets).lower()}" for name in SWITCHES]

    @property
    def verb(self) -> str:
        """A WebSocket begins with a GET (RFC 6455 section 4.1), kubectl's SPDY with a POST."""
        return "get" if self.websockets else "create"


def start_peers(worker: Worker, prefix: str) -> dict[str, Peer]:
    """Protocol -> its peer, in a pod whose name begins with `prefix`."""
    peers = {
        "a WebSocket": Peer(pod=f"{prefix}-websocket", websockets=True),
        "SPDY": Peer(pod=f"{prefix}-spdy", websockets=False),
    }
    product = worker.product
    for each in peers.values():
        product.kubectl("run", each.pod, f"--image={product.node.box_image}", namespace=NAMESPACE)
    for each in peers.values():
        product.node.wait_for_pod(each.pod, NAMESPACE)
    return peers


def audited_streams(worker: Worker, peer: Peer, subresource: str) -> set[tuple[str, int]]:
    """Verb and status of each stream to the peer, by the proxies' audit: one that kubectl fell back from counts too."""
    return eventually(
        lambda: {
            (each["verb"], each["status"])
            for each in worker.product.audit()
            if (each["name"], each["subresource"]) == (peer.pod, subresource)
        }
    )
