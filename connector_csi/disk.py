"""Volumes on the node: for each a record, the folder target_path, a tmpfs mounted there, and the files in it.

The driver can be killed after any step. `create` and `remove` continue from every state that is left behind.
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
    """Volumes on the node. Paths are checked target paths. None means success.

    The calls block and belong in a thread, except `record` and the predicates, which are quick.
    """

    def __init__(self, records: VolumeRecords, mounts: Mounts) -> None:
        self._records = records
        self._mounts = mounts

    def __len__(self) -> int:
        """Return the number of volumes that were created, or begun, and not removed."""
        return len(self._records)

    def record(self, volume_id: str) -> VolumeRecord | None:
        return self._records.get(volume_id)

    def is_mounted(self, path: Path) -> bool:
        return bool(self._mounts.sources(str(path)))

    def is_ours(self, path: Path) -> bool:
        return tuple(self._mounts.sources(str(path)))[-1:] == (MOUNT_SOURCE,)

    def is_published(self, path: Path) -> bool:
        """Return True if our tmpfs with content is on top at `path`. The driver needs nothing else to continue."""
        return self.is_ours(path) and atomic_writer.is_written(path)

    def is_in_use(self, path: Path) -> bool:
        """Return True while a pod may use the volume: it is published, or was, and another mount covers it."""
        sources = self._mounts.sources(str(path))
        return self.is_published(path) or MOUNT_SOURCE in sources[:-1]

    def forget_orphans(self) -> Sequence[str]:
        """Delete the records of volumes whose pod folder is gone. Return the ids of these volumes."""
        orphans = [record for record in self._records if self._is_orphan(Path(record.target_path))]
        for record in orphans:
            logger.info("volume %s was removed with its pod", record.volume_id)
            self._records.delete(record.volume_id)
        return [record.volume_id for record in orphans]

    def create(
        self, publication: Publication, path: Path, files: Mapping[str, bytes], endpoints: Endpoints
    ) -> Failure | None:
        """Create a volume completely or not at all. The record comes first, so that a restarted driver finds it."""
        owner = Owner(gid=publication.gid)
        step = "cannot write the driver's record of the volume"
        try:
            self._write_record(publication, path, endpoints)
            step = "cannot create the folder target_path"
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
        """Replace the files. Return False if nothing changed. On failure the old content stays.

        A volume without a record gets a new one.
        """
        try:
            is_changed = atomic_writer.write(path, files, Owner(gid=publication.gid))
            self._write_record(publication, path, endpoints)
        except OSError as e:
            return from_os_error("cannot write the files of the volume", e)
        return is_changed

    def add_file(self, publication: Publication, path: Path, name: str, content: bytes) -> Failure | None:
        """Add or replace one file and keep the others."""
        try:
            files = atomic_writer.read(path)
            atomic_writer.write(path, {**files, name: content}, Owner(gid=publication.gid))
        except OSError as e:
            return from_os_error(f"cannot write {name} of the volume", e)
        return None

    def undo(self, volume_id: str, path: Path) -> None:
        """Remove a volume whose publish failed. kubelet does not unpublish a volume that was never published."""
        if (failure := self.remove(volume_id, path)) is not None:
            logger.warning("volume %s is not completely removed: %s", volume_id, failure.message)

    def remove(self, volume_id: str, path: Path) -> Failure | None:
        """Remove a volume. A volume that does not exist is success."""
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
            if record is not None and record.target_path == str(path):
                self._records.delete(volume_id)
        except OSError as e:
            return from_os_error(step, e)
        return None

    def _is_orphan(self, path: Path) -> bool:
        return not path.parent.exists() and not self.is_mounted(path)

    def _write_record(self, publication: Publication, path: Path, endpoints: Endpoints) -> None:
        self._records.put(
            VolumeRecord(
                volume_id=publication.volume_id, target_path=str(path), digest=publication.digest, endpoints=endpoints
            )
        )
