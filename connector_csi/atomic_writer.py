"""Atomic replacement of the files of a volume, as in kubernetes pkg/volume/util/atomic_writer.go.

A volume holds the link `..data -> ..RANDOM/`, that folder with the files, and a link `NAME -> ..data/NAME` for each
file. New content goes into a new folder. Readers see one step only: the rename of the link `..data`. The functions are
not safe for concurrent use on one volume.
"""

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

DATA: Final = "..data"
_DATA_NEW: Final = "..data_tmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Readers of the files: the group `gid`, or all users of the pod's containers if the pod has no fsGroup."""

    gid: int | None

    @property
    def folder_mode(self) -> int:
        return 0o755 if self.gid is None else 0o750

    @property
    def file_mode(self) -> int:
        return 0o444 if self.gid is None else 0o440


def is_written(volume: Path) -> bool:
    """Return True if the volume has content."""
    return os.path.lexists(volume / DATA)


def write(volume: Path, files: Mapping[str, bytes], owner: Owner) -> bool:
    """Replace the content of the volume with `files`, whose names have no slash. Return False if nothing changed.

    On OSError the old content stays in place.
    """
    current = _current_folder(volume)
    # The leftovers of a killed writer may contain an older token.
    _remove_leftovers(volume, current)
    if current is not None and _is_unchanged(volume / current, files, owner):
        _remove_stale_links(volume, files)
        return False
    new_folder = volume / Path(tempfile.mkdtemp(prefix="..", dir=volume)).name
    try:
        _fill(volume, new_folder, files, owner)
        (volume / _DATA_NEW).symlink_to(new_folder.name)
        (volume / _DATA_NEW).rename(volume / DATA)
    except OSError:
        shutil.rmtree(new_folder, ignore_errors=True)
        raise
    # The new content is in effect. The next write removes what this cleanup leaves behind.
    with suppress(OSError):
        _remove_stale_links(volume, files)
        if current is not None:
            shutil.rmtree(volume / current)
    return True


def read(volume: Path) -> Mapping[str, bytes]:
    """Return the current files by name. The result is empty if nothing was written yet."""
    current = _current_folder(volume)
    return {path.name: path.read_bytes() for path in (volume / current).iterdir()} if current is not None else {}


def _fill(volume: Path, new_folder: Path, files: Mapping[str, bytes], owner: Owner) -> None:
    for name, content in files.items():
        (new_folder / name).write_bytes(content)
        _set_permissions(new_folder / name, owner.file_mode, owner)
    _set_permissions(new_folder, owner.folder_mode, owner)
    for name in files:
        if not (volume / name).is_symlink():
            if (volume / name).exists():
                _remove(volume / name)
            (volume / name).symlink_to(f"{DATA}/{name}")


def erase(volume: Path) -> None:
    """Remove everything, so that a process that still uses the mount finds no token in it."""
    for path in volume.iterdir():
        _remove(path)


def _remove(path: Path) -> None:
    """Remove a file, a link or a folder. Root on the node can put any of them into a volume."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _current_folder(volume: Path) -> str | None:
    with suppress(OSError):
        name = (volume / DATA).readlink().name
        if (volume / name).is_dir():
            return name
    return None


def _is_unchanged(folder: Path, files: Mapping[str, bytes], owner: Owner) -> bool:
    if {path.name for path in folder.iterdir()} != files.keys():
        return False
    return all(
        stat.S_IMODE((folder / name).lstat().st_mode) == owner.file_mode
        and (folder / name).read_bytes() == content
        and (folder.parent / name).is_symlink()
        for name, content in files.items()
    )


def _remove_leftovers(volume: Path, current: str | None) -> None:
    """Remove what a killed writer left behind."""
    for path in volume.iterdir():
        if path.name.startswith("..") and path.name not in (DATA, current):
            _remove(path)


def _remove_stale_links(volume: Path, files: Mapping[str, bytes]) -> None:
    for path in volume.iterdir():
        if not path.name.startswith("..") and path.name not in files:
            _remove(path)


def _set_permissions(path: Path, mode: int, owner: Owner) -> None:
    if owner.gid is not None:
        os.chown(path, -1, owner.gid)
    # chmod comes after chown, which may clear mode bits. An explicit mode does not depend on the umask.
    path.chmod(mode)
