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

from connector_store.folder.manifests import Content, Placed, Problem, read_manifests
from connector_store.store import identify

SUFFIXES: Final = (".yaml", ".yml", ".json")
MAX_FILE: Final = 8 * 1024 * 1024
MAX_FILES: Final = 10_000
MAX_FOLDER: Final = 64 * 1024 * 1024
"""Bytes of all files together."""

_SETTLED: Final = 0.1
"""Seconds that a file must be old when it is read: younger, a second write may leave the same times and size."""


class _Signature(NamedTuple):
    device: int
    inode: int
    size: int
    modified: int


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """What a file gave when it was read last; `signature` is None if it has to be read again."""

    signature: _Signature | None
    objects: tuple[Placed, ...] = ()
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """All files by name, and problems of the folder itself. `changed` if anything differs from the look before."""

    files: Mapping[str, File] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    changed: bool = True


def look(folder: Path, before: Look, *, system_namespace: str) -> Look:
    """Read what changed. A folder that is not there is empty; one that cannot be listed keeps what it had."""
    try:
        names = sorted(each.name for each in folder.iterdir() if _is_manifest(each.name))
    except (FileNotFoundError, NotADirectoryError):
        problem = Problem(file=str(folder), line=0, reason="is not a folder; make it with: connectorctl init")
        return _compared(Look(problems=(problem,)), before)
    except OSError as error:
        problem = Problem(file=str(folder), line=0, reason=f"cannot be listed: {error.strerror}")
        return _compared(Look(files=before.files, problems=(problem,)), before)
    files: dict[str, File] = {}
    total = 0
    for name in names[:MAX_FILES]:
        found = _file(folder / name, before.files.get(name), MAX_FOLDER - total, system_namespace)
        if found is not None:
            files[name] = found
            total += found.signature.size if found.signature else 0
    return _compared(Look(files=files, problems=tuple(_too_many(folder, names))), before)


def _compared(now: Look, before: Look) -> Look:
    same = now.problems == before.problems and now.files == before.files
    return Look(files=now.files, problems=now.problems, changed=not same)


def _too_many(folder: Path, names: list[str]) -> Iterator[Problem]:
    if len(names) > MAX_FILES:
        yield Problem(file=str(folder), line=0, reason=f"has more than {MAX_FILES} files; the others are not read")


def _is_manifest(name: str) -> bool:
    return not name.startswith(".") and name.endswith(SUFFIXES)


def _file(path: Path, before: File | None, room: int, system_namespace: str) -> File | None:
    """None if it is gone, or is no file."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            return None
        if before is not None and before.signature == _signature(status):
            return before
        data, status = _read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        return _kept(path, before, f"cannot be read: {error.strerror}")
    if data is None:
        return _kept(path, before, "is not a regular file")
    if len(data) > MAX_FILE:
        return _kept(path, before, f"is larger than {MAX_FILE} bytes; split it")
    if len(data) > room:
        return _kept(path, before, f"is one too many: the folder is larger than {MAX_FOLDER} bytes")
    content = read_manifests(str(path), data, system_namespace=system_namespace)
    settled = time.time() - status.st_mtime > _SETTLED and len(data) == status.st_size
    return File(
        signature=_signature(status) if settled else None,
        objects=_merged(content, before),
        problems=content.problems,
    )


def _read(path: Path) -> tuple[bytes | None, os.stat_result]:
    # Without O_NONBLOCK, a pipe that somebody put here would hold us.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:  # noqa: PTH123 - a descriptor
        status = os.fstat(file.fileno())
        return (file.read(MAX_FILE + 1) if stat.S_ISREG(status.st_mode) else None), status


def _kept(path: Path, before: File | None, reason: str) -> File:
    problem = Problem(file=str(path), line=0, reason=reason)
    return File(signature=None, objects=before.objects if before else (), problems=(problem,))


def _merged(content: Content, before: File | None) -> tuple[Placed, ...]:
    """What was read and, of a broken file, also what it had before."""
    if not content.broken or before is None:
        return content.objects
    fresh = {identify(each.object) for each in content.objects}
    return (*content.objects, *(each for each in before.objects if identify(each.object) not in fresh))


def _signature(status: os.stat_result) -> _Signature:
    return _Signature(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
