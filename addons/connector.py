"""Entry point for mitmproxy: `mitmdump -s addons/connector.py`. It lists the proxy's addons."""

from addons.server.connections import Connections
from addons.server.lifecycle import Lifecycle
from addons.server.process import FrozenHeap

_connections = Connections()

addons = [Lifecycle(_connections), _connections, FrozenHeap()]
