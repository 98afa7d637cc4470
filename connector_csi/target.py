"""The target path of a volume: kubelet's own place for it, and nothing else."""

import os
import stat
from pathlib import Path

from connector_csi.failure import Failure, from_os, invalid


def check_target(text: str, pods: Path) -> Path | Failure:
    """The path as the kernel names it, if it lies below `pods`, crosses no symbolic link and is a folder or absent."""
    path = Path(text)
    if "\0" in text or os.path.normpath(text) != text or path == pods or not path.is_relative_to(pods):
        return invalid(f"target_path is not a path of a volume below {pods}; see --kubelet-root of the driver")
    try:
        real = pods.resolve() / path.relative_to(pods)
        if path.parent.resolve() != real.parent:
            return invalid("target_path leads through a symbolic link")
        kind = path.lstat().st_mode
    except FileNotFoundError:
        return real
    except OSError as e:
        return from_os("cannot look at target_path", e)
    if stat.S_ISLNK(kind):
        return invalid("target_path is a symbolic link")
    if not stat.S_ISDIR(kind):
        return invalid("target_path is not a folder")
    return real
