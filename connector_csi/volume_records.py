"""What the driver must know after a restart, on disk: one small file for each volume. No token is ever in one."""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

logger = logging.getLogger(__name__)

FORMAT_VERSION: Final = 2
"""Of the format, which includes what goes into `digest`. A record of another version is adopted."""
_SUFFIX: Final = ".json"


@dataclass(frozen=True, slots=True, kw_only=True)
class VolumeRecord:
    """A volume that was asked for: where, and with what. Written before it is mounted.

    `digest` is of its attributes; empty: it was noted by another release, and is not known. `kept` has for each
    Connector, as NAMESPACE/NAME, the address and the proxy that its files name.
    """

    volume_id: str
    target: str
    digest: str
    kept: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    version: int = FORMAT_VERSION

    def conflicts_with(self, digest: str) -> bool:
        return self.digest not in ("", digest)


class VolumeRecords:
    """The records in `folder`, kept in memory as well."""

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
        new_path.write_text(json.dumps(asdict(record)))
        new_path.rename(path)
        self._records[record.volume_id] = record

    def delete(self, volume_id: str) -> None:
        self._path(volume_id).unlink(missing_ok=True)
        self._records.pop(volume_id, None)

    def _path(self, volume_id: str) -> Path:
        """A volume's id is whatever the caller sends: it must not choose a path."""
        return self._folder / f"{hashlib.sha256(volume_id.encode()).hexdigest()}{_SUFFIX}"

    def _load(self) -> Iterator[VolumeRecord]:
        for path in sorted(self._folder.iterdir()):
            try:
                # Any other suffix: its writer was killed before the rename.
                if path.suffix != _SUFFIX:
                    raise ValueError
                record = _parse(json.loads(path.read_text()))
            except (OSError, ValueError, TypeError, LookupError, AttributeError):
                logger.warning("removed %s: not a record of a volume, or only half of one", path.name)
                with suppress(OSError):
                    path.unlink()
            else:
                yield record


def _parse(document: Any) -> VolumeRecord:
    """TypeError or ValueError for what names no volume."""
    volume_id, target = document["volume_id"], document["target"]
    if not isinstance(volume_id, str) or not isinstance(target, str):
        raise TypeError("a volume without id or target")
    if document.get("version") != FORMAT_VERSION:
        return VolumeRecord(volume_id=volume_id, target=target, digest="")
    kept = {str(key): (str(address), str(proxy)) for key, (address, proxy) in document["kept"].items()}
    return VolumeRecord(volume_id=volume_id, target=target, digest=str(document["digest"]), kept=kept)
