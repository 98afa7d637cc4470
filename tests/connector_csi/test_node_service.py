"""The Node service over a real socket: codes of the CSI specification, and no token in any output."""

import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import grpc.aio
import pytest

from connector_csi.failure import MAX_MESSAGE
from connector_csi.metrics import CsiMetrics
from connector_csi.node_service import NodeService
from connector_csi.proto import csi_pb2, csi_pb2_grpc
from connector_csi.server import serve
from connector_store.domain.callers.pod_token import TOKENS_KEY
from tests.connector_csi.lab import Lab
from tests.connector_csi.test_volume_renderer import CONTEXT

Change = Callable[[csi_pb2.NodePublishVolumeRequest], object]


def request(target: Path) -> csi_pb2.NodePublishVolumeRequest:
    """Return a valid request, as kubelet sends it."""
    request = csi_pb2.NodePublishVolumeRequest(
        volume_id="csi-1", target_path=str(target), readonly=True, volume_context=CONTEXT
    )
    request.secrets[TOKENS_KEY] = json.dumps({"connectors-proxy": {"token": "s3cret"}})
    request.volume_capability.mount.SetInParent()
    request.volume_capability.access_mode.mode = csi_pb2.VolumeCapability.AccessMode.SINGLE_NODE_WRITER
    return request


@dataclass
class Service:
    lab: Lab
    stub: csi_pb2_grpc.NodeStub
    metrics: CsiMetrics = field(default_factory=CsiMetrics)


@pytest.fixture
async def service(tmp_path: Path, sockets: Path) -> AsyncIterator[Service]:
    lab, metrics = Lab(tmp_path), CsiMetrics()
    node = NodeService("node-1", lab.volumes, metrics)
    path = sockets / "csi.sock"
    async with (
        serve(path, lambda server: csi_pb2_grpc.add_NodeServicer_to_server(node, server)),
        grpc.aio.insecure_channel(f"unix://{path}") as channel,
    ):
        yield Service(lab, csi_pb2_grpc.NodeStub(channel), metrics)


async def test_a_volume_is_published_and_unpublished(service: Service) -> None:
    await service.stub.NodePublishVolume(request(service.lab.target))
    assert (service.lab.target / "context.token").read_text() == "s3cret"
    unpublish = csi_pb2.NodeUnpublishVolumeRequest(volume_id="csi-1", target_path=str(service.lab.target))
    for _ in range(2):
        await service.stub.NodeUnpublishVolume(unpublish)
    assert service.lab.is_clean
    assert b'calls_total{call="NodeUnpublishVolume",code="OK"} 2.0' in service.metrics.render()


async def test_the_node_reports_its_capabilities(service: Service) -> None:
    response = await service.stub.NodeGetCapabilities(csi_pb2.NodeGetCapabilitiesRequest())
    [capability] = response.capabilities
    assert capability.rpc.type == csi_pb2.NodeServiceCapability.RPC.VOLUME_MOUNT_GROUP
    assert (await service.stub.NodeGetInfo(csi_pb2.NodeGetInfoRequest())).node_id == "node-1"


async def test_other_calls_are_unimplemented(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.NodeStageVolume(csi_pb2.NodeStageVolumeRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda r: r.ClearField("volume_id"), "volume_id", id="no id"),
        pytest.param(lambda r: r.ClearField("target_path"), "target_path", id="no target"),
        pytest.param(lambda r: r.ClearField("volume_capability"), "volume_capability", id="no capability"),
        pytest.param(lambda r: r.volume_capability.block.SetInParent(), "no block devices", id="a block device"),
        pytest.param(lambda r: r.ClearField("readonly"), "csi.readOnly: true", id="writable"),
        pytest.param(
            lambda r: setattr(r.volume_capability.mount, "volume_mount_group", "x"), "number of a group", id="no group"
        ),
        pytest.param(
            lambda r: setattr(r.volume_capability.mount, "volume_mount_group", "9" * 11), "number of", id="too big"
        ),
        pytest.param(lambda r: r.volume_context.update({"x": "y"}), "'x'", id="an unknown attribute"),
        pytest.param(lambda r: setattr(r, "target_path", "/etc"), "not that of a CSI", id="a target elsewhere"),
    ],
)
async def test_a_request_that_is_wrong_is_an_invalid_argument(service: Service, change: Change, message: str) -> None:
    wrong = request(service.lab.target)
    change(wrong)
    with pytest.raises(grpc.aio.AioRpcError, match=message) as caught:
        await service.stub.NodePublishVolume(wrong)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "s3cret" not in str(caught.value)
    assert service.lab.is_clean


@pytest.mark.parametrize("missing", ["volume_id", "target_path"])
async def test_unpublish_needs_id_and_target(service: Service, missing: str) -> None:
    request = csi_pb2.NodeUnpublishVolumeRequest(volume_id="csi-1", target_path=str(service.lab.target))
    request.ClearField(missing)
    with pytest.raises(grpc.aio.AioRpcError, match=missing) as caught:
        await service.stub.NodeUnpublishVolume(request)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_defect_is_not_final_and_logs_no_request_data(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    token = "s3cret"

    def broken(path: str) -> list[str]:
        raise ZeroDivisionError(token)

    service.lab.mounts.sources = broken  # type: ignore[method-assign]  # a defect on demand
    with caplog.at_level(logging.INFO), pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.NodePublishVolume(request(service.lab.target))
    # The driver cannot know whether a pod has the volume, so kubelet must not unmount it.
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "NodePublishVolume, volume csi-1 of pod team-a/web failed by ZeroDivisionError" in caplog.text
    assert token not in caplog.text.replace('token = "s3cret"', "") + str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda r: r.ClearField("readonly"), id="a call that a newer release finds invalid"),
        pytest.param(
            lambda r: setattr(r.volume_capability.mount, "fs_type", "ext4"), id="a field that a first publish refuses"
        ),
        pytest.param(lambda r: r.volume_context.update({"x": "y"}), id="an attribute that was removed"),
        pytest.param(lambda r: r.volume_context.update({"connector.name": "other"}), id="other arguments"),
        pytest.param(lambda r: r.secrets.clear(), id="no token"),
    ],
)
async def test_a_republish_never_fails(service: Service, change: Change) -> None:
    await service.stub.NodePublishVolume(request(service.lab.target))
    wrong = request(service.lab.target)
    change(wrong)
    await service.stub.NodePublishVolume(wrong)
    assert (service.lab.target / "context.token").read_text() == "s3cret"
    [(reason, _)] = service.lab.warnings.events
    assert reason == "ConnectorNotRefreshed"
    assert b"connector_csi_volumes_stale 1.0" in service.lab.metrics.render()
    await service.stub.NodePublishVolume(request(service.lab.target))
    assert b"connector_csi_volumes_stale 0.0" in service.lab.metrics.render()


async def test_a_defect_during_a_republish_keeps_the_volume(
    service: Service, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await service.stub.NodePublishVolume(request(service.lab.target))

    async def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(service.lab.access, "check", broken)
    fresh = request(service.lab.target)
    fresh.secrets[TOKENS_KEY] = json.dumps({"connectors-proxy": {"token": "n3w"}})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.NodePublishVolume(fresh)
    # Not final: kubelet tries again, and the pod keeps what it has.
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert "ZeroDivisionError" in caplog.text
    assert (service.lab.target / "context.token").read_text() == "s3cret"


async def test_a_covered_volume_is_kept(service: Service) -> None:
    await service.stub.NodePublishVolume(request(service.lab.target))
    service.lab.mounts.table[str(service.lab.target)].append("/dev/sda1")
    await service.stub.NodePublishVolume(request(service.lab.target))
    [(_, note)] = service.lab.warnings.events
    assert "something else is mounted on target_path" in note


async def test_a_publish_at_another_target_path_is_not_a_republish(service: Service) -> None:
    await service.stub.NodePublishVolume(request(service.lab.target))
    elsewhere = request(service.lab.target.with_name("elsewhere"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.NodePublishVolume(elsewhere)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_a_target_path_that_became_a_link_keeps_its_volume(service: Service) -> None:
    await service.stub.NodePublishVolume(request(service.lab.target))
    folder = service.lab.target.parent
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(folder.with_name("moved"))
    fresh = request(service.lab.target)
    fresh.secrets[TOKENS_KEY] = json.dumps({"connectors-proxy": {"token": "n3w"}})
    await service.stub.NodePublishVolume(fresh)
    [(_, note)] = service.lab.warnings.events
    assert "symbolic link" in note


async def test_calls_are_timed(service: Service) -> None:
    await service.stub.NodePublishVolume(request(service.lab.target))
    assert b'connector_csi_call_duration_seconds_count{call="NodePublishVolume"} 1.0' in service.metrics.render()


async def test_a_long_message_is_truncated_for_kubelet_and_in_the_log(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = request(service.lab.target)
    wrong.volume_context["configuration.names"] = ",".join(f"x{number}" for number in range(500))
    with caplog.at_level(logging.INFO), pytest.raises(grpc.aio.AioRpcError) as caught:
        await service.stub.NodePublishVolume(wrong)
    assert len(caught.value.details() or "") == MAX_MESSAGE
    [line] = [each.getMessage() for each in caplog.records if "INVALID_ARGUMENT" in each.getMessage()]
    assert len(line) < MAX_MESSAGE + 100
