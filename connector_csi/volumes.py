"""Publishing and unpublishing of volumes, with one call at a time for each volume.

The state on the node decides whether a volume is published, and survives a restart of the driver. kubelet does not see
the failure of a republish, because it would unmount the volume (kubernetes#121271). The pod keeps its content, and gets
an event and an error file.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from grpc import StatusCode

from connector_csi.disk import Disk
from connector_csi.failure import Failure
from connector_csi.metrics import CsiMetrics
from connector_csi.pod_events import PodWarnings
from connector_csi.publication import Publication
from connector_csi.refresh_errors import RefreshErrors
from connector_csi.target_path import check_target_path
from connector_csi.volume_renderer import RenderInputs, VolumeContent, VolumeRenderer, VolumeSpec
from connector_store.domain.kubeconfig.proxy_service import alias_service_name
from connector_store.domain.kubeconfig.volume_files import ERROR_FILE
from connector_store.domain.kubeconfig.volume_request import Pod, parse_pod

logger = logging.getLogger(__name__)

MAX_VOLUMES: Final = 800
"""Maximum number of volumes on one node. A pod can have hundreds, and their files count as memory of the driver, also
after it was killed for using too much. It could then never start again, and the pods could never terminate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _CurrentVolume:
    """A published volume whose content matches `inputs`. `path` is its target path as the kernel names it."""

    target_path: str
    path: Path
    digest: str
    inputs: RenderInputs


class Volumes:
    """The volumes of one node. None means success."""

    def __init__(
        self,
        *,
        pods: Path,
        disk: Disk,
        renderer: VolumeRenderer,
        warnings: PodWarnings,
        metrics: CsiMetrics,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Create the service. `pods` is kubelet's folder of pods."""
        self._pods = pods
        self._disk = disk
        self._renderer = renderer
        self._warnings = warnings
        self._metrics = metrics
        self._refresh_errors = RefreshErrors(warnings, metrics, now)
        self._busy_ids: set[str] = set()
        self._current_volumes: dict[str, _CurrentVolume] = {}
        self._calls: set[asyncio.Task[Failure | None]] = set()
        disk.forget_orphans()
        metrics.volumes.set(len(disk))

    async def publish(self, publication: Publication) -> Failure | None:
        # kubelet republishes all volumes about every minute. An unchanged one needs neither a wait nor a disk access.
        if publication.volume_id not in self._busy_ids and self._is_unchanged(publication):
            return None
        return await self._run_exclusively(publication.volume_id, self._publish(publication))

    async def unpublish(self, volume_id: str, target_path: str) -> Failure | None:
        """Remove a volume, without the API server. A volume that does not exist is success."""
        return await self._run_exclusively(volume_id, self._unpublish(volume_id, target_path))

    async def close(self) -> None:
        """Wait for the running calls."""
        if self._calls:
            await asyncio.wait(self._calls)

    def suppress_after_publish(
        self, volume_id: str, target_path: str, pod: Pod | None, failure: Failure
    ) -> Failure | None:
        """Return `failure`, or None if a pod uses the volume and kubelet would unmount it for that failure."""
        if not failure.is_final or not self._is_in_use(volume_id, target_path):
            return failure
        self._current_volumes.pop(volume_id, None)
        self._refresh_errors.record(volume_id, pod, {None: failure})
        return None

    async def _run_exclusively(self, volume_id: str, call: Coroutine[Any, Any, Failure | None]) -> Failure | None:
        if volume_id in self._busy_ids:
            call.close()
            return Failure(code=StatusCode.ABORTED, message="another call for this volume is under way")
        self._busy_ids.add(volume_id)
        task = asyncio.ensure_future(call)
        self._calls.add(task)

        def on_done(_: object) -> None:
            self._busy_ids.discard(volume_id)
            self._calls.discard(task)
            self._metrics.volumes.set(len(self._disk))

        task.add_done_callback(on_done)
        # kubelet may cancel the call. The shield lets a step in a thread finish before the volume is free again.
        return await asyncio.shield(task)

    def _is_in_use(self, volume_id: str, target_path: str) -> bool:
        """Return True if a pod uses the volume at `target_path`. A call with another path is not a republish."""
        path, record = check_target_path(target_path, self._pods), self._disk.record(volume_id)
        if isinstance(path, Failure):
            return record is not None and record.target_path == target_path and self._disk.is_in_use(Path(target_path))
        return self._disk.is_in_use(path) and (record is None or record.target_path == str(path))

    async def _publish(self, publication: Publication) -> Failure | None:
        path = check_target_path(publication.target_path, self._pods)
        if isinstance(path, Failure):
            return path
        if (conflict := self._conflict(publication, path)) is not None:
            return conflict
        spec = await self._renderer.wait_synced() or self._renderer.parse(publication.context, publication.secrets)
        if self._disk.is_published(path):
            await self._republish(publication, path, spec)
            return None
        if self._is_at_capacity(publication.volume_id):
            message = (
                f"the node has {MAX_VOLUMES} volumes of connectors-csi, the most that it may; wait for pods to end"
            )
            return Failure(code=StatusCode.RESOURCE_EXHAUSTED, message=message)
        if isinstance(spec, Failure):
            return await self._undo(publication, path, spec)
        content = await self._renderer.render(spec)
        if isinstance(content, Failure):
            return await self._undo(publication, path, content)
        return await self._create(publication, path, spec, content)

    async def _undo(self, publication: Publication, path: Path, failure: Failure) -> Failure:
        await asyncio.to_thread(self._disk.undo, publication.volume_id, path)
        return failure

    async def _create(
        self, publication: Publication, path: Path, spec: VolumeSpec, content: VolumeContent
    ) -> Failure | None:
        files = content.files
        if content.problems:
            error_file = self._refresh_errors.record(
                publication.volume_id, spec.volume.pod, content.problems, is_new=True
            )
            files = {**files, ERROR_FILE: error_file}
        failure = await asyncio.to_thread(self._disk.create, publication, path, files, content.endpoints)
        if failure is None:
            self._metrics.writes.inc()
            self._record_content(publication, path, spec, content)
            self._warn_ignored(spec)
        else:
            self._refresh_errors.clear(publication.volume_id)
        return failure

    def _conflict(self, publication: Publication, path: Path) -> Failure | None:
        """Return a Failure if the volume is published with another target path or other arguments.

        Source: CSI specification, NodePublishVolume.
        """
        if self._disk.is_mounted(path) and not self._disk.is_ours(path):
            return Failure(code=StatusCode.INTERNAL, message="something else is mounted on target_path; unmount it")
        record = self._disk.record(publication.volume_id)
        if record is None:
            return None
        if record.target_path != str(path) and self._disk.is_published(Path(record.target_path)):
            message = "the volume is published at another target_path already; it can be at one only"
            return Failure(code=StatusCode.FAILED_PRECONDITION, message=message)
        if (
            self._disk.is_published(path)
            and record.target_path == str(path)
            and record.conflicts_with(publication.digest)
        ):
            message = "the volume is published already with other volumeAttributes or another fsGroup"
            return Failure(code=StatusCode.ALREADY_EXISTS, message=message)
        return None

    def _is_at_capacity(self, volume_id: str) -> bool:
        """Return True if a new volume would exceed the maximum. Running calls for other new volumes count, too."""
        volume_count = len(self._disk) + sum(self._disk.record(other) is None for other in self._busy_ids - {volume_id})
        return self._disk.record(volume_id) is None and volume_count >= MAX_VOLUMES

    async def _republish(self, publication: Publication, path: Path, spec: VolumeSpec | Failure) -> None:
        record = self._disk.record(publication.volume_id)
        endpoints = record.endpoints if record is not None else {}
        if isinstance(spec, Failure):
            await self._record_failure(publication, path, spec)
            return
        content = await self._renderer.render(spec, endpoints)
        if isinstance(content, Failure):
            await self._record_failure(publication, path, content)
            return
        files = content.files
        if content.problems:
            pod = parse_pod(publication.context)
            files = {**files, ERROR_FILE: self._refresh_errors.record(publication.volume_id, pod, content.problems)}
        is_changed = await asyncio.to_thread(self._disk.replace, publication, path, files, content.endpoints)
        if isinstance(is_changed, Failure):
            await self._record_failure(publication, path, is_changed)
            return
        self._metrics.writes.inc(is_changed)
        self._record_content(publication, path, spec, content)

    async def _record_failure(self, publication: Publication, path: Path, failure: Failure) -> None:
        """Leave the content as it is, and write the reason into the error file."""
        self._current_volumes.pop(publication.volume_id, None)
        error_file = self._refresh_errors.record(publication.volume_id, parse_pod(publication.context), {None: failure})
        write_failure = await asyncio.to_thread(self._disk.add_file, publication, path, ERROR_FILE, error_file)
        if write_failure is not None:
            logger.warning("volume %s: %s", publication.volume_id, write_failure.message)

    def _is_unchanged(self, publication: Publication) -> bool:
        current = self._current_volumes.get(publication.volume_id)
        if current is None or (current.target_path, current.digest) != (publication.target_path, publication.digest):
            return False
        spec = self._renderer.parse(publication.context, publication.secrets)
        return (
            isinstance(spec, VolumeSpec)
            and self._renderer.compute_inputs(spec) == current.inputs
            and self._disk.is_ours(current.path)
        )

    def _record_content(self, publication: Publication, path: Path, spec: VolumeSpec, content: VolumeContent) -> None:
        self._metrics.token_expiries[publication.volume_id] = spec.token.expires_at
        if content.problems:
            # The volume is rendered again at each republish until it has no problems.
            self._current_volumes.pop(publication.volume_id, None)
            return
        self._refresh_errors.clear(publication.volume_id)
        self._current_volumes[publication.volume_id] = _CurrentVolume(
            target_path=publication.target_path, path=path, digest=publication.digest, inputs=content.inputs
        )
        for key in content.unverified_aliases:
            self._warnings.warn(
                spec.volume.pod,
                "ProxyServiceNotUsed",
                f'services "{alias_service_name(key.name)}" in namespace "{key.namespace}" is not seen to be the '
                f"controller's, so the volume names the proxy's own; see kubectl describe connector {key.name} "
                f"--namespace={key.namespace}",
            )

    def _warn_ignored(self, spec: VolumeSpec) -> None:
        pod = spec.volume.pod
        for text in spec.ignored:
            self._warnings.warn(pod, "VolumeAttributeIgnored", text)
        requested_lifetime, token_lifetime = spec.volume.token_expiration, spec.token.lifetime
        if requested_lifetime is None or token_lifetime is None or requested_lifetime == token_lifetime:
            return
        reason, comparison = (
            ("Shortened", "longer") if requested_lifetime > token_lifetime else ("Lengthened", "shorter")
        )
        self._warnings.warn(
            pod,
            f"TokenExpiration{reason}",
            f"token.expiration: {requested_lifetime:.0f}s is {comparison} than the tokens of all volumes live, which "
            f"is set in spec.tokenRequests of the CSIDriver: {token_lifetime:.0f}s; they are replaced in the volume "
            "before they expire",
        )

    async def _unpublish(self, volume_id: str, target_path: str) -> Failure | None:
        path = check_target_path(target_path, self._pods)
        if isinstance(path, Failure):
            return path
        failure = await asyncio.to_thread(self._disk.remove, volume_id, path)
        if failure is None:
            # Volumes can disappear with their pod and without a call.
            for removed_id in (volume_id, *await asyncio.to_thread(self._disk.forget_orphans)):
                self._current_volumes.pop(removed_id, None)
                self._refresh_errors.clear(removed_id)
                self._metrics.token_expiries.pop(removed_id, None)
        return failure
