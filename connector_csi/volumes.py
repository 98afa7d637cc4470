"""Publishing and unpublishing of volumes, one call at a time for each.

A volume counts as published by what is on the node, which survives the driver. From then on no failure of a republish
is kubelet's business: it would take the volume away (kubernetes#121271). The pod keeps what it has, and is told.
"""

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grpc import StatusCode

from connector_csi.content import Content, Contents, Inputs, Wish
from connector_csi.disk import Disk
from connector_csi.events import Warnings
from connector_csi.failure import Failure
from connector_csi.metrics import Metrics
from connector_csi.publication import Publication
from connector_csi.target import check_target
from connector_store.domain.proxy_service import service_name
from connector_store.domain.volume import pod_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Live:
    """A published volume whose content is what `inputs` give; `path` is its target as the kernel names it."""

    target: str
    path: Path
    digest: str
    inputs: Inputs


class Volumes:
    """The volumes of one node; None is success."""

    def __init__(self, *, pods: Path, disk: Disk, contents: Contents, warnings: Warnings, metrics: Metrics) -> None:
        """`pods` is kubelet's folder of pods."""
        self._pods = pods
        self._disk = disk
        self._contents = contents
        self._warnings = warnings
        self._metrics = metrics
        self._busy: set[str] = set()
        self._live: dict[str, _Live] = {}
        self._told: dict[str, str] = {}
        self._calls: set[asyncio.Task[Failure | None]] = set()
        disk.sweep()
        metrics.volumes.set(len(disk))

    async def publish(self, asked: Publication) -> Failure | None:
        # kubelet's round over all volumes, every minute or so: nothing to wait for, nothing to look up on disk.
        if asked.volume_id not in self._busy and self._is_unchanged(asked):
            self._told.pop(asked.volume_id, None)
            return None
        return await self._alone(asked.volume_id, self._publish(asked))

    async def unpublish(self, volume_id: str, target: str) -> Failure | None:
        """Needs no API server; a volume that is not there is success."""
        return await self._alone(volume_id, self._unpublish(volume_id, target))

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
            self._metrics.volumes.set(len(self._disk))

        task.add_done_callback(ended)
        # kubelet may give up; a step in a thread then still ends before the volume is free again.
        return await asyncio.shield(task)

    async def _publish(self, asked: Publication) -> Failure | None:
        target = check_target(asked.target, self._pods)
        if isinstance(target, Failure):
            return target
        published = self._disk.is_published(target)
        if (clash := self._clash(asked, target, published)) is not None:
            return clash
        wish = await self._contents.wait_synced() or self._contents.parse(asked.context, asked.secrets)
        made = wish if isinstance(wish, Failure) else await self._contents.make(wish)
        if published:
            await self._replace(asked, target, made)
            return None
        if isinstance(made, Failure):
            await asyncio.to_thread(self._disk.undo, asked.volume_id, target)
            return made
        failure = await asyncio.to_thread(self._disk.create, asked, target, made.files)
        if failure is None and isinstance(wish, Wish):
            self._written(asked, target, made)
            self._compare_lifetimes(wish)
        return failure

    def _clash(self, asked: Publication, target: Path, published: bool) -> Failure | None:
        """CSI specification, NodePublishVolume: the same volume with another target, or with other arguments."""
        if self._disk.is_mounted(target) and not self._disk.is_ours(target):
            return Failure(code=StatusCode.INTERNAL, message="something else is mounted on target_path; unmount it")
        record = self._disk.record(asked.volume_id)
        if record is None:
            return None
        if record.target != str(target) and self._disk.is_published(Path(record.target)):
            message = "the volume is published at another target_path already; it can be at one only"
            return Failure(code=StatusCode.FAILED_PRECONDITION, message=message)
        if published and record.target == str(target) and record.digest != asked.digest:
            message = "the volume is published already with other volumeAttributes or another fsGroup"
            return Failure(code=StatusCode.ALREADY_EXISTS, message=message)
        return None

    async def _replace(self, asked: Publication, target: Path, made: Content | Failure) -> None:
        if isinstance(made, Failure):
            self._mask(asked, made)
            return
        failure = await asyncio.to_thread(self._disk.replace, asked, target, made.files)
        if failure is not None:
            self._mask(asked, failure)
        else:
            self._written(asked, target, made)

    def _is_unchanged(self, asked: Publication) -> bool:
        live = self._live.get(asked.volume_id)
        if live is None or (live.target, live.digest) != (asked.target, asked.digest):
            return False
        wish = self._contents.parse(asked.context, asked.secrets)
        return isinstance(wish, Wish) and self._contents.inputs(wish) == live.inputs and self._disk.is_ours(live.path)

    def _written(self, asked: Publication, path: Path, content: Content) -> None:
        self._metrics.written.inc()
        self._told.pop(asked.volume_id, None)
        self._live[asked.volume_id] = _Live(target=asked.target, path=path, digest=asked.digest, inputs=content.inputs)
        if (pod := pod_of(asked.context)) is None:
            return
        for key in content.unseen:
            self._warnings.warn(
                pod,
                "ProxyServiceNotUsed",
                f'services "{service_name(key.name)}" in namespace "{key.namespace}" is not seen to be the '
                f"controller's, so the volume names the proxy's own; see kubectl describe connector {key.name} "
                f"--namespace={key.namespace}",
            )

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

    async def _unpublish(self, volume_id: str, text: str) -> Failure | None:
        target = check_target(text, self._pods)
        if isinstance(target, Failure):
            return target
        failure = await asyncio.to_thread(self._disk.remove, volume_id, target)
        if failure is None:
            self._live.pop(volume_id, None)
            self._told.pop(volume_id, None)
        return failure
