"""python -m addons: mitmdump as a service has it, with those of mitmproxy's own addons that take part in serving, and
on libuv's event loop (docs/decisions/0034).

Its arguments are mitmdump's, and so is the way in which it reads them. What other addons would have declared (-w, -n,
web interfaces, options of theirs) is not there: who needs that starts mitmdump.
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
    """Makes mitmproxy's package of addons without running its __init__, which imports them all: 14 MB resident.

    To be called before anything of mitmproxy's is imported; the modules of the package are imported one by one then.
    """
    import mitmproxy

    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise ModuleNotFoundError(PACKAGE)
    package = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = package
    mitmproxy.addons = package


def create_addons() -> list[Any]:
    """New ones of mitmproxy's addons that take part in serving, in their order."""
    from mitmproxy.addons import core, errorcheck, proxyserver, script, tlsconfig

    return [
        core.Core(),
        proxyserver.Proxyserver(),
        script.ScriptLoader(),
        tlsconfig.TlsConfig(),
        errorcheck.ErrorCheck(),
    ]


def main(arguments: Sequence[str]) -> None:
    """Serve until a signal; SystemExit 1 for what is wrong with the start."""
    skip_addons_init()
    # `run` makes its loop itself, and takes none.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    from mitmproxy import master, options
    from mitmproxy.tools import cmdline
    from mitmproxy.tools.main import run

    class Service(master.Master):
        """Made by `run`, which makes a DumpMaster for mitmdump."""

        def __init__(self, opts: options.Options) -> None:
            super().__init__(opts, with_termlog=True)
            handler = self.addons.get("termlog").logger
            handler.setFormatter(make_formatter(initial_format(os.environ), handler.file, handler.formatter))
            self.addons.add(*create_addons())

    run(Service, cmdline.mitmdump, arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
