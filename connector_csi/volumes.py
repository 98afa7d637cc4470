"""Publishing and unpublishing of volumes, one call at a time for each.

A volume counts as published by what is on the node, which survives the driver. From then on no failure of a republish
is kubelet's business: it would take the volume away (kubernetes#121271). The pod keeps what it has, and is told.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from grpc import StatusCode

from connector_csi.content import Content, Contents, Inputs, Wish
from connector_csi.disk import Disk
from connector_csi.events import Warnings
from connector_csi.failure import Failure
from connector_csi.metrics import Metrics
from connector_csi.publication import Publication
from connector_csi.target import check_target
from connector_csi.troubles import Troubles
from connector_store.domain.kubeconfig.proxy_service import alias_service_name
from connector_store.domain.kubeconfig.volume import Pod, parse_pod
from connector_store.domain.kubeconfig.volume_files import ERROR_FILE

logger = logging.getLogger(__name__)

MAX_VOLUMES: Final = 800
"""Of one node. A pod may have hundreds, and their files stay in the driver's memory when it is killed for taking too
much: it would never come up again, and those pods never end."""


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
        self,
        *,
        pods: Path,
        disk: Disk,
        contents: Contents,
        warnings: Warnings,
        metrics: Metrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`pods` is kubelet's folder of pods."""
        self._pods = pods
        self._disk = disk
        self._contents = contents
        self._warnings = warnings
        self._metrics = metrics
        self._troubles = Troubles(warnings, metrics, now)
        self._busy: set[str] = set()
        self._live: dict[str, _Live] = {}
        self._calls: set[asyncio.Task[Failure | None]] = set()
        disk.sweep()
        metrics.volumes.set(len(disk))

    async def publish(self, asked: Publication) -> Failure | None:
        # kubelet's round over all volumes, every minute or so: nothing to wait for, nothing to look up on disk.
        if asked.volume_id not in self._busy and self._is_unchanged(asked):
            return None
        return await self._alone(asked.volume_id, self._publish(asked))

    async def unpublish(self, volume_id: str, target: str) -> Failure | None:
        """Needs no API server; a volume that is not there is success."""
        return await self._alone(volume_id, self._unpublish(volume_id, target))

    async def close(self) -> None:
        """Wait for what is under way."""
        if self._calls:
            await asyncio.wait(self._calls)

    def mask(self, volume_id: str, target: str, pod: Pod | None, failure: Failure) -> Failure | None:
        """What kubelet is told of `failure`: nothing, if a pod has the volume and kubelet would end it for that."""
        if not failure.is_final or not self._is_held(volume_id, target):
            return failure
        self._live.pop(volume_id, None)
        self._troubles.tell(volume_id, pod, {None: failure})
        return None

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

    def _is_held(self, volume_id: str, target: str) -> bool:
        """True if a pod has the volume at that target: a call for another one is no republish."""
        path, record = check_target(target, self._pods), self._disk.record(volume_id)
        if isinstance(path, Failure):
            return record is not None and record.target == target and self._disk.is_held(Path(target))
        return self._disk.is_held(path) and (record is None or record.target == str(path))

    async def _publish(self, asked: Publication) -> Failure | None:
        target = check_target(asked.target, self._pods)
        if isinstance(target, Failure):
            return target
        if (clash := self._clash(asked, target)) is not None:
            return clash
        wish = await self._contents.wait_synced() or self._contents.parse(asked.context, asked.secrets)
        if self._disk.is_published(target):
            await self._republish(asked, target, wish)
            return None
        if self._is_full(asked.volume_id):
            message = (
                f"the node has {MAX_VOLUMES} volumes of connectors-csi, the most that it may; wait for pods to end"
            )
            return Failure(code=StatusCode.RESOURCE_EXHAUSTED, message=message)
        made = wish if isinstance(wish, Failure) else await self._contents.make(wish)
        if isinstance(made, Failure):
            await asyncio.to_thread(self._disk.undo, asked.volume_id, target)
            return made
        failure = await asyncio.to_thread(self._disk.create, asked, target, made.files, made.kept)
        if failure is None and isinstance(wish, Wish):
            self._metrics.written.inc()
            self._written(asked, target, wish, made)
            self._tell_ignored(wish)
        return failure

    def _clash(self, asked: Publication, target: Path) -> Failure | None:
        """CSI specification, NodePublishVolume: the same volume with another target, or with other arguments."""
        if self._disk.is_mounted(target) and not self._disk.is_ours(target):
            return Failure(code=StatusCode.INTERNAL, message="something else is mounted on target_path; unmount it")
        record = self._disk.record(asked.volume_id)
        if record is None:
            return None
        if record.target != str(target) and self._disk.is_published(Path(record.target)):
            message = "the volume is published at another target_path already; it can be at one only"
            return Failure(code=StatusCode.FAILED_PRECONDITION, message=message)
        if self._disk.is_published(target) and record.target == str(target) and record.differs(asked.digest):
            message = "the volume is published already with other volumeAttributes or another fsGroup"
            return Failure(code=StatusCode.ALREADY_EXISTS, message=message)
        return None

    def _is_full(self, volume_id: str) -> bool:
        """For one that is not begun yet, as others may be that are under way."""
        begun = len(self._disk) + sum(self._disk.record(each) is None for each in self._busy - {volume_id})
        return self._disk.record(volume_id) is None and begun >= MAX_VOLUMES

    async def _republish(self, asked: Publication, target: Path, wish: Wish | Failure) -> None:
        record = self._disk.record(asked.volume_id)
        kept = record.kept if record is not None else {}
        if isinstance(wish, Failure):
            await self._keep(asked, target, wish)
            return
        made = await self._contents.make(wish, kept)
        if isinstance(made, Failure):
            await self._keep(asked, target, made)
            return
        files = made.files
        if made.problems:
            files = {**files, ERROR_FILE: self._troubles.tell(asked.volume_id, parse_pod(asked.context), made.problems)}
        changed = await asyncio.to_thread(self._disk.replace, asked, target, files, made.kept)
        if isinstance(changed, Failure):
            await self._keep(asked, target, changed)
            return
        self._metrics.written.inc(changed)
        self._written(asked, target, wish, made)

    async def _keep(self, asked: Publication, target: Path, failure: Failure) -> None:
        """All that is there stays, and says why."""
        self._live.pop(asked.volume_id, None)
        text = self._troubles.tell(asked.volume_id, parse_pod(asked.context), {None: failure})
        failed = await asyncio.to_thread(self._disk.annotate, asked, target, ERROR_FILE, text)
        if failed is not None:
            logger.warning("volume %s: %s", asked.volume_id, failed.message)

    def _is_unchanged(self, asked: Publication) -> bool:
        live = self._live.get(asked.volume_id)
        if live is None or (live.target, live.digest) != (asked.target, asked.digest):
            return False
        wish = self._contents.parse(asked.context, asked.secrets)
        return isinstance(wish, Wish) and self._contents.inputs(wish) == live.inputs and self._disk.is_ours(live.path)

    def _written(self, asked: Publication, path: Path, wish: Wish, content: Content) -> None:
        self._metrics.expiries[asked.volume_id] = wish.token.expires_at
        if content.problems:
            # Asked again at each round, until it is well.
            self._live.pop(asked.volume_id, None)
            return
        self._troubles.over(asked.volume_id)
        self._live[asked.volume_id] = _Live(target=asked.target, path=path, digest=asked.digest, inputs=content.inputs)
        for key in content.unseen:
            self._warnings.warn(
                wish.volume.pod,
                "ProxyServiceNotUsed",
                f'services "{alias_service_name(key.name)}" in namespace "{key.namespace}" is not seen to be the '
                f"controller's, so the volume names the proxy's own; see kubectl describe connector {key.name} "
                f"--namespace={key.namespace}",
            )

    def _tell_ignored(self, wish: Wish) -> None:
        pod = wish.volume.pod
        for text in wish.ignored:
            self._warnings.warn(pod, "VolumeAttributeIgnored", text)
        wanted, given = wish.volume.token_expiration, wish.token.lifetime
        if wanted is None or given is None or wanted == given:
            return
        reason, how = ("Shortened", "longer") if wanted > given else ("Lengthened", "shorter")
        self._warnings.warn(
            pod,
            f"TokenExpiration{reason}",
            f"token.expiration: {wanted:.0f}s is {how} than the tokens of all volumes live, which is set in "
            f"spec.tokenRequests of the CSIDriver: {given:.0f}s; they are replaced in the volume before they expire",
        )

    async def _unpublish(self, volume_id: str, text: str) -> Failure | None:
        target = check_target(text, self._pods)
        if isinstance(target, Failure):
            return target
        failure = await asyncio.to_thread(self._disk.remove, volume_id, target)
        if failure is None:
            # Others may have gone with their pods and without a call.
            for each in (volume_id, *await asyncio.to_thread(self._disk.sweep)):
                self._live.pop(each, None)
                self._troubles.over(each)
                self._metrics.expiries.pop(each, None)
        return failure
