"""Entry for mitmproxy: `mitmdump -s addons/connector.py`. Nothing of its own, it joins the addons."""

from addons.access.checks import Authenticate
from addons.net.resolver import Resolver
from addons.relay.visits import Visits
from addons.server.connections import Connections
from addons.server.heap import Heap
from addons.server.lifecycle import Lifecycle

_connections = Connections()

addons = [
    Lifecycle(_connections),
    _connections,
    Authenticate(lambda: _connections.parts().service.access),
    Resolver(),
    Heap(),
    Visits(lambda: _connections.parts().landing),
]
