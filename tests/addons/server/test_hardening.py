"""Asked of a process of its own: what it is told lasts to its end."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, resource, ctypes
from addons.server.hardening import harden
harden()
print(os.environ.get("SSLKEYLOGFILE"), resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(3, 0, 0, 0, 0))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_leaves_no_core_and_no_keys() -> None:
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT], env={"SSLKEYLOGFILE": "/dev/null"}, capture_output=True, text=True, check=True
    )
    assert said.stdout == "None (0, 0) 0\n"
