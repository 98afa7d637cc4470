"""Readers see the old files or the new ones, even if the writer is killed between two steps."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector_csi.atomic_writer import DATA, Owner, erase, is_written, write

ALL = Owner(gid=None)
OLD = {"a": b"1", "b": b"1"}
NEW = {"b": b"2", "c": b"2"}


def visible(volume: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in volume.iterdir() if not path.name.startswith("..")}


def test_files_are_created_changed_and_removed(tmp_path: Path) -> None:
    assert not is_written(tmp_path)
    assert write(tmp_path, OLD, ALL)
    assert is_written(tmp_path)
    assert visible(tmp_path) == OLD
    assert write(tmp_path, NEW, ALL)
    assert visible(tmp_path) == NEW
    assert len([path for path in tmp_path.iterdir() if path.is_dir() and not path.is_symlink()]) == 1


def test_the_same_content_is_not_written_again(tmp_path: Path) -> None:
    write(tmp_path, OLD, ALL)
    data = (tmp_path / DATA).readlink()
    assert not write(tmp_path, OLD, ALL)
    assert (tmp_path / DATA).readlink() == data


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        volume = tmp_path / "v"
        volume.mkdir()
        write(volume, OLD, ALL)
        write(volume, NEW, Owner(gid=os.getgid()))
    finally:
        os.umask(before)
    assert (volume / "b").stat().st_mode & 0o777 == 0o440
    assert (volume / DATA / ".").stat().st_mode & 0o777 == 0o750
    assert (volume / "b").stat().st_gid == os.getgid()


def test_another_owner_is_a_change(tmp_path: Path) -> None:
    write(tmp_path, OLD, ALL)
    assert write(tmp_path, OLD, Owner(gid=os.getgid()))


def test_a_removed_link_is_created_again(tmp_path: Path) -> None:
    write(tmp_path, OLD, ALL)
    (tmp_path / "a").unlink()
    assert write(tmp_path, OLD, ALL)
    assert visible(tmp_path) == OLD


@pytest.mark.parametrize(
    ("name", "is_folder"),
    [
        pytest.param("..mine", False, id="a file with our prefix"),
        pytest.param("..mine", True, id="a folder with our prefix"),
        pytest.param("mine", True, id="a folder"),
        pytest.param("b", False, id="a file in place of a link, as sed -i leaves it"),
        pytest.param("b", True, id="a folder in place of a link"),
    ],
)
@pytest.mark.parametrize("files", [OLD, NEW], ids=["nothing new", "a new content"])
def test_foreign_files_do_not_block_a_write(
    tmp_path: Path, name: str, is_folder: bool, files: dict[str, bytes]
) -> None:
    write(tmp_path, OLD, ALL)
    path = tmp_path / name
    path.unlink(missing_ok=True)
    if is_folder:
        (path / "sub").mkdir(parents=True)
    else:
        path.touch()
    write(tmp_path, files, ALL)
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith("..")} == files.keys()
    assert visible(tmp_path) == files
    assert len(list(tmp_path.glob("..*"))) == 2


class KilledError(BaseException):
    """Stands for SIGKILL: no handler catches it."""


class FailingPath(type(Path())):  # type: ignore[misc]  # the concrete class is chosen at run time
    """A path whose n-th change of the file system raises KilledError."""

    left = 0

    def _step(self) -> None:
        if type(self).left == 0:
            raise KilledError
        type(self).left -= 1

    def write_bytes(self, data: bytes) -> int:
        self._step()
        return int(super().write_bytes(data))

    def symlink_to(self, target: str, target_is_directory: bool = False) -> None:
        self._step()
        super().symlink_to(target)

    def rename(self, target: Path) -> Path:
        self._step()
        return Path(super().rename(target))

    def unlink(self, missing_ok: bool = False) -> None:
        self._step()
        super().unlink(missing_ok)


def killed_after(steps: int, volume: Path, files: dict[str, bytes]) -> bool:
    FailingPath.left = steps
    try:
        write(FailingPath(volume), files, ALL)
    except KilledError:
        return True
    return False


def test_a_writer_killed_between_any_two_steps_leaves_the_old_or_the_new_content(tmp_path: Path) -> None:
    steps, is_killed = 0, True
    while is_killed:
        volume = tmp_path / str(steps)
        volume.mkdir()
        write(volume, OLD, ALL)
        is_killed = killed_after(steps, volume, NEW)
        contents = {name: (volume / name).read_bytes() for name in ("a", "b", "c") if (volume / name).exists()}
        assert contents in (OLD, NEW)
        assert write(volume, NEW, ALL) == (contents == OLD)
        assert visible(volume) == NEW
        assert len(list(volume.glob("..*"))) == 2
        steps += 1
    assert steps > 5


def test_a_writer_continues_after_a_killed_first_writer(tmp_path: Path) -> None:
    steps, is_killed = 0, True
    while is_killed:
        volume = tmp_path / str(steps)
        volume.mkdir()
        is_killed = killed_after(steps, volume, OLD)
        write(volume, OLD, ALL)
        assert visible(volume) == OLD
        steps += 1


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    write(tmp_path, OLD, ALL)
    with pytest.raises(OSError, match="name"):
        write(tmp_path, {**NEW, "x" * 300: b""}, ALL)
    assert visible(tmp_path) == OLD
    assert len(list(tmp_path.glob("..*"))) == 2


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[list[str]]:
    """Mixed contents that a program saw while it read two files through one folder of the volume."""
    write(tmp_path, {"a": b"0", "b": b"0"}, ALL)
    mixtures: list[str] = []
    stop = threading.Event()

    def read_repeatedly() -> None:
        while not stop.is_set():
            folder = tmp_path / (tmp_path / DATA).readlink()
            try:
                a, b = ((folder / name).read_bytes() for name in "ab")
            except FileNotFoundError:
                continue
            if a != b:
                mixtures.append(f"{a!r} {b!r}")

    thread = threading.Thread(target=read_repeatedly)
    thread.start()
    yield mixtures
    stop.set()
    thread.join()


def test_a_reader_never_sees_a_mixture(tmp_path: Path, reader: list[str]) -> None:
    for number in range(200):
        write(tmp_path, {"a": str(number).encode(), "b": str(number).encode()}, ALL)
    assert reader == []


NAMES = st.text(st.sampled_from("abc.-_"), min_size=1, max_size=4).filter(lambda name: not name.startswith(".."))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(NAMES.filter(lambda name: name != "."), st.binary(max_size=3)), max_size=4))
def test_every_sequence_of_contents_ends_with_the_last(
    tmp_path_factory: pytest.TempPathFactory, contents: list[dict[str, bytes]]
) -> None:
    volume = tmp_path_factory.mktemp("v")
    for each in contents:
        write(volume, each, ALL)
        assert visible(volume) == each


def test_erase_leaves_an_empty_folder(tmp_path: Path) -> None:
    write(tmp_path, OLD, ALL)
    (tmp_path / "file").touch()
    erase(tmp_path)
    assert list(tmp_path.iterdir()) == []
