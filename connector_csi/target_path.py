"""Check of a volume's target path: it must be kubelet's own path for a CSI volume."""

import os
import stat
from pathlib import Path
from typing import Final

from connector_csi.failure import Failure, from_os_error, invalid

_VOLUMES: Final = "volumes/kubernetes.io~csi"
"""Middle of the path POD_UID/volumes/kubernetes.io~csi/VOLUME/mount (kubernetes pkg/volume/csi)."""


def check_target_path(text: str, pods: Path) -> Path | Failure:
    """Return the path as the kernel names it. It must be that of a CSI volume, without symbolic links below `pods`,
    and a folder or absent.
    """
    path = Path(text)
    if "\0" in text or os.path.normpath(text) != text or not _is_volume_path(path, pods):
        return invalid(
            f"target_path is not that of a CSI volume, {pods}/UID/{_VOLUMES}/NAME/mount; see the flag --kubelet-root"
        )
    try:
        # Path.resolve() raises RuntimeError for a loop of links before Python 3.13.
        real_path = Path(os.path.realpath(pods)) / path.relative_to(pods)
        if os.path.realpath(path.parent) != str(real_path.parent):
            return invalid("target_path leads through a symbolic link")
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return real_path
    except OSError as e:
        return from_os_error("cannot look at target_path", e)
    if stat.S_ISLNK(mode):
        return invalid("target_path is a symbolic link")
    if not stat.S_ISDIR(mode):
        return invalid("target_path is not a folder")
    return real_path


def _is_volume_path(path: Path, pods: Path) -> bool:
    if not path.is_relative_to(pods):
        return False
    parts = path.relative_to(pods).parts
    return len(parts) == 5 and "/".join(parts[1:3]) == _VOLUMES
