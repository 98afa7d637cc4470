"""Parsed NodePublishVolume requests: checks by the CSI specification, and of what an inline volume must be."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from connector_csi.failure import Failure, invalid
from connector_csi.proto import csi_pb2
from connector_store.domain.callers.pod_token import TOKENS_KEY
from connector_store.domain.kubeconfig.volume_request import author_attributes

MAX_GID: Final = 2**32 - 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A volume to publish at `target_path`, readable by the group `gid`, or by all users if `gid` is None."""

    volume_id: str
    target_path: str
    gid: int | None
    context: Mapping[str, str] = field(repr=False)
    secrets: Mapping[str, str] = field(repr=False)

    @property
    def digest(self) -> str:
        """Digest of what cannot change during the life of the volume: the author's attributes and the group."""
        immutable = [sorted(author_attributes(self.context).items()), self.gid]
        return hashlib.sha256(json.dumps(immutable).encode()).hexdigest()


def parse_publication(request: csi_pb2.NodePublishVolumeRequest) -> Publication | Failure:
    """Parse a request. The Failure (INVALID_ARGUMENT) names the first wrong field."""
    capability = request.volume_capability
    if not request.volume_id:
        return invalid("volume_id is missing")
    if not request.target_path:
        return invalid("target_path is missing")
    if not request.HasField("volume_capability"):
        return invalid("volume_capability is missing")
    if not capability.HasField("mount"):
        return invalid("volume_capability is not a mount; the driver has no block devices")
    if not request.readonly:
        return invalid("readOnly is not true; write csi.readOnly: true in the pod's volume")
    if capability.mount.fs_type:
        return invalid("fsType is not for this driver, whose volumes are in memory; leave csi.fsType out")
    if capability.mount.mount_flags:
        return invalid("mount options are not for this driver; leave them out")
    if any(key != TOKENS_KEY for key in request.secrets):
        return invalid("nodePublishSecretRef is not for this driver, which needs no Secret; leave it out")
    group = capability.mount.volume_mount_group
    if group and not (group.isascii() and group.isdigit() and int(group) <= MAX_GID):
        return invalid("volume_mount_group is not the number of a group")
    return Publication(
        volume_id=request.volume_id,
        target_path=request.target_path,
        gid=int(group) if group else None,
        context=dict(request.volume_context),
        secrets=dict(request.secrets),
    )
