"""A volume on the node: its record, the folder at its target, the tmpfs there, the files in that.

Every step can be the last before the driver is killed; `create` and `remove` take up whatever another left.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from connector_csi import atomic_writer
from connector_csi.atomic_writer import Owner
from connector_csi.content import Kept
from connector_csi.failure import Failure, from_os
from connector_csi.mounts import SOURCE, Mounts
from connector_csi.publication import Publication
from connector_csi.records import Record, Records

logger = logging.getLogger(__name__)


class Disk:
    """Blocking calls, for a thread; `record`, `is_mounted`, `is_ours` and `is_published` are quick. None is success."""

    def __init__(self, records: Records, mounts: Mounts) -> None:
        self._records = records
        self._mounts = mounts

    def __len__(self) -> int:
        """Volumes that were begun and not removed."""
        return len(self._records)

    def record(self, volume_id: str) -> Record | None:
        return self._records.get(volume_id)

    def is_mounted(self, target: Path) -> bool:
        return bool(self._mounts.sources(str(target)))

    def is_ours(self, target: Path) -> bool:
        return tuple(self._mounts.sources(str(target)))[-1:] == (SOURCE,)

    def is_published(self, target: Path) -> bool:
        """A tmpfs of ours with a first content in it: nothing else is needed to carry on."""
        return self.is_ours(target) and atomic_writer.is_written(target)

    def is_held(self, target: Path) -> bool:
        """True while a pod may have it: published, also where somebody has mounted something else over it."""
        sources = self._mounts.sources(str(target))
        return self.is_published(target) or SOURCE in sources[:-1]

    def sweep(self) -> Sequence[str]:
        """Forget volumes of pods that are gone with their folders; the ids of those."""
        gone = [each for each in self._records if self._is_gone(Path(each.target))]
        for record in gone:
            logger.info("volume %s is gone with its pod", record.volume_id)
            self._records.drop(record.volume_id)
        return [each.volume_id for each in gone]

    def create(self, asked: Publication, target: Path, files: Mapping[str, bytes], kept: Kept) -> Failure | None:
        """All or nothing; the record comes first, so that a killed driver knows what it had begun."""
        owner = Owner(gid=asked.gid)
        step = "cannot write the driver's record of the volume"
        try:
            self._note(asked, target, kept)
            step = "cannot make the folder target_path"
            target.mkdir(mode=0o750, exist_ok=True)
            if not self.is_ours(target):
                step = "cannot mount a tmpfs on target_path"
                self._mounts.mount_tmpfs(str(target), mode=owner.folder_mode, gid=asked.gid or 0)
            step = "cannot write the files of the volume"
            atomic_writer.write(target, files, owner)
        except OSError as e:
            self.undo(asked.volume_id, target)
            return from_os(step, e)
        return None

    def replace(self, asked: Publication, target: Path, files: Mapping[str, bytes], kept: Kept) -> Failure | bool:
        """False if nothing changed; a failure keeps the old content. A volume whose record is gone is adopted."""
        try:
            changed = atomic_writer.write(target, files, Owner(gid=asked.gid))
            self._note(asked, target, kept)
        except OSError as e:
            return from_os("cannot write the files of the volume", e)
        return changed

    def annotate(self, asked: Publication, target: Path, name: str, content: bytes) -> Failure | None:
        """Set one file beside what is there."""
        try:
            files = atomic_writer.read(target)
            atomic_writer.write(target, {**files, name: content}, Owner(gid=asked.gid))
        except OSError as e:
            return from_os(f"cannot write {name} of the volume", e)
        return None

    def undo(self, volume_id: str, target: Path) -> None:
        """kubelet need not unpublish what was never published."""
        if (failure := self.remove(volume_id, target)) is not None:
            logger.warning("volume %s is left half done: %s", volume_id, failure.message)

    def remove(self, volume_id: str, target: Path) -> Failure | None:
        """Success if there is nothing."""
        step = "cannot remove the files of the volume"
        try:
            while self.is_mounted(target):
                if self.is_ours(target):
                    atomic_writer.erase(target)
                step = "cannot unmount target_path"
                self._mounts.unmount(str(target))
            step = "cannot remove the folder target_path"
            if target.exists():
                target.rmdir()
            record = self._records.get(volume_id)
            if record is not None and record.target == str(target):
                self._records.drop(volume_id)
        except OSError as e:
            return from_os(step, e)
        return None

    def _is_gone(self, target: Path) -> bool:
        return not target.parent.exists() and not self.is_mounted(target)

    def _note(self, asked: Publication, target: Path, kept: Kept) -> None:
        self._records.put(Record(volume_id=asked.volume_id, target=str(target), digest=asked.digest, kept=kept))
