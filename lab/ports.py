"""Loopback ports that no other test process of this user gets, reserved until this process ends.

They are below the ephemeral range, so that no outgoing connection gets one while its server restarts.
"""

import fcntl
import os
import socket
import tempfile
from pathlib import Path

RANGE = range(20000, 32000)


class Port:
    """A reserved port. The reservation is a file lock, so it ends with the process at the latest."""

    def __init__(self) -> None:
        folder = Path(tempfile.gettempdir()) / f"kubernetes-connector-ports-{os.getuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        start = int.from_bytes(os.urandom(4))
        for offset in range(len(RANGE)):
            self.number = RANGE[(start + offset) % len(RANGE)]
            self._lock = os.open(folder / str(self.number), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            if _try_lock(self._lock) and _is_bindable(self.number):
                return
            os.close(self._lock)
        raise OSError(f"no free loopback port in {RANGE}")

    def release(self) -> None:
        os.close(self._lock)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_bindable(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
