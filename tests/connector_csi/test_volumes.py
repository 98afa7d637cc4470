"""Publishing: all or nothing, once for each volume, and what runs keeps what it has."""

import asyncio
import errno
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import jwt
import pytest
from grpc import StatusCode

from connector_csi.content import Contents
from connector_csi.disk import Disk
from connector_csi.failure import Failure
from connector_csi.metrics import Metrics
from connector_csi.publication import Publication
from connector_csi.records import Records
from connector_csi.volumes import Volumes
from connector_store.domain.access import Answer, Unavailable
from connector_store.domain.names import ObjectKey
from connector_store.domain.pod_token import TOKENS
from connector_store.domain.volume import Pod
from tests.connector_csi.test_content import CONTEXT, KEY, MAY_NOT, POD, FakeAccess, FakeCluster, connector
from tests.fakes.mounts import FakeMounts

KEY_OF_TOKENS = "k" * 32


@dataclass
class AnyToken(FakeAccess):
    """Answers whatever the token; with a `gate` only when that is set, and `waiting` says that one waits."""

    gate: asyncio.Event | None = None

    def __post_init__(self) -> None:
        self.waiting = asyncio.Event()

    async def check(self, token: str, key: ObjectKey) -> Answer:
        if self.gate is not None:
            self.waiting.set()
            await self.gate.wait()
        return await super().check("s3cret", key)


@dataclass
class FakeWarnings:
    told: list[tuple[str, str]] = field(default_factory=list)

    def warn(self, pod: Pod, reason: str, note: str) -> None:
        assert pod.name == "web"
        self.told.append((reason, note))


class Lab:
    """One node on a folder; `restart` makes a new driver of what is on disk."""

    def __init__(self, folder: Path) -> None:
        self.pods = folder / "pods"
        self.target = self.pods / "uid" / "mount"
        self.target.parent.mkdir(parents=True)
        self.folder = folder / "volumes"
        self.mounts = FakeMounts()
        self.access = AnyToken()
        self.cluster = FakeCluster(access=self.access)
        self.cluster.synced.set()
        self.warnings = FakeWarnings()
        self.restart()

    def restart(self) -> None:
        self.metrics = Metrics()
        self.volumes = Volumes(
            pods=self.pods,
            disk=Disk(Records(self.folder), self.mounts),
            contents=Contents(self.cluster, sync_timeout=0.01),
            warnings=self.warnings,
            metrics=self.metrics,
        )

    def asked(self, token: str = "s3cret", gid: int | None = None, **attributes: str) -> Publication:
        return Publication(
            volume_id="csi-1",
            target=str(self.target),
            gid=gid,
            context=CONTEXT | {name.replace("_", "."): value for name, value in attributes.items()},
            secrets={TOKENS: json.dumps({"connectors-proxy": {"token": token}})},
        )

    async def publish(self, asked: Publication | None = None) -> Failure | None:
        return await self.volumes.publish(asked or self.asked())

    async def unpublish(self) -> Failure | None:
        return await self.volumes.unpublish("csi-1", str(self.target))

    @property
    def nothing_is_left(self) -> bool:
        return not self.mounts.table and not self.target.exists() and not list(self.folder.iterdir())

    def read(self, name: str) -> str:
        return (self.target / name).read_text()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def code(failure: Failure | None) -> StatusCode:
    return StatusCode.OK if failure is None else failure.code


async def test_a_volume_comes_and_goes(lab: Lab) -> None:
    assert await lab.publish() is None
    assert lab.read("context.token") == "s3cret"
    assert lab.mounts.options[str(lab.target)] == (0o755, 0)
    assert "s3cret" not in "".join(path.read_text() for path in lab.folder.iterdir())
    assert await lab.unpublish() is None
    assert lab.nothing_is_left
    assert await lab.unpublish() is None


async def test_the_group_of_the_pod_owns_the_mount(lab: Lab) -> None:
    assert await lab.publish(lab.asked(gid=os.getgid())) is None
    assert lab.mounts.options[str(lab.target)] == (0o750, os.getgid())
    assert (lab.target / "kubeconfig").stat().st_mode & 0o777 == 0o440


async def test_publishing_again_asks_and_writes_nothing(lab: Lab) -> None:
    await lab.publish()
    asked, data = list(lab.access.asked), (lab.target / "..data").readlink()
    for _ in range(10):
        assert await lab.publish() is None
    assert lab.access.asked == asked
    assert (lab.target / "..data").readlink() == data
    assert len(lab.mounts.table[str(lab.target)]) == 1


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


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(lambda lab: lab.asked(connector_name="x"), StatusCode.ALREADY_EXISTS, id="another Connector"),
        pytest.param(lambda lab: lab.asked(gid=5), StatusCode.ALREADY_EXISTS, id="another group"),
        pytest.param(lambda lab: lab.asked("n3w"), StatusCode.OK, id="another token is no other argument"),
    ],
)
async def test_the_same_target_with_other_arguments(
    lab: Lab, change: Callable[[Lab], Publication], expected: StatusCode
) -> None:
    await lab.publish()
    assert code(await lab.publish(change(lab))) is expected


async def test_another_target_while_it_is_published(lab: Lab) -> None:
    await lab.publish()
    other = replace(lab.asked(), target=str(lab.target.with_name("other")))
    assert code(await lab.publish(other)) is StatusCode.FAILED_PRECONDITION
    await lab.unpublish()
    assert await lab.publish(other) is None


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        pytest.param(
            lambda lab: lab.access.answers.update({KEY: MAY_NOT}), StatusCode.PERMISSION_DENIED, id="no right"
        ),
        pytest.param(lambda lab: lab.cluster.synced.clear(), StatusCode.UNAVAILABLE, id="not synced"),
        pytest.param(lambda lab: setattr(lab.mounts, "refuse_mount", errno.EPERM), StatusCode.INTERNAL, id="no mount"),
        pytest.param(
            lambda lab: setattr(lab.mounts, "refuse_mount", errno.ENOMEM), StatusCode.RESOURCE_EXHAUSTED, id="no memory"
        ),
        pytest.param(lambda lab: lab.target.symlink_to("/etc"), StatusCode.INVALID_ARGUMENT, id="a symbolic link"),
    ],
)
async def test_a_first_publish_that_fails_leaves_nothing(
    lab: Lab, break_it: Callable[[Lab], None], expected: StatusCode
) -> None:
    break_it(lab)
    assert code(await lab.publish()) is expected
    lab.target.unlink(missing_ok=True)
    assert lab.nothing_is_left
    assert lab.warnings.told == []


async def test_something_else_on_the_target_is_left_alone(lab: Lab) -> None:
    lab.target.mkdir()
    (lab.target / "theirs").touch()
    lab.mounts.table[str(lab.target)] = ["/dev/sda1"]
    assert code(await lab.publish()) is StatusCode.INTERNAL
    assert code(await lab.unpublish()) is StatusCode.INTERNAL
    assert (lab.target / "theirs").exists()


async def test_calls_for_one_volume_exclude_each_other(lab: Lab) -> None:
    lab.access.gate = asyncio.Event()
    first = asyncio.ensure_future(lab.publish())
    await lab.access.waiting.wait()
    assert code(await lab.publish()) is StatusCode.ABORTED
    assert code(await lab.unpublish()) is StatusCode.ABORTED
    lab.access.gate.set()
    assert await first is None
    assert await lab.unpublish() is None


async def test_a_call_that_kubelet_gave_up_still_ends_before_the_next(lab: Lab) -> None:
    lab.access.gate = asyncio.Event()
    first = asyncio.ensure_future(lab.publish())
    await lab.access.waiting.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert code(await lab.unpublish()) is StatusCode.ABORTED
    lab.access.gate.set()
    await lab.volumes.close()
    assert lab.read("context.token") == "s3cret"
    assert await lab.unpublish() is None
    assert lab.nothing_is_left


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


async def test_an_unmount_that_is_refused_is_told_and_tried_again(lab: Lab) -> None:
    await lab.publish()
    lab.mounts.refuse_unmount = errno.EBUSY
    assert code(await lab.unpublish()) is StatusCode.INTERNAL
    assert not (lab.target / "context.token").exists()
    lab.mounts.refuse_unmount = None
    assert await lab.unpublish() is None
    assert lab.nothing_is_left


async def test_files_of_others_in_an_unmounted_target_are_not_removed(lab: Lab) -> None:
    lab.target.mkdir()
    (lab.target / "theirs").touch()
    failure = await lab.unpublish()
    assert failure is not None
    assert "not the driver's" in failure.message


async def test_a_target_elsewhere_is_not_unpublished(lab: Lab) -> None:
    assert code(await lab.volumes.unpublish("csi-1", "/etc")) is StatusCode.INVALID_ARGUMENT


async def test_a_longer_life_than_the_drivers_is_told(lab: Lab) -> None:
    token = jwt.encode({"iat": 0, "exp": 1800}, KEY_OF_TOKENS)
    await lab.publish(lab.asked(token, token_expiration="60m"))
    [(reason, note)] = lab.warnings.told
    assert reason == "TokenExpirationShortened"
    assert "3600s" in note
    assert "1800s" in note


async def test_a_shorter_life_is_not_worth_a_word(lab: Lab) -> None:
    token = jwt.encode({"iat": 0, "exp": 1800}, KEY_OF_TOKENS)
    await lab.publish(lab.asked(token, token_expiration="10m"))
    assert lab.warnings.told == []


def test_what_the_driver_prints_of_a_request_has_no_token(lab: Lab) -> None:
    asked = replace(lab.asked(), context=POD | {TOKENS: "s3cret"})
    assert "s3cret" not in repr(asked)
