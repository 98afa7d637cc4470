"""What a volume holds when kubelet publishes it again, and after a restart of the driver or the node."""

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from grpc import StatusCode

from connector_store.domain.access import Unavailable
from tests.connector_csi.lab import Lab, code
from tests.connector_csi.test_content import KEY, MAY_NOT, connector


async def test_a_new_token_ca_or_address_replaces_the_content(lab: Lab) -> None:
    await lab.publish()
    assert await lab.publish(lab.asked("n3w")) is None
    assert lab.read("context.token") == "n3w"
    lab.cluster.ca = b"other"
    assert await lab.publish(lab.asked("n3w")) is None
    assert lab.read("ca.crt") == "other"
    lab.cluster.connectors[KEY] = connector(host="moved")
    assert await lab.publish(lab.asked("n3w")) is None
    assert "https://moved:6443" in lab.read("kubeconfig")


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda lab: lab.access.answers.update({KEY: MAY_NOT}), id="the right is taken away"),
        pytest.param(lambda lab: lab.access.answers.update({KEY: Unavailable(reason="down")}), id="no API server"),
        pytest.param(lambda lab: lab.cluster.connectors.clear(), id="the Connector is gone"),
        pytest.param(lambda lab: setattr(lab.cluster, "ca", None), id="no CA"),
    ],
)
async def test_a_republish_that_fails_keeps_the_content_and_is_told_once(
    lab: Lab, break_it: Callable[[Lab], None], caplog: pytest.LogCaptureFixture
) -> None:
    await lab.publish()
    break_it(lab)
    for _ in range(3):
        assert await lab.publish(lab.asked("n3w")) is None
    assert lab.read("context.token") == "s3cret"
    [(reason, note)] = lab.warnings.told
    assert reason == "ConnectorNotRefreshed"
    assert note.startswith("old content is kept: ")
    assert b"connector_csi_republish_failures_total{" in lab.metrics.text()
    for text in (note, caplog.text, lab.metrics.text().decode()):
        assert "s3cret" not in text
        assert "n3w" not in text


async def test_a_service_that_becomes_another_s_is_left_by_the_volume_and_told(lab: Lab) -> None:
    await lab.publish()
    assert "@c-k8s.team-a.svc.cluster.local:80" in lab.read("kubeconfig")
    lab.cluster.strangers.add(KEY)
    assert await lab.publish() is None
    assert "c-k8s" not in lab.read("kubeconfig") + lab.read(".env") + lab.read("connector.status.proxyAddress")
    [(reason, note)] = lab.warnings.told
    assert reason == "ProxyServiceNotUsed"
    assert note.startswith('services "c-k8s" in namespace "team-a" is not seen')
    lab.cluster.strangers.clear()
    assert await lab.publish() is None
    assert "@c-k8s.team-a.svc.cluster.local:80" in lab.read("kubeconfig")
    assert len(lab.warnings.told) == 1


async def test_it_is_told_again_after_it_worked_meanwhile(lab: Lab) -> None:
    await lab.publish()
    for _ in range(2):
        lab.access.answers[KEY] = MAY_NOT
        await lab.publish(lab.asked("n3w"))
        lab.access.answers.clear()
        await lab.publish()
    assert len(lab.warnings.told) == 2


async def test_a_republish_without_a_token_is_masked_too(lab: Lab) -> None:
    await lab.publish()
    assert await lab.publish(replace(lab.asked(), secrets={})) is None
    [(_, note)] = lab.warnings.told
    assert "tokenRequests" in note


async def test_a_full_tmpfs_keeps_the_old_content(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.publish()

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "x", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert await lab.publish(lab.asked("n3w")) is None
        lab.restart()
        other = replace(lab.asked(), volume_id="csi-2", target=str(lab.target.with_name("second")))
        failure = await lab.publish(other)
    assert code(failure) is StatusCode.RESOURCE_EXHAUSTED
    assert lab.read("context.token") == "s3cret"
    assert list(lab.mounts.table) == [str(lab.target)]
    assert not lab.target.with_name("second").exists()


async def test_a_restarted_driver_knows_its_volumes(lab: Lab) -> None:
    await lab.publish()
    lab.restart()
    assert b"connector_csi_volumes 1.0" in lab.metrics.text()
    lab.access.answers[KEY] = MAY_NOT
    assert await lab.publish() is None
    assert lab.read("context.token") == "s3cret"
    assert code(await lab.publish(lab.asked(connector_name="other"))) is StatusCode.ALREADY_EXISTS
    assert await lab.unpublish() is None
    assert lab.nothing_is_left


async def test_a_mount_whose_record_is_gone_is_adopted(lab: Lab) -> None:
    await lab.publish()
    for path in lab.folder.iterdir():
        path.unlink()
    lab.restart()
    assert await lab.publish(lab.asked("n3w")) is None
    assert lab.read("context.token") == "n3w"
    assert list(lab.folder.iterdir())


async def test_a_record_whose_pod_is_gone_is_forgotten(lab: Lab) -> None:
    await lab.publish()
    (lab.target.parent).rename(lab.pods / "moved")
    lab.mounts.table.clear()
    lab.restart()
    assert list(lab.folder.iterdir()) == []


async def test_after_a_reboot_the_volume_is_made_anew(lab: Lab) -> None:
    await lab.publish()
    lab.mounts.table.clear()
    for path in lab.target.rglob("*"):
        if path.is_symlink() or path.is_file():
            path.unlink()
    lab.restart()
    assert await lab.publish(lab.asked("n3w")) is None
    assert lab.read("context.token") == "n3w"
