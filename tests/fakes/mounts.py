"""Mounts without a kernel: folders that count as mounted, and injected errors."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from connector_csi.mounts import MOUNT_SOURCE


class FakeMounts:
    """Fake of `connector_csi.mounts.Mounts`."""

    def __init__(self) -> None:
        self.table: dict[str, list[str]] = {}
        self.options: dict[str, tuple[int, int]] = {}
        """Mode and gid of the last mount, by path."""
        self.refuse_mount: int | None = None
        """Errno with which a mount fails."""
        self.refuse_unmount: int | None = None

    def sources(self, path: str) -> Sequence[str]:
        return self.table.get(path, ())

    def mount_tmpfs(self, path: str, *, mode: int, gid: int) -> None:
        if self.refuse_mount is not None:
            raise OSError(self.refuse_mount, os.strerror(self.refuse_mount), path)
        if not Path(path).is_dir():
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        self.table.setdefault(path, []).append(MOUNT_SOURCE)
        self.options[path] = (mode, gid)

    def unmount(self, path: str) -> None:
        if self.refuse_unmount is not None:
            raise OSError(self.refuse_unmount, os.strerror(self.refuse_unmount), path)
        self.table[path].pop()
        if not self.table[path]:
            del self.table[path]
