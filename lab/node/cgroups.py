"""One cgroup for all pods of a node, in each hierarchy (version 1) or in the only one (version 2)."""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lab.scratch import PREFIX

ROOT = Path("/sys/fs/cgroup")
REMOVE_TIMEOUT = 120.0
VERSION_2 = (ROOT / "cgroup.controllers").exists()
CPU_WEIGHTS = {"cpu.shares": "4096", "cpu.weight": "400"}
"""Weight of all pods of a node (version 1, version 2): as four processes, so that pods start on a busy machine."""


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
            # A process cannot join an empty cpuset, and in version 1 a new one is empty.
            if not VERSION_2 and (hierarchy / value).exists():
                (group / value).write_text((hierarchy / value).read_text())
        for value, weight in CPU_WEIGHTS.items():
            if (group / value).exists():
                (group / value).write_text(weight)


def remove_stale(folders: Path) -> None:
    """Remove the cgroups of killed runs, which are those without a folder of the same name."""
    names = {path.name for hierarchy in hierarchies() for path in hierarchy.glob(PREFIX + "*")}
    for name in names:
        if not (folders / name).exists():
            remove(name)


def remove(name: str) -> None:
    """Remove a cgroup from the leaves up. The last processes may need a moment to end."""
    deadline = time.monotonic() + REMOVE_TIMEOUT
    for hierarchy in hierarchies():
        while (hierarchy / name).exists() and time.monotonic() < deadline:
            for folder, _, _ in os.walk(hierarchy / name, topdown=False):
                with suppress(OSError):
                    Path(folder).rmdir()
            time.sleep(0.02)
