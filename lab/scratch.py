"""Temporary folder of one `scripts/cluster run`. The next run removes the folders of killed runs."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

PREFIX = "kubernetes-connector-run-"


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """Create a folder and remove it at the end. It is locked before it gets the name that others check for removal."""
    remove_stale_folders()
    new = Path(tempfile.mkdtemp(prefix="new-"))
    with (new / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = new.rename(new.with_name(PREFIX + new.name))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def remove_stale_folders() -> None:
    for folder in Path(tempfile.gettempdir()).glob(PREFIX + "*"):
        with contextlib.suppress(OSError), (folder / "lock").open("r+") as lock:
            if os.fstat(lock.fileno()).st_uid == os.getuid():
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
