"""The node's mounts: mount(2), umount2(2) and /proc/self/mountinfo.

Mounts are read from mountinfo (proc_pid_mountinfo(5)), because device numbers do not show bind mounts. The table is
parsed again only when the kernel reports a change, so a query costs one poll(2).
"""

import ctypes
import errno
import logging
import os
import re
import select
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Protocol

logger = logging.getLogger(__name__)

MOUNT_SOURCE: Final = "connectors-csi"
"""Device name of our mounts in mountinfo. It distinguishes them from other mounts."""
TMPFS_SIZE: Final = "2m"
"""Size limit of one volume: twice the largest content. The used part counts as memory of the driver."""
TMPFS_INODES: Final = 256

MOUNTINFO: Final = Path("/proc/self/mountinfo")
SELINUX_ENFORCE: Final = "fs/selinux/enforce"
"""Path in the node's /sys. A container's own /sys does not have it."""

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8
_LABEL_ERRNOS: Final = frozenset({errno.EACCES, errno.EPERM, errno.EINVAL})
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mounts(Protocol):
    """The kernel's mounts. Methods raise OSError if the kernel refuses."""

    def sources(self, path: str) -> Sequence[str]:
        """Return the sources of the mounts on `path`, the topmost last. `path` has no symbolic links."""

    def mount_tmpfs(self, path: str, *, mode: int, gid: int) -> None: ...

    def unmount(self, path: str) -> None:
        """Unmount the topmost mount. If a process still uses it, detach it."""


def parse_mountinfo(text: str) -> Mapping[str, Sequence[str]]:
    """Return the sources of the mounts by mount point, the topmost last."""
    sources: dict[str, list[str]] = {}
    # The kernel escapes only the end of a field and of a line. A pod's author can choose a subPath with any other line
    # boundary of str.splitlines, and its mount is in the table.
    for line in filter(None, text.split("\n")):
        mount_fields, _, filesystem_fields = line.partition(" - ")
        sources.setdefault(_unescape(mount_fields.split(" ")[4]), []).append(_unescape(filesystem_fields.split(" ")[1]))
    return sources


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)


class KernelMounts:
    """The mount namespace of this process."""

    def __init__(self, *, sys: Path = Path("/sys"), selinux_context: str = "") -> None:
        """Open mountinfo. `selinux_context` labels the mounts if the node's /sys (at `sys`) shows SELinux enforcing.

        The container runtime does not relabel volumes with readOnly: true (kubernetes pkg/volume/csi, GetAttributes).
        If `selinux_context` is empty, the node's policy labels the mounts.
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._lock = threading.Lock()
        self._file = MOUNTINFO.open("rb", buffering=0)
        self._poll = select.poll()
        self._poll.register(self._file, select.POLLPRI)
        self._enforce_file = sys / SELINUX_ENFORCE
        self._selinux_context = selinux_context
        self._noswap_supported = True
        self._sources_by_path = self._read_mountinfo()

    def sources(self, path: str) -> Sequence[str]:
        with self._lock:
            if self._poll.poll(0):
                self._sources_by_path = self._read_mountinfo()
            return self._sources_by_path.get(path, ())

    def mount_tmpfs(self, path: str, *, mode: int, gid: int) -> None:
        options = f"size={TMPFS_SIZE},nr_inodes={TMPFS_INODES},mode={mode:04o},uid=0,gid={gid}"
        selinux_option = self._selinux_option()
        try:
            self._mount_noswap(path, options + selinux_option)
        except OSError as e:
            if not selinux_option or e.errno not in _LABEL_ERRNOS:
                raise
            self._mount_noswap(path, options)
            logger.warning(
                "the node's SELinux policy refused %s; %s has the label of the policy", selinux_option[1:], path
            )

    def _mount_noswap(self, path: str, options: str) -> None:
        if not self._noswap_supported:
            self._mount(path, options)
            return
        try:
            self._mount(path, options + ",noswap")
        except OSError as e:
            if e.errno != errno.EINVAL:
                raise
            self._mount(path, options)
            # Linux before 6.4 does not support noswap (tmpfs(5)). The second mount shows that only noswap was wrong.
            self._noswap_supported = False

    def unmount(self, path: str) -> None:
        try:
            self._unmount(path, _UMOUNT_NOFOLLOW)
        except OSError as e:
            if e.errno != errno.EBUSY:
                raise
            self._unmount(path, _UMOUNT_NOFOLLOW | _MNT_DETACH)

    def close(self) -> None:
        self._file.close()

    def _selinux_option(self) -> str:
        try:
            enforcing = bool(self._selinux_context) and self._enforce_file.read_text().strip() == "1"
        except OSError:
            enforcing = False
        return f',context="{self._selinux_context}"' if enforcing else ""

    def _mount(self, path: str, options: str) -> None:
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        source, target, data = MOUNT_SOURCE.encode(), os.fsencode(path), options.encode()
        self._check_result(self._libc.mount(source, target, b"tmpfs", ctypes.c_ulong(flags), data), path)

    def _unmount(self, path: str, flags: int) -> None:
        self._check_result(self._libc.umount2(os.fsencode(path), flags), path)

    def _check_result(self, result: int, path: str) -> None:
        if result != 0:
            error_number = ctypes.get_errno()
            raise OSError(error_number, os.strerror(error_number), path)

    def _read_mountinfo(self) -> Mapping[str, Sequence[str]]:
        self._file.seek(0)
        return parse_mountinfo(os.fsdecode(self._file.readall()))
