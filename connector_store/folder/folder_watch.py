"""Watch of a folder of manifests that fills the store. This mode needs no cluster.

The store has each change within a second. It removes an object one second after it disappeared. Editors save by writing
a new file and renaming it, and an object that is moved is in no file for a moment.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Never

from watchfiles import awatch

from connector_store.domain.objects.models import Connector, InvalidConnector, Secret, Unusable
from connector_store.domain.permissions.builtin_roles import BUILTIN_ROLES
from connector_store.folder.manifests import (
    UNKNOWN_FIELD,
    LocatedObject,
    Problem,
    describe,
    secret_problems,
    unusable_problem,
)
from connector_store.folder.snapshot import FolderSnapshot, read_folder
from connector_store.store import ObjectIdentity, Store, identify

SOURCE_NAME: Final = "directory"
"""Name of this source in the store."""
ROLES_SOURCE_NAME: Final = "built-in roles"
"""Name of the source with the built-in ClusterRoles."""
REMOVAL_GRACE: Final = 1.0
"""Seconds that an object stays after it disappeared from the files."""
POLL_INTERVAL: Final = 0.5
"""Seconds between two reads without a notification. Links may change elsewhere, and REMOVAL_GRACE ends."""
DEBOUNCE: Final = 0.2
"""Maximum seconds for which notifications are collected."""
MIN_PAUSE_RATIO: Final = 20
"""Ratio of the pause after a read to the read's duration, at least. A notification ends the pause."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _StoredObject:
    """Object in the store. `missing_since` is when it was missed first."""

    located: LocatedObject
    missing_since: float | None = None


class FolderWatch:
    """Keeps `store` equal to the manifests in `folder`. `now` is a monotonic clock in seconds."""

    def __init__(
        self, folder: Path, store: Store, *, system_namespace: str, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._folder = folder
        self._store = store
        store.replace(ROLES_SOURCE_NAME, BUILTIN_ROLES.values())
        self._system_namespace = system_namespace
        self._now = now
        self._snapshot = FolderSnapshot()
        self._objects: dict[ObjectIdentity, _StoredObject] = {}
        self._next_poll_at = 0.0
        self._has_listed = False
        self._logged_problems: tuple[Problem, ...] = ()
        self._watch_problem = ""
        self.problems: tuple[Problem, ...] = ()
        """All problems of the files, sorted by file and line."""

    @property
    def located_objects(self) -> tuple[LocatedObject, ...]:
        """Objects in the store, with their locations."""
        return tuple(each.located for each in self._objects.values())

    def load_once(self) -> tuple[Problem, ...]:
        """Read the folder into the store. Blocks."""
        self._apply(self._read())
        return self.problems

    async def run(self) -> Never:
        """Watch the folder until cancelled."""
        while True:
            try:
                await self._refresh()
                await self._watch()
                self._watch_problem = ""
            except OSError as error:
                self._log_watch_problem(error.strerror or str(error))
            except Exception:  # without this, the store would never change again
                logger.exception("following the folder %s failed; looking again", self._folder)
            await asyncio.sleep(POLL_INTERVAL)

    def _log_watch_problem(self, problem: str) -> None:
        """Log once why the folder cannot be watched: a missing right, or the kernel's limit of watches."""
        if problem != self._watch_problem:
            logger.warning(
                "%s: cannot be watched, so it is read every %g s instead: %s", self._folder, POLL_INTERVAL, problem
            )
        self._watch_problem = problem

    async def _watch(self) -> None:
        """Read the folder at each notification, and at intervals. Return when the folder was replaced."""
        inode = _inode(self._folder)
        if inode is None:
            return
        changes = awatch(
            self._folder,
            watch_filter=None,
            debounce=int(DEBOUNCE * 1000),
            rust_timeout=int(POLL_INTERVAL * 1000),
            yield_on_timeout=True,
            recursive=False,
        )
        async with aclosing(changes):
            async for notices in changes:
                if notices or self._now() >= self._next_poll_at:
                    await self._refresh()
                if _inode(self._folder) != inode:
                    return

    async def _refresh(self) -> None:
        started_at = self._now()
        self._apply(await asyncio.to_thread(self._read))
        self._log_problems()
        self._next_poll_at = self._now() + (self._now() - started_at) * MIN_PAUSE_RATIO

    def _read(self) -> FolderSnapshot:
        return read_folder(self._folder, self._snapshot, system_namespace=self._system_namespace)

    def _apply(self, snapshot: FolderSnapshot) -> None:
        self._snapshot = snapshot
        present: dict[ObjectIdentity, LocatedObject] = {}
        duplicates: list[Problem] = []
        for located in _objects_in(snapshot):
            first = present.setdefault(identify(located.object), located)
            if first is not located:
                duplicates.append(_duplicate_problem(located, first))
        if self._update_objects(present) or snapshot.changed or not self._has_listed:
            self._has_listed = True
            self._store.replace(SOURCE_NAME, [each.located.object for each in self._objects.values()])
            in_files = [problem for file in snapshot.files.values() for problem in file.problems]
            problems = [*snapshot.problems, *in_files, *duplicates, *self._unusable_problems(present)]
            self.problems = tuple(sorted(problems, key=lambda each: (each.file, each.line)))

    def _update_objects(self, present: dict[ObjectIdentity, LocatedObject]) -> bool:
        """Update the stored objects. Return True if an object was removed."""
        now = self._now()
        for key, located in present.items():
            self._objects[key] = _StoredObject(located)
        missing = {key: stored for key, stored in self._objects.items() if key not in present}
        for key, stored in missing.items():
            if stored.missing_since is None:
                stored.missing_since = now
            if now - stored.missing_since >= REMOVAL_GRACE:
                del self._objects[key]
        return any(key not in self._objects for key in missing)

    def _unusable_problems(self, present: dict[ObjectIdentity, LocatedObject]) -> Iterator[Problem]:
        """Yield the problems of unusable Connectors, except those that the Connector's or Secret's file reports."""
        secrets = [located.object for located in present.values() if isinstance(located.object, Secret)]
        reported = {secret.key for secret in secrets if secret_problems(secret)}
        for located in present.values():
            if isinstance(located.object, Connector | InvalidConnector):
                key = located.object.key
                unusable = self._store.get(key)
                if (
                    isinstance(unusable, Unusable)
                    and unusable.reason != UNKNOWN_FIELD
                    and unusable.secret not in reported
                ):
                    yield unusable_problem(located, unusable)

    def _log_problems(self) -> None:
        """Log each problem once, while it lasts."""
        for each in self.problems:
            if each not in self._logged_problems:
                logger.log(logging.WARNING if each.fatal else logging.INFO, "%s", each)
        if self._logged_problems and not self.problems:
            logger.info("all problems of %s are fixed", self._folder)
        self._logged_problems = self.problems


def _objects_in(snapshot: FolderSnapshot) -> Iterator[LocatedObject]:
    for file in snapshot.files.values():
        yield from file.objects


def _duplicate_problem(duplicate: LocatedObject, first: LocatedObject) -> Problem:
    return Problem(
        file=duplicate.file,
        line=duplicate.line,
        subject=describe(duplicate.object),
        reason=f"is also in {first.file}:{first.line}, which is used; remove one",
    )


def _inode(folder: Path) -> tuple[int, int] | None:
    try:
        status = folder.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
