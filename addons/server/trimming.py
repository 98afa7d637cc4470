"""What of mitmproxy has nothing to do while nobody watches: each of its hooks asks every addon, for each connection."""

import logging
from typing import Final

from mitmproxy.master import Master

IDLE: Final = (
    "anticache", "anticomp", "blocklist", "browser", "comment", "cut", "disableh2c", "dnsresolver", "dumper", "export",
    "maplocal", "mapremote", "modifybody", "modifyheaders", "onboarding", "proxyauth", "save", "savehar",
    "serverplayback", "stickyauth", "stickycookie", "stripdnshttpsrecords", "updatealtsvc", "upstreamauth",
)  # fmt: skip
"""Addons of mitmproxy's that only look at flows, of which there are none then. Whoever is not named here stays."""
_CONNECTIONS: Final = "mitmproxy.proxy.server"


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
