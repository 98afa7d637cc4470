"""Publishing and unpublishing of volumes, one call at a time for each.

A volume counts as published when a tmpfs is mounted on its target and a first content is in it; that survives the
driver. From then on no failure of a republish is kubelet's business: the pod keeps what it has (kubernetes#121271).
"""

import asyncio
import hashlib
import json
import logging
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from grpc import StatusCode

from connector_csi import atomic_writer
from connector_csi.atomic_writer import Owner
from connector_csi.content import Content, Contents, Inputs, Wish
from connector_csi.events import Warnings
from connector_csi.failure import Failure, from_os
from connector_csi.metrics import Metrics
from connector_csi.mounts import SOURCE, Mounts
from connector_csi.records import Record, Records
from connector_csi.target import check_target
from connector_store.domain.volume import own_attributes, pod_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """NodePublishVolume, as far as the CSI specification checks it."""

    volume_id: str
    target: str
    gid: int | None
    context: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)

    @property
    def digest(self) -> str:
        """Of what must stay the same for as long as the volume lives: what the pod's author wrote, and its group."""
        fixed = [sorted(own_attributes(self.context).items()), self.gid]
        return hashlib.sha256(json.dumps(fixed).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Live:
    """A published volume whose content is what `inputs` give; `path` is its target as the kernel names it."""

    target: str
    path: Path
    digest: str
    inputs: Inputs


class Volumes:
    """The volumes of one node; None is success."""

    def __init__(
        self, *, pods: Path, records: Records, mounts: Mounts, contents: Contents, warnings: Warnings, metrics: Metrics
    ) -> None:
        """`pods` is kubelet's folder of pods."""
        self._pods = pods
        self._records = records
        self._mounts = mounts
        self._contents = contents
        self._warnings = warnings
        self._metrics = metrics
        self._busy: set[str] = set()
        self._live: dict[str, _Live] = {}
        self._told: dict[str, str] = {}
        self._calls: set[asyncio.Task[Failure | None]] = set()
        self._count()

    async def publish(self, asked: Publication) -> Failure | None:
        # kubelet's round over all volumes, every minute or so: nothing to wait for, nothing to look up on disk.
        if asked.volume_id not in self._busy and self._is_unchanged(asked):
            self._told.pop(asked.volume_id, None)
            return None
        return await self._alone(asked.volume_id, self._publish(asked))

    async def unpublish(self, volume_id: str, target: str) -> Failure | None:
        """Needs no API server; a volume that is not there is success."""
        return await self._alone(volume_id, self._unpublish(volume_id, target))

    def sweep(self) -> None:
        """Before the first call: forget volumes of pods that are gone with their folders."""
        for record in self._records:
            if not Path(record.target).parent.exists() and not self._mounts.sources(record.target):
                logger.info("volume %s is gone with its pod", record.volume_id)
                self._records.drop(record.volume_id)
        self._count()

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._calls:
            await asyncio.wait(self._calls)

    async def _alone(self, volume_id: str, call: Coroutine[Any, Any, Failure | None]) -> Failure | None:
        if volume_id in self._busy:
            call.close()
            return Failure(code=StatusCode.ABORTED, message="another call for this volume is under way")
        self._busy.add(volume_id)
        task = asyncio.ensure_future(call)
        self._calls.add(task)

        def ended(_: object) -> None:
            self._busy.discard(volume_id)
            self._calls.discard(task)
            self._count()

        task.add_done_callback(ended)
        # kubelet may give up; a step in a thread then still ends before the volume is free again.
        return await asyncio.shield(task)

    async def _publish(self, asked: Publication) -> Failure | None:
        target = check_target(asked.target, self._pods)
        if isinstance(target, Failure):
            return target
        record = self._records.get(asked.volume_id)
        published = self._is_published(target)
        if (clash := self._clash(asked, record, target, published)) is not None:
            return clash
        if self._mounts.sources(str(target)) and not self._is_ours(target):
            return Failure(code=StatusCode.INTERNAL, message="something else is mounted on target_path; unmount it")
        wish = self._contents.parse(asked.context, asked.secrets)
        if published:
            await self._republish(asked, target, wish)
            return None
        made = wish if isinstance(wish, Failure) else await self._contents.make(wish)
        if isinstance(made, Failure):
            await asyncio.to_thread(self._undo, asked.volume_id, target)
            return made
        failure = await asyncio.to_thread(self._create, asked, target, made)
        if failure is None and isinstance(wish, Wish):
            self._published(asked, target, made)
            self._compare_lifetimes(wish)
        return failure

    def _is_published(self, target: Path) -> bool:
        return self._is_ours(target) and atomic_writer.is_written(target)

    def _is_ours(self, target: Path) -> bool:
        return tuple(self._mounts.sources(str(target)))[-1:] == (SOURCE,)

    def _clash(self, asked: Publication, record: Record | None, target: Path, published: bool) -> Failure | None:
        """CSI specification, NodePublishVolume: the same volume with another target, or with other arguments."""
        if record is None:
            return None
        if record.target != str(target) and self._is_published(Path(record.target)):
            message = "the volume is published at another target_path already; it can be at one only"
            return Failure(code=StatusCode.FAILED_PRECONDITION, message=message)
        if published and record.target == str(target) and record.digest != asked.digest:
            message = "the volume is published already with other volumeAttributes or another fsGroup"
            return Failure(code=StatusCode.ALREADY_EXISTS, message=message)
        return None

    async def _republish(self, asked: Publication, target: Path, wish: Wish | Failure) -> None:
        if isinstance(wish, Failure):
            self._mask(asked, wish)
            return
        made = await self._contents.make(wish)
        if isinstance(made, Failure):
            self._mask(asked, made)
            return
        failure = await asyncio.to_thread(self._replace, asked, target, made)
        if failure is not None:
            self._mask(asked, failure)
        else:
            self._published(asked, target, made)

    def _is_unchanged(self, asked: Publication) -> bool:
        live = self._live.get(asked.volume_id)
        if live is None or (live.target, live.digest) != (asked.target, asked.digest) or not self._is_ours(live.path):
            return False
        wish = self._contents.parse(asked.context, asked.secrets)
        return isinstance(wish, Wish) and self._contents.inputs(wish) == live.inputs

    def _published(self, asked: Publication, path: Path, content: Content) -> None:
        self._live[asked.volume_id] = _Live(target=asked.target, path=path, digest=asked.digest, inputs=content.inputs)
        self._told.pop(asked.volume_id, None)

    def _mask(self, asked: Publication, failure: Failure) -> None:
        """Told once for as long as it stays the same."""
        self._metrics.masked.labels(failure.code.name).inc()
        if self._told.get(asked.volume_id) == failure.message:
            return
        self._told[asked.volume_id] = failure.message
        logger.warning("volume %s keeps its old content: %s", asked.volume_id, failure.message)
        if (pod := pod_of(asked.context)) is not None:
            self._warnings.warn(pod, "ConnectorNotRefreshed", f"old content is kept: {failure.message}")

    def _compare_lifetimes(self, wish: Wish) -> None:
        wanted, given = wish.volume.expiration, wish.token.lifetime
        if wanted is not None and given is not None and wanted > given:
            self._warnings.warn(
                wish.volume.pod,
                "TokenExpirationShortened",
                f"token.expiration: {wanted:.0f}s is longer than the driver's tokens live; they live {given:.0f}s and "
                "are replaced in the volume before they expire",
            )

    def _create(self, asked: Publication, target: Path, content: Content) -> Failure | None:
        """All or nothing; the record comes first, so that a killed driver knows what it had begun."""
        owner = Owner(gid=asked.gid)
        step = "cannot write the driver's record of the volume"
        try:
            self._records.put(Record(volume_id=asked.volume_id, target=str(target), digest=asked.digest))
            step = "cannot make the folder target_path"
            target.mkdir(mode=0o750, exist_ok=True)
            if not self._is_ours(target):
                step = "cannot mount a tmpfs on target_path"
                self._mounts.mount_tmpfs(str(target), mode=owner.folder_mode, gid=asked.gid or 0)
            step = "cannot write the files of the volume"
            atomic_writer.write(target, content.files, owner)
        except OSError as e:
            self._undo(asked.volume_id, target)
            return from_os(step, e)
        self._metrics.written.inc()
        return None

    def _replace(self, asked: Publication, target: Path, content: Content) -> Failure | None:
        try:
            # Also for a volume whose record is gone: it is adopted.
            self._records.put(Record(volume_id=asked.volume_id, target=str(target), digest=asked.digest))
            if atomic_writer.write(target, content.files, Owner(gid=asked.gid)):
                self._metrics.written.inc()
        except OSError as e:
            return from_os("cannot write the files of the volume", e)
        return None

    def _undo(self, volume_id: str, target: Path) -> None:
        """kubelet need not unpublish what was never published."""
        if (failure := self._remove(volume_id, target)) is not None:
            logger.warning("volume %s is left half done: %s", volume_id, failure.message)

    async def _unpublish(self, volume_id: str, text: str) -> Failure | None:
        target = check_target(text, self._pods)
        if isinstance(target, Failure):
            return target
        failure = await asyncio.to_thread(self._remove, volume_id, target)
        if failure is None:
            self._live.pop(volume_id, None)
            self._told.pop(volume_id, None)
        return failure

    def _remove(self, volume_id: str, target: Path) -> Failure | None:
        step = "cannot remove the files of the volume"
        try:
            while self._mounts.sources(str(target)):
                if self._is_ours(target):
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

    def _count(self) -> None:
        self._metrics.volumes.set(len(self._records))
