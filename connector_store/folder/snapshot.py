"""Snapshot of a folder of manifests.

A broken file keeps the last good state of its objects. Each file is read once after each change. Sub-folders and hidden
files are skipped, as in `kubectl apply -f FOLDER`.
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
"""Maximum size of all files together."""

_MIN_AGE: Final = 0.1
"""Minimum age of a file in seconds, so that its signature counts. A later write may keep its times and size."""


class _Signature(NamedTuple):
    device: int
    inode: int
    size: int
    modified_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestFile:
    """Content of a file at the last read. `signature` is None if the file must be read again."""

    signature: _Signature | None
    objects: tuple[LocatedObject, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSnapshot:
    """All files by name, and problems of the folder. `changed` is True if it differs from the previous snapshot."""

    files: Mapping[str, ManifestFile] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    changed: bool = True


def read_folder(folder: Path, previous: FolderSnapshot, *, system_namespace: str) -> FolderSnapshot:
    """Read the changed files. A missing folder is empty. A folder that cannot be listed keeps its content."""
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
    """Return None if the path does not exist or is a directory."""
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
    # Without O_NONBLOCK, opening a named pipe would block.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - a descriptor
        status = os.fstat(file.fileno())
        return (file.read(MAX_FILE_BYTES + 1) if stat.S_ISREG(status.st_mode) else None), status


def _keep_previous(path: Path, previous: ManifestFile | None, reason: str) -> ManifestFile:
    problem = Problem(file=str(path), line=0, reason=reason)
    return ManifestFile(signature=None, objects=previous.objects if previous else (), problems=(problem,))


def _merge_previous(content: ManifestContent, previous: ManifestFile | None) -> tuple[LocatedObject, ...]:
    """Return the objects that were read and, for a broken file, its previous objects."""
    if not content.is_incomplete or previous is None:
        return content.objects
    identities = {identify(each.object) for each in content.objects}
    return (*content.objects, *(each for each in previous.objects if identify(each.object) not in identities))


def _signature(status: os.stat_result) -> _Signature:
    return _Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
