"""mitmproxy script for tests: the proxy asks the name server NAME_SERVER (IP:PORT) instead of the system's."""

import os

from connector_store.resolver import Resolver

assert Resolver.__init__.__kwdefaults__ is not None
Resolver.__init__.__kwdefaults__["servers"] = (os.environ["NAME_SERVER"],)
