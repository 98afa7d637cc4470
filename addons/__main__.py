"""Program `python -m addons`: mitmdump reduced to a service, on libuv's event loop (docs/decisions/0034).

It has only those of mitmproxy's addons that a service needs. It accepts mitmdump's arguments, except those that other
addons declare (-w, -n, web interfaces and their options). For these, start mitmdump. It exits with code 1 unless its
scripts include `addons/connector.py`, because it would be an open proxy without it.
"""

import asyncio
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from connector_store.logs import initial_format, make_formatter

PACKAGE: Final = "mitmproxy.addons"
SCRIPT: Final = Path(__file__).resolve().with_name("connector.py")


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


def includes_proxy(scripts: Sequence[str]) -> bool:
    """Return True if one of mitmproxy's scripts is `addons/connector.py`, in any spelling of its path."""
    return SCRIPT in (Path(script).expanduser().resolve() for script in scripts)


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

        async def run(self) -> None:
            """Serve. Raises SystemExit with code 1 without our script, before any port is open."""
            if not includes_proxy(self.options.scripts):
                sys.stderr.write(f"error: the addons of the proxy are not loaded; add the argument: -s {SCRIPT}\n")
                sys.exit(1)
            await super().run()

    run(ServiceMaster, cmdline.mitmdump, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
