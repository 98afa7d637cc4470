"""What the process does not leave behind: no core dump with credentials in it, no log of TLS keys."""

import ctypes
import os
import resource
from typing import Final

_PR_SET_DUMPABLE: Final = 4
"""prctl(2). RLIMIT_CORE alone does not hold where core_pattern is a pipe (core(5))."""


def harden() -> None:
    """For the rest of the process's life; where the kernel has no such thing, as far as it goes."""
    # Honoured by OpenSSL bindings that we do not make ourselves; nobody may read what goes to a target.
    os.environ.pop("SSLKEYLOGFILE", None)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
