"""Program `python -m addons`: mitmdump reduced to a service, on libuv's event loop (docs/decisions/0034).

It has only those of mitmproxy's addons that a service needs. It accepts mitmdump's arguments, except those that other
addons declare (-w, -n, web interfaces and their options). For these, start mitmdump.
"""

import asyncio
import importlib.util
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import uvloop

from connector_store.logs import initial_format, make_formatter

PACKAGE: Final = "mitmproxy.addons"


def skip_addons_init() -> None:
    """Create mitmproxy's package of addons without its __init__, which imports all addons and uses 14 MB of memory.

    Call this before any import of mitmproxy. Modules of the package can be imported afterwards.
    """
    import mitmproxy

    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(PACKAGE)
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    mitmproxy.addons = package


def create_addons() -> list[Any]:
    """Create those of mitmproxy's addons that a service needs, in their order."""
    from mitmproxy.addons import core, errorcheck, proxyserver, script, tlsconfig

    return [
        core.Core(),
        proxyserver.Proxyserver(),
        script.ScriptLoader(),
        tlsconfig.TlsConfig(),
        errorcheck.ErrorCheck(),
    ]


def main(arguments: Sequence[str]) -> None:
    """Serve until a signal arrives. Raises SystemExit with code 1 if the start fails."""
    skip_addons_init()
    # `run` creates the event loop itself and accepts no other.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    from mitmproxy import master, options
    from mitmproxy.tools import cmdline
    from mitmproxy.tools.main import run

    class ServiceMaster(master.Master):
        """Master of the service, which `run` creates instead of mitmdump's DumpMaster."""

        def __init__(self, opts: options.Options) -> None:
            super().__init__(opts, with_termlog=True)
            handler = self.addons.get("termlog").logger
            handler.setFormatter(make_formatter(initial_format(os.environ), handler.file, handler.formatter))
            self.addons.add(*create_addons())

    run(ServiceMaster, cmdline.mitmdump, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
