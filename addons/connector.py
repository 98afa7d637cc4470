"""Entry for mitmproxy: `mitmdump -s addons/connector.py`. Nothing of its own, it joins the addons."""

from addons.authenticate import Authenticate
from addons.doorkeeper import Doorkeeper
from addons.heap import Heap
from addons.lifecycle import Lifecycle
from addons.resolver import Resolver
from addons.visits import Visits

_doorkeeper = Doorkeeper()

addons = [
    Lifecycle(_doorkeeper),
    _doorkeeper,
    Authenticate(lambda: _doorkeeper.parts().service.access),
    Resolver(),
    Heap(),
    Visits(lambda: _doorkeeper.parts().landing),
]
