"""A volume on disk: all or nothing, and whatever a killed driver left is taken up."""

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
KEPT = {"a/b": ("https://h:6443", "http://c-b.a.svc")}


class Lab:
    """One volume of a node; `restart` makes a new driver of what is on disk."""

    def __init__(self, folder: Path) -> None:
        self.target = folder / "pods" / "uid" / "mount"
        self.target.parent.mkdir(parents=True)
        self.folder = folder / "volumes"
        self.mounts = FakeMounts()
        self.asked = Publication(volume_id="csi-1", target_path=str(self.target), gid=None, context={}, secrets={})
        self.restart()

    def restart(self) -> None:
        self.disk = Disk(VolumeRecords(self.folder), self.mounts)
        self.disk.forget_orphans()

    @property
    def nothing_is_left(self) -> bool:
        return not self.mounts.table and not self.target.exists() and not list(self.folder.iterdir())

    @property
    def token(self) -> str:
        return (self.target / "context.token").read_text()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_a_volume_comes_changes_and_goes(lab: Lab) -> None:
    assert lab.disk.create(lab.asked, lab.target, OLD, {}) is None
    assert lab.disk.is_published(lab.target)
    assert len(lab.disk) == 1
    assert lab.disk.replace(lab.asked, lab.target, NEW, KEPT) is True
    assert lab.disk.replace(lab.asked, lab.target, NEW, KEPT) is False
    assert lab.token == "n3w"
    assert lab.disk.remove("csi-1", lab.target) is None
    assert lab.nothing_is_left


def test_what_the_files_name_is_known_after_a_restart(lab: Lab) -> None:
    lab.disk.create(lab.asked, lab.target, OLD, {})
    lab.disk.replace(lab.asked, lab.target, NEW, KEPT)
    lab.restart()
    record = lab.disk.record("csi-1")
    assert record is not None
    assert record.kept == KEPT


def test_a_file_is_set_beside_what_is_there(lab: Lab) -> None:
    lab.disk.create(lab.asked, lab.target, OLD, {})
    assert lab.disk.add_file(lab.asked, lab.target, ".error.json", b"{}") is None
    assert lab.token == "s3cret"
    assert (lab.target / ".error.json").read_text() == "{}"
    assert lab.disk.replace(lab.asked, lab.target, OLD, {}) is True
    assert not (lab.target / ".error.json").exists()


def test_a_volume_that_something_lies_over_is_still_a_pods(lab: Lab) -> None:
    assert not lab.disk.is_in_use(lab.target)
    lab.disk.create(lab.asked, lab.target, OLD, {})
    assert lab.disk.is_in_use(lab.target)
    lab.mounts.table[str(lab.target)].append("/dev/sda1")
    assert lab.disk.is_in_use(lab.target)
    assert not lab.disk.is_published(lab.target)
    lab.mounts.table[str(lab.target)] = ["/dev/sda1"]
    assert not lab.disk.is_in_use(lab.target)


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOMEM])
def test_a_mount_that_is_refused_leaves_nothing(lab: Lab, number: int) -> None:
    lab.mounts.refuse_mount = number
    failure = lab.disk.create(lab.asked, lab.target, OLD, {})
    assert failure is not None
    assert failure.message.startswith("cannot mount a tmpfs on target_path: ")
    assert lab.nothing_is_left


def test_what_is_left_half_done_is_logged(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    lab.mounts.refuse_unmount = errno.EIO
    assert lab.disk.create(lab.asked, lab.target, {"x" * 300: b""}, {}) is not None
    assert "volume csi-1 is left half done: cannot unmount target_path" in caplog.text
    lab.mounts.refuse_unmount = None
    assert lab.disk.create(lab.asked, lab.target, OLD, {}) is None


def test_removing_from_elsewhere_keeps_the_record(lab: Lab) -> None:
    lab.disk.create(lab.asked, lab.target, OLD, {})
    assert lab.disk.remove("csi-1", lab.target.with_name("other")) is None
    assert lab.disk.record("csi-1") is not None


def test_a_mount_of_others_is_unmounted_and_not_erased(lab: Lab) -> None:
    lab.target.mkdir()
    (lab.target / "theirs").touch()
    lab.mounts.table[str(lab.target)] = ["/dev/sda1"]
    assert lab.disk.is_mounted(lab.target)
    assert not lab.disk.is_ours(lab.target)
    assert lab.disk.remove("csi-1", lab.target) is not None
    assert (lab.target / "theirs").exists()


def test_mounts_on_top_of_each_other_are_all_taken_down(lab: Lab) -> None:
    lab.disk.create(lab.asked, lab.target, OLD, {})
    lab.mounts.table[str(lab.target)] += ["/dev/sda1", MOUNT_SOURCE]
    assert lab.disk.remove("csi-1", lab.target) is None
    assert lab.nothing_is_left


def test_records_of_pods_that_are_gone_are_forgotten(lab: Lab) -> None:
    lab.disk.create(lab.asked, lab.target, OLD, {})
    lab.restart()
    assert len(lab.disk) == 1
    lab.target.parent.rename(lab.folder.with_name("moved"))
    lab.mounts.table.clear()
    lab.restart()
    assert len(lab.disk) == 0


class KilledError(BaseException):
    """Stands for SIGKILL between two steps: no handler of ours sees it."""


def kill_before(step: int, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every change of disk or mounts is a step; the one of that number kills the driver."""
    count = [0]

    def stepping[**P, R](inner: Callable[P, R]) -> Callable[P, R]:
        def outer(*arguments: P.args, **named: P.kwargs) -> R:
            if count[0] == step:
                raise KilledError
            count[0] += 1
            return inner(*arguments, **named)

        return outer

    for name in ("mkdir", "rmdir", "write_text", "write_bytes", "rename", "unlink", "symlink_to"):
        monkeypatch.setattr(Path, name, stepping(getattr(Path, name)))
    for name in ("mount_tmpfs", "unmount"):
        monkeypatch.setattr(lab.mounts, name, stepping(getattr(lab.mounts, name)))


def work(lab: Lab, during: str) -> None:
    match during:
        case "create":
            lab.disk.create(lab.asked, lab.target, NEW, {})
        case "replace":
            lab.disk.replace(lab.asked, lab.target, NEW, {})
        case _:
            lab.disk.remove("csi-1", lab.target)


def killed(lab: Lab, during: str, step: int) -> bool:
    """True if there was such a step."""
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
    step, died = 0, True
    while died:
        lab = Lab(tmp_path / str(step))
        if during != "create":
            lab.disk.create(lab.asked, lab.target, OLD, {})
        died = killed(lab, during, step)
        if during == "replace":
            assert lab.token in ("s3cret", "n3w")
        lab.restart()
        if then == "publish":
            if lab.disk.is_published(lab.target):
                assert isinstance(lab.disk.replace(lab.asked, lab.target, NEW, {}), bool)
            else:
                assert lab.disk.create(lab.asked, lab.target, NEW, {}) is None
            assert {path.name for path in lab.target.iterdir() if not path.name.startswith("..")} == NEW.keys()
            assert lab.token == "n3w"
            assert len(lab.mounts.table[str(lab.target)]) == 1
        assert lab.disk.remove("csi-1", lab.target) is None
        lab.restart()
        assert lab.nothing_is_left
        step += 1
    assert step > 3
