"""One cgroup of our own in each hierarchy (version 1) or in the only one (version 2), for all pods of one node."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lab.scratch import PREFIX

ROOT = Path("/sys/fs/cgroup")
REMOVE_TIMEOUT = 10.0
VERSION_2 = (ROOT / "cgroup.controllers").exists()


def hierarchies() -> Iterator[Path]:
    if VERSION_2:
        yield ROOT
    else:
        yield from (path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink())


def create(name: str) -> None:
    for hierarchy in hierarchies():
        group = hierarchy / name
        group.mkdir(exist_ok=True)
        if VERSION_2:
            controllers = (ROOT / "cgroup.controllers").read_text().split()
            for folder in (ROOT, group):
                (folder / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
        for value in ("cpuset.cpus", "cpuset.mems"):
            # An empty cpuset takes no process, and version 1 starts a new one empty.
            if not VERSION_2 and (hierarchy / value).exists():
                (group / value).write_text((hierarchy / value).read_text())


def remove_stale(folders: Path) -> None:
    """Removes what killed runs left: our cgroups that have no folder of their name."""
    names = {path.name for hierarchy in hierarchies() for path in hierarchy.glob(PREFIX + "*")}
    for name in names:
        if not (folders / name).exists():
            remove(name)


def remove(name: str) -> None:
    """From the leaves up; the last processes may take a moment to go."""
    deadline = time.monotonic() + REMOVE_TIMEOUT
    for hierarchy in hierarchies():
        while (hierarchy / name).exists() and time.monotonic() < deadline:
            for folder, _, _ in os.walk(hierarchy / name, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
            time.sleep(0.02)
