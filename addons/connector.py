"""Entry for mitmproxy: `mitmdump -s addons/connector.py`. Declares nothing of its own, joins the addons."""

from addons.authenticate import Authenticate
from addons.doorkeeper import Doorkeeper
from addons.lifecycle import Lifecycle
from addons.resolver import Resolver
from addons.visits import Visits

_lifecycle = Lifecycle()

addons = [
    _lifecycle,
    Doorkeeper(_lifecycle.service),
    Authenticate(lambda: _lifecycle.service().access),
    Resolver(),
    Visits(_lifecycle.landing),
]
