"""A volume on the node: its record, the folder at its target, the tmpfs there, the files in that.

Every step can be the last before the driver is killed; `create` and `remove` take up whatever another left.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from connector_csi import atomic_writer
from connector_csi.atomic_writer import Owner
from connector_csi.failure import Failure, from_os_error
from connector_csi.mounts import MOUNT_SOURCE, Mounts
from connector_csi.publication import Publication
from connector_csi.volume_records import VolumeRecord, VolumeRecords
from connector_csi.volume_renderer import Endpoints

logger = logging.getLogger(__name__)


class Disk:
    """Blocking calls, for a thread; `record`, `is_mounted`, `is_ours` and `is_published` are quick. None is success."""

    def __init__(self, records: VolumeRecords, mounts: Mounts) -> None:
        self._records = records
        self._mounts = mounts

    def __len__(self) -> int:
        """Volumes that were begun and not removed."""
        return len(self._records)

    def record(self, volume_id: str) -> VolumeRecord | None:
        return self._records.get(volume_id)

    def is_mounted(self, path: Path) -> bool:
        return bool(self._mounts.sources(str(path)))

    def is_ours(self, path: Path) -> bool:
        return tuple(self._mounts.sources(str(path)))[-1:] == (MOUNT_SOURCE,)

    def is_published(self, path: Path) -> bool:
        """A tmpfs of ours with a first content in it: nothing else is needed to carry on."""
        return self.is_ours(path) and atomic_writer.is_written(path)

    def is_in_use(self, path: Path) -> bool:
        """True while a pod may have it: published, also where somebody has mounted something else over it."""
        sources = self._mounts.sources(str(path))
        return self.is_published(path) or MOUNT_SOURCE in sources[:-1]

    def forget_orphans(self) -> Sequence[str]:
        """Forget volumes of pods that are gone with their folders; the ids of those."""
        orphans = [each for each in self._records if self._is_orphan(Path(each.target))]
        for record in orphans:
            logger.info("volume %s is gone with its pod", record.volume_id)
            self._records.delete(record.volume_id)
        return [each.volume_id for each in orphans]

    def create(
        self, publication: Publication, path: Path, files: Mapping[str, bytes], endpoints: Endpoints
    ) -> Failure | None:
        """All or nothing; the record comes first, so that a killed driver knows what it had begun."""
        owner = Owner(gid=publication.gid)
        step = "cannot write the driver's record of the volume"
        try:
            self._write_record(publication, path, endpoints)
            step = "cannot make the folder target_path"
            path.mkdir(mode=0o750, exist_ok=True)
            if not self.is_ours(path):
                step = "cannot mount a tmpfs on target_path"
                self._mounts.mount_tmpfs(str(path), mode=owner.folder_mode, gid=publication.gid or 0)
            step = "cannot write the files of the volume"
            atomic_writer.write(path, files, owner)
        except OSError as e:
            self.undo(publication.volume_id, path)
            return from_os_error(step, e)
        return None

    def replace(
        self, publication: Publication, path: Path, files: Mapping[str, bytes], endpoints: Endpoints
    ) -> Failure | bool:
        """False if nothing changed; a failure keeps the old content. A volume whose record is gone is adopted."""
        try:
            is_changed = atomic_writer.write(path, files, Owner(gid=publication.gid))
            self._write_record(publication, path, endpoints)
        except OSError as e:
            return from_os_error("cannot write the files of the volume", e)
        return is_changed

    def add_file(self, publication: Publication, path: Path, name: str, content: bytes) -> Failure | None:
        """Set one file beside what is there."""
        try:
            files = atomic_writer.read(path)
            atomic_writer.write(path, {**files, name: content}, Owner(gid=publication.gid))
        except OSError as e:
            return from_os_error(f"cannot write {name} of the volume", e)
        return None

    def undo(self, volume_id: str, path: Path) -> None:
        """kubelet need not unpublish what was never published."""
        if (failure := self.remove(volume_id, path)) is not None:
            logger.warning("volume %s is left half done: %s", volume_id, failure.message)

    def remove(self, volume_id: str, path: Path) -> Failure | None:
        """Success if there is nothing."""
        step = "cannot remove the files of the volume"
        try:
            while self.is_mounted(path):
                if self.is_ours(path):
                    atomic_writer.erase(path)
                step = "cannot unmount target_path"
                self._mounts.unmount(str(path))
            step = "cannot remove the folder target_path"
            if path.exists():
                path.rmdir()
            record = self._records.get(volume_id)
            if record is not None and record.target == str(path):
                self._records.delete(volume_id)
        except OSError as e:
            return from_os_error(step, e)
        return None

    def _is_orphan(self, path: Path) -> bool:
        return not path.parent.exists() and not self.is_mounted(path)

    def _write_record(self, publication: Publication, path: Path, endpoints: Endpoints) -> None:
        self._records.put(
            VolumeRecord(volume_id=publication.volume_id, target=str(path), digest=publication.digest, kept=endpoints)
        )
