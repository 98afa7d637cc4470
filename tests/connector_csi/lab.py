"""Volumes of one node in a folder, with fakes of mounts, access and the cluster."""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from grpc import StatusCode

from connector_csi.disk import Disk
from connector_csi.failure import Failure
from connector_csi.metrics import CsiMetrics
from connector_csi.publication import Publication
from connector_csi.volume_records import VolumeRecords
from connector_csi.volume_renderer import VolumeRenderer
from connector_csi.volumes import Volumes
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult
from connector_store.domain.callers.pod_token import TOKENS_KEY
from connector_store.domain.kubeconfig.volume_request import Pod
from tests.connector_csi.test_volume_renderer import CONTEXT, FakeAccess, FakeCluster, FakeRefusedPods
from tests.fakes.mounts import FakeMounts

SINCE = "2026-01-02T00:00:00Z"
"""Time of the lab's clock."""


@dataclass
class AnyToken(FakeAccess):
    """Accepts every token. With a `gate`, a check sets `waiting` and waits until the gate is set."""

    gate: asyncio.Event | None = None

    def __post_init__(self) -> None:
        self.waiting = asyncio.Event()

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        if self.gate is not None:
            self.waiting.set()
            await self.gate.wait()
        return await super().check("s3cret", key, source_ip)


@dataclass
class FakeWarnings:
    events: list[tuple[str, str]] = field(default_factory=list)

    def warn(self, pod: Pod, reason: str, note: str) -> None:
        assert pod.name == "web"
        self.events.append((reason, note))


class Lab:
    """One node in a folder. `restart` creates a new driver from the state on disk."""

    def __init__(self, folder: Path) -> None:
        self.pods = folder / "pods"
        self.target = self.pods / "uid" / "volumes" / "kubernetes.io~csi" / "connector" / "mount"
        self.target.parent.mkdir(parents=True)
        self.folder = folder / "volumes"
        self.mounts = FakeMounts()
        self.access = AnyToken()
        self.cluster = FakeCluster(access=self.access)
        self.cluster.synced.set()
        self.refused_pods = FakeRefusedPods()
        self.warnings = FakeWarnings()
        self.restart()

    def restart(self) -> None:
        self.metrics = CsiMetrics()
        self.volumes = Volumes(
            pods=self.pods,
            disk=Disk(VolumeRecords(self.folder), self.mounts),
            renderer=VolumeRenderer(self.cluster, self.refused_pods, sync_timeout=0.01),
            warnings=self.warnings,
            metrics=self.metrics,
            now=lambda: datetime(2026, 1, 2, tzinfo=UTC),
        )

    def publication(self, token: str = "s3cret", gid: int | None = None, **attributes: str) -> Publication:
        return Publication(
            volume_id="csi-1",
            target_path=str(self.target),
            gid=gid,
            context=CONTEXT | {name.replace("_", "."): value for name, value in attributes.items()},
            secrets={TOKENS_KEY: json.dumps({"connectors-proxy": {"token": token}})},
        )

    async def publish(self, publication: Publication | None = None) -> Failure | None:
        return await self.volumes.publish(publication or self.publication())

    async def unpublish(self) -> Failure | None:
        return await self.volumes.unpublish("csi-1", str(self.target))

    @property
    def is_clean(self) -> bool:
        return not self.mounts.table and not self.target.exists() and not list(self.folder.iterdir())

    def read(self, name: str) -> str:
        return (self.target / name).read_text()


def code(failure: Failure | None) -> StatusCode:
    return StatusCode.OK if failure is None else failure.code
