"""One look at a folder of manifests: what is in its files now, and what was in those that cannot be read.

A file that is broken keeps the last good state of its objects. Files are read once for each change of them; sub-folders
and hidden files are passed over, as `kubectl apply -f FOLDER` does it.
"""

import os
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from connector_store.folder.manifests import LocatedObject, ManifestContent, Problem, read_manifests
from connector_store.store import identify

SUFFIXES: Final = (".yaml", ".yml", ".json")
MAX_FILE_BYTES: Final = 8 * 1024 * 1024
MAX_FILES: Final = 10_000
MAX_FOLDER_BYTES: Final = 64 * 1024 * 1024
"""Bytes of all files together."""

_MIN_AGE: Final = 0.1
"""Seconds that a file must be old when it is read: younger, a second write may leave the same times and size."""


class _Signature(NamedTuple):
    device: int
    inode: int
    size: int
    modified_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """What a file gave when it was read last; `signature` is None if it has to be read again."""

    signature: _Signature | None
    objects: tuple[LocatedObject, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSnapshot:
    """All files by name, and problems of the folder itself. `changed` if anything differs from the look before."""

    files: Mapping[str, ManifestFile] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    changed: bool = True


def read_folder(folder: Path, previous: FolderSnapshot, *, system_namespace: str) -> FolderSnapshot:
    """Read what changed. A folder that is not there is empty; one that cannot be listed keeps what it had."""
    try:
        names = sorted(each.name for each in folder.iterdir() if _is_manifest(each.name))
    except (FileNotFoundError, NotADirectoryError):
        problem = Problem(file=str(folder), line=0, reason="is not a folder; make it with: connectorctl init")
        return _mark_changed(FolderSnapshot(problems=(problem,)), previous)
    except OSError as error:
        problem = Problem(file=str(folder), line=0, reason=f"cannot be listed: {error.strerror}")
        return _mark_changed(FolderSnapshot(files=previous.files, problems=(problem,)), previous)
    files: dict[str, ManifestFile] = {}
    total_size = 0
    for name in names[:MAX_FILES]:
        file = _read_file(folder / name, previous.files.get(name), MAX_FOLDER_BYTES - total_size, system_namespace)
        if file is not None:
            files[name] = file
            total_size += file.signature.size if file.signature else 0
    return _mark_changed(FolderSnapshot(files=files, problems=tuple(_file_limit_problems(folder, names))), previous)


def _mark_changed(snapshot: FolderSnapshot, previous: FolderSnapshot) -> FolderSnapshot:
    is_same = snapshot.problems == previous.problems and snapshot.files == previous.files
    return FolderSnapshot(files=snapshot.files, problems=snapshot.problems, changed=not is_same)


def _file_limit_problems(folder: Path, names: list[str]) -> Iterator[Problem]:
    if len(names) > MAX_FILES:
        yield Problem(file=str(folder), line=0, reason=f"has more than {MAX_FILES} files; the others are not read")


def _is_manifest(name: str) -> bool:
    return not name.startswith(".") and name.endswith(SUFFIXES)


def _read_file(
    path: Path, previous: ManifestFile | None, remaining_bytes: int, system_namespace: str
) -> ManifestFile | None:
    """None if it is gone, or is no file."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return None
        if previous is not None and previous.signature == _signature(status):
            return previous
        data, status = _read_bytes(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _keep_previous(path, previous, f"cannot be read: {error.strerror}")
    if data is None:
        return _keep_previous(path, previous, "is not a regular file")
    if len(data) > MAX_FILE_BYTES:
        return _keep_previous(path, previous, f"is larger than {MAX_FILE_BYTES} bytes; split it")
    if len(data) > remaining_bytes:
        return _keep_previous(path, previous, f"is one too many: the folder is larger than {MAX_FOLDER_BYTES} bytes")
    content = read_manifests(str(path), data, system_namespace=system_namespace)
    is_settled = time.time() - status.st_mtime > _MIN_AGE and len(data) == status.st_size
    return ManifestFile(
        signature=_signature(status) if is_settled else None,
        objects=_merge_previous(content, previous),
        problems=content.problems,
    )


def _read_bytes(path: Path) -> tuple[bytes | None, os.stat_result]:
    # Without O_NONBLOCK, a pipe that somebody put here would hold us.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - a descriptor
        status = os.fstat(file.fileno())
        return (file.read(MAX_FILE_BYTES + 1) if stat.S_ISREG(status.st_mode) else None), status


def _keep_previous(path: Path, previous: ManifestFile | None, reason: str) -> ManifestFile:
    problem = Problem(file=str(path), line=0, reason=reason)
    return ManifestFile(signature=None, objects=previous.objects if previous else (), problems=(problem,))


def _merge_previous(content: ManifestContent, previous: ManifestFile | None) -> tuple[LocatedObject, ...]:
    """What was read and, of a broken file, also what it had before."""
    if not content.is_incomplete or previous is None:
        return content.objects
    identities = {identify(each.object) for each in content.objects}
    return (*content.objects, *(each for each in previous.objects if identify(each.object) not in identities))


def _signature(status: os.stat_result) -> _Signature:
    return _Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
