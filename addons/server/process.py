"""What is changed for a service: of the process, of the garbage collector, and of mitmproxy while nobody watches."""

import ctypes
import gc
import logging
import os
import resource
from typing import Final

from mitmproxy.master import Master

_PR_SET_DUMPABLE: Final = 4
"""prctl(2). RLIMIT_CORE alone does not hold where core_pattern is a pipe (core(5))."""
YOUNG: Final = 5_000
"""Objects, beyond those gone by themselves, until the young ones are looked at. Requests and connections leave none,
so this is for their failures: rarely, and for some milliseconds."""
IDLE: Final = (
    "anticache", "anticomp", "blocklist", "browser", "comment", "cut", "disableh2c", "dnsresolver", "dumper", "export",
    "maplocal", "mapremote", "modifybody", "modifyheaders", "onboarding", "proxyauth", "save", "savehar",
    "serverplayback", "stickyauth", "stickycookie", "stripdnshttpsrecords", "updatealtsvc", "upstreamauth",
)  # fmt: skip
"""Addons of mitmproxy's that only look at flows, of which there are none then: each of their hooks would be asked for
each connection. Whoever is not named here stays."""
_CONNECTIONS: Final = "mitmproxy.proxy.server"


def harden() -> None:
    """Leave no core dump with credentials in it and no log of TLS keys, as far as the kernel has such things."""
    # Honoured by OpenSSL bindings that we do not make ourselves; nobody may read what goes to a target.
    os.environ.pop("SSLKEYLOGFILE", None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


class Heap:
    """What was made at the start is not collected between `running` and `done`: that would stop the loop for 50 ms."""

    def __init__(self) -> None:
        self._before = gc.get_threshold()

    def running(self) -> None:
        gc.freeze()
        gc.set_threshold(YOUNG, *self._before[1:])

    def done(self) -> None:
        gc.set_threshold(*self._before)
        gc.unfreeze()


def trim(master: Master) -> None:
    """Take the idle addons out, and drop the log lines of each connection: the audit log has them.

    To be called when all of mitmproxy runs; `-v` keeps the lines.
    """
    for name in IDLE:
        found = master.addons.get(name)
        if found is not None:
            master.addons.remove(found)
    if getattr(master.options, "termlog_verbosity", "info") != "debug":
        logging.getLogger(_CONNECTIONS).setLevel(logging.WARNING)
