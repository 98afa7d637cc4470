"""A volume on disk: complete or absent, and continued from every state that a killed driver leaves."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from connector_csi.disk import Disk
from connector_csi.mounts import MOUNT_SOURCE
from connector_csi.publication import Publication
from connector_csi.volume_records import VolumeRecords
from tests.fakes.mounts import FakeMounts

OLD = {"context.token": b"s3cret", "a": b"1"}
NEW = {"context.token": b"n3w", "b": b"2"}
ENDPOINTS = {"a/b": ("https://h:6443", "http://c-b.a.svc")}


class Lab:
    """One volume of a node. `restart` creates a new driver from the state on disk."""

    def __init__(self, folder: Path) -> None:
        self.target = folder / "pods" / "uid" / "mount"
        self.target.parent.mkdir(parents=True)
        self.folder = folder / "volumes"
        self.mounts = FakeMounts()
        self.publication = Publication(
            volume_id="csi-1", target_path=str(self.target), gid=None, context={}, secrets={}
        )
        self.restart()

    def restart(self) -> None:
        self.disk = Disk(VolumeRecords(self.folder), self.mounts)
        self.disk.forget_orphans()

    @property
    def is_clean(self) -> bool:
        return not self.mounts.table and not self.target.exists() and not list(self.folder.iterdir())

    @property
    def token(self) -> str:
        return (self.target / "context.token").read_text()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_volume_is_created_changed_and_removed(lab: Lab) -> None:
    assert lab.disk.create(lab.publication, lab.target, OLD, {}) is None
    assert lab.disk.is_published(lab.target)
    assert len(lab.disk) == 1
    assert lab.disk.replace(lab.publication, lab.target, NEW, ENDPOINTS) is True
    assert lab.disk.replace(lab.publication, lab.target, NEW, ENDPOINTS) is False
    assert lab.token == "n3w"
    assert lab.disk.remove("csi-1", lab.target) is None
    assert lab.is_clean


def test_endpoints_survive_a_restart(lab: Lab) -> None:
    lab.disk.create(lab.publication, lab.target, OLD, {})
    lab.disk.replace(lab.publication, lab.target, NEW, ENDPOINTS)
    lab.restart()
    record = lab.disk.record("csi-1")
    assert record is not None
    assert record.endpoints == ENDPOINTS


def test_a_file_is_added_to_the_content(lab: Lab) -> None:
    lab.disk.create(lab.publication, lab.target, OLD, {})
    assert lab.disk.add_file(lab.publication, lab.target, ".error.json", b"{}") is None
    assert lab.token == "s3cret"
    assert (lab.target / ".error.json").read_text() == "{}"
    assert lab.disk.replace(lab.publication, lab.target, OLD, {}) is True
    assert not (lab.target / ".error.json").exists()


def test_a_covered_volume_is_still_in_use(lab: Lab) -> None:
    assert not lab.disk.is_in_use(lab.target)
    lab.disk.create(lab.publication, lab.target, OLD, {})
    assert lab.disk.is_in_use(lab.target)
    lab.mounts.table[str(lab.target)].append("/dev/sda1")
    assert lab.disk.is_in_use(lab.target)
    assert not lab.disk.is_published(lab.target)
    lab.mounts.table[str(lab.target)] = ["/dev/sda1"]
    assert not lab.disk.is_in_use(lab.target)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOMEM])
def test_a_refused_mount_leaves_nothing(lab: Lab, number: int) -> None:
    lab.mounts.refuse_mount = number
    failure = lab.disk.create(lab.publication, lab.target, OLD, {})
    assert failure is not None
    assert failure.message.startswith("cannot mount a tmpfs on target_path: ")
    assert lab.is_clean


def test_an_incomplete_undo_is_logged(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.mounts.refuse_unmount = errno.EIO
    assert lab.disk.create(lab.publication, lab.target, {"x" * 300: b""}, {}) is not None
    assert "volume csi-1 is not completely removed: cannot unmount target_path" in caplog.text
    lab.mounts.refuse_unmount = None
    assert lab.disk.create(lab.publication, lab.target, OLD, {}) is None


def test_removing_another_path_keeps_the_record(lab: Lab) -> None:
    lab.disk.create(lab.publication, lab.target, OLD, {})
    assert lab.disk.remove("csi-1", lab.target.with_name("other")) is None
    assert lab.disk.record("csi-1") is not None


def test_a_foreign_mount_is_unmounted_and_not_erased(lab: Lab) -> None:
    lab.target.mkdir()
    (lab.target / "theirs").touch()
    lab.mounts.table[str(lab.target)] = ["/dev/sda1"]
    assert lab.disk.is_mounted(lab.target)
    assert not lab.disk.is_ours(lab.target)
    assert lab.disk.remove("csi-1", lab.target) is not None
    assert (lab.target / "theirs").exists()


def test_stacked_mounts_are_all_unmounted(lab: Lab) -> None:
    lab.disk.create(lab.publication, lab.target, OLD, {})
    lab.mounts.table[str(lab.target)] += ["/dev/sda1", MOUNT_SOURCE]
    assert lab.disk.remove("csi-1", lab.target) is None
    assert lab.is_clean


def test_records_of_deleted_pods_are_deleted(lab: Lab) -> None:
    lab.disk.create(lab.publication, lab.target, OLD, {})
    lab.restart()
    assert len(lab.disk) == 1
    lab.target.parent.rename(lab.folder.with_name("moved"))
    lab.mounts.table.clear()
    lab.restart()
    assert len(lab.disk) == 0


class KilledError(BaseException):
    """Stands for SIGKILL between two steps: no handler of the driver catches it."""


def kill_before(step: int, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the driver before the step with this number. Each change of disk or mounts is a step."""
    count = [0]

    def stepping[**P, R](inner: Callable[P, R]) -> Callable[P, R]:
        def outer(*arguments: P.args, **options: P.kwargs) -> R:
            if count[0] == step:
                raise KilledError
            count[0] += 1
            return inner(*arguments, **options)

        return outer

    for name in ("mkdir", "rmdir", "write_text", "write_bytes", "rename", "unlink", "symlink_to"):
        monkeypatch.setattr(Path, name, stepping(getattr(Path, name)))
    for name in ("mount_tmpfs", "unmount"):
        monkeypatch.setattr(lab.mounts, name, stepping(getattr(lab.mounts, name)))


def work(lab: Lab, during: str) -> None:
    match during:
        case "create":
            lab.disk.create(lab.publication, lab.target, NEW, {})
        case "replace":
            lab.disk.replace(lab.publication, lab.target, NEW, {})
        case _:
            lab.disk.remove("csi-1", lab.target)


def killed(lab: Lab, during: str, step: int) -> bool:
    """Return True if the driver reached the step."""
    with pytest.MonkeyPatch.context() as patch:
        kill_before(step, lab, patch)
        try:
            work(lab, during)
        except KilledError:
            return True
    return False


@pytest.mark.parametrize("then", ["publish", "remove"])
@pytest.mark.parametrize("during", ["create", "replace", "remove"])
def test_a_driver_killed_between_any_two_steps_loses_nothing(tmp_path: Path, during: str, then: str) -> None:
    step, reached = 0, True
    while reached:
        lab = Lab(tmp_path / str(step))
        if during != "create":
            lab.disk.create(lab.publication, lab.target, OLD, {})
        reached = killed(lab, during, step)
        if during == "replace":
            assert lab.token in ("s3cret", "n3w")
        lab.restart()
        if then == "publish":
            if lab.disk.is_published(lab.target):
                assert isinstance(lab.disk.replace(lab.publication, lab.target, NEW, {}), bool)
            else:
                assert lab.disk.create(lab.publication, lab.target, NEW, {}) is None
            assert {path.name for path in lab.target.iterdir() if not path.name.startswith("..")} == NEW.keys()
            assert lab.token == "n3w"
            assert len(lab.mounts.table[str(lab.target)]) == 1
        assert lab.disk.remove("csi-1", lab.target) is None
        lab.restart()
        assert lab.is_clean
        step += 1
    assert step > 3
