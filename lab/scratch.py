"""The folder of one `scripts/cluster run`; one that a killed run left behind is swept by the next."""

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
    """Locked while in use, and before it has the name that a sweep looks for."""
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
