"""Records of volumes on disk, for use after a restart: one small file for each volume, without a token."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 2
"""Version of the file format and of the content of `digest`. See `_parse` for records of another version."""
_SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRecord:
    """A volume that kubelet requested. The record is written before the volume is mounted.

    `digest` is that of its attributes, or empty if another release wrote the record. `endpoints` has the address and
    the proxy URL in the volume's files, by NAMESPACE/NAME of the Connector.
    """

    volume_id: str
    target_path: str
    digest: str
    endpoints: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def conflicts_with(self, digest: str) -> bool:
        return self.digest not in ("", digest)


class VolumeRecords:
    """Records in `folder`, and a copy in memory."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._records = {record.volume_id: record for record in self._load()}

    def __iter__(self) -> Iterator[VolumeRecord]:
        return iter(tuple(self._records.values()))

    def __len__(self) -> int:
        return len(self._records)

    def get(self, volume_id: str) -> VolumeRecord | None:
        return self._records.get(volume_id)

    def put(self, record: VolumeRecord) -> None:
        if self._records.get(record.volume_id) == record:
            return
        path = self._path(record.volume_id)
        new_path = path.with_suffix(".new")
        new_path.write_text(json.dumps(_to_document(record)))
        new_path.rename(path)
        self._records[record.volume_id] = record

    def delete(self, volume_id: str) -> None:
        self._path(volume_id).unlink(missing_ok=True)
        self._records.pop(volume_id, None)

    def _path(self, volume_id: str) -> Path:
        """Return the path of a record. The volume id is hashed, because the client must not choose a path."""
        return self._folder / f"{hashlib.sha256(volume_id.encode()).hexdigest()}{_SUFFIX}"

    def _load(self) -> Iterator[VolumeRecord]:
        for path in sorted(self._folder.iterdir()):
            try:
                # A file with another suffix is from a writer that was killed before the rename.
                if path.suffix != _SUFFIX:
                    raise ValueError
                record = _parse(json.loads(path.read_text()))
            except (OSError, ValueError, TypeError, LookupError, AttributeError):
                logger.warning("removed %s: it is not a complete record of a volume", path.name)
                with suppress(OSError):
                    path.unlink()
            else:
                yield record


def _to_document(record: VolumeRecord) -> dict[str, object]:
    return {
        "volume_id": record.volume_id,
        "target": record.target_path,
        "digest": record.digest,
        "kept": record.endpoints,
        "version": FORMAT_VERSION,
    }


def _parse(document: Any) -> VolumeRecord:
    """Parse a record. Raises TypeError, ValueError or LookupError if it names no volume.

    A record of another version has an empty digest, so the next publish replaces it.
    """
    volume_id, target_path = document["volume_id"], document["target"]
    if not isinstance(volume_id, str) or not isinstance(target_path, str):
        raise TypeError("a volume without id or target")
    if document.get("version") != FORMAT_VERSION:
        return VolumeRecord(volume_id=volume_id, target_path=target_path, digest="")
    endpoints = {str(key): (str(address), str(proxy)) for key, (address, proxy) in document["kept"].items()}
    return VolumeRecord(
        volume_id=volume_id, target_path=target_path, digest=str(document["digest"]), endpoints=endpoints
    )
