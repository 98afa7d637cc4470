import os
import time
from pathlib import Path

import pytest

from connector_store.folder import snapshot as subject
from connector_store.folder.manifests import describe
from connector_store.folder.snapshot import FolderSnapshot, read_folder

SECRET = "apiVersion: v1\nkind: Secret\nmetadata: {{name: {}}}\n"


def secrets(*names: str) -> str:
    return "---\n".join(SECRET.format(each) for each in names)


def write(path: Path, text: str | bytes, *, age: float = 10) -> None:
    """Write a file that is some seconds old, so that its signature counts."""
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.utime(path, (time.time() - age, time.time() - age))


def read_snapshot(folder: Path, before: FolderSnapshot | None = None) -> FolderSnapshot:
    return read_folder(folder, before or FolderSnapshot(), system_namespace="sys")


def names(snapshot: FolderSnapshot) -> list[str]:
    located = [each for file in snapshot.files.values() for each in file.objects]
    return [describe(each.object).removeprefix("Secret default/") for each in located]


def reasons(snapshot: FolderSnapshot) -> list[str]:
    in_files = [problem for file in snapshot.files.values() for problem in file.problems]
    return [problem.reason for problem in (*snapshot.problems, *in_files)]


def test_manifests_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "c.json", ".hidden.yaml", "d.yaml~", "e.txt"):
        write(tmp_path / name, secrets(name.strip(".").partition(".")[0]))
    (tmp_path / "sub.yaml").mkdir()
    write(tmp_path / "sub.yaml" / "f.yaml", secrets("f"))
    snapshot = read_snapshot(tmp_path)
    assert names(snapshot) == ["a", "b", "c"]
    assert (snapshot.changed, reasons(snapshot)) == (True, [])


def test_an_unchanged_file_is_not_read_again(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", secrets("a"))
    first = read_snapshot(tmp_path)
    second = read_snapshot(tmp_path, first)
    assert second.files["a.yaml"] is first.files["a.yaml"]
    assert not second.changed


def test_a_file_that_was_written_just_now_is_read_again(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", secrets("a"), age=-60)
    first = read_snapshot(tmp_path)
    write(tmp_path / "a.yaml", secrets("b"), age=-60)
    os.utime(tmp_path / "a.yaml", ns=(0, (tmp_path / "a.yaml").stat().st_mtime_ns))
    assert names(read_snapshot(tmp_path, first)) == ["b"]


@pytest.mark.parametrize(
    ("text", "broken", "reason"),
    [
        pytest.param("a: b: c", ["a", "b"], "not YAML", id="no YAML keeps all"),
        pytest.param(b"\xff", ["a", "b"], "UTF-8", id="no UTF-8 keeps all"),
        pytest.param(f"{secrets('a')}---\nkind: Foo\n", ["a", "b"], "is not read here", id="one object is broken"),
        pytest.param(f"{secrets('c')}---\na: b: c", ["c", "a", "b"], "not YAML", id="what is good is taken"),
        pytest.param("", [], None, id="an empty file is no broken one"),
    ],
)
def test_a_broken_file_keeps_the_last_good_state(
    tmp_path: Path, text: str | bytes, broken: list[str], reason: str | None
) -> None:
    write(tmp_path / "a.yaml", secrets("a", "b"))
    first = read_snapshot(tmp_path)
    write(tmp_path / "a.yaml", text, age=5)
    second = read_snapshot(tmp_path, first)
    assert names(second) == broken
    assert (reason is None and not reasons(second)) or (reason or "-") in reasons(second)[0]
    write(tmp_path / "a.yaml", secrets("b"), age=3)
    assert names(read_snapshot(tmp_path, second)) == ["b"]


def test_a_file_that_cannot_be_read_keeps_its_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.yaml", secrets("a"))
    first = read_snapshot(tmp_path)
    (tmp_path / "a.yaml").unlink()
    (tmp_path / "a.yaml").symlink_to("a.yaml")
    second = read_snapshot(tmp_path, first)
    assert names(second) == ["a"]
    assert "cannot be read" in reasons(second)[0]


@pytest.mark.parametrize(
    ("limit", "value", "reason"),
    [
        ("MAX_FILE_BYTES", 10, "larger than 10 bytes; split it"),
        ("MAX_FOLDER_BYTES", 10, "the folder is larger than 10 bytes"),
    ],
)
def test_large_files_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, reason: str
) -> None:
    monkeypatch.setattr(subject, limit, value)
    write(tmp_path / "a.yaml", secrets("a"))
    snapshot = read_snapshot(tmp_path)
    assert names(snapshot) == []
    assert reason in reasons(snapshot)[0]


def test_files_past_the_limit_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MAX_FILES", 1)
    write(tmp_path / "a.yaml", secrets("a"))
    write(tmp_path / "b.yaml", secrets("b"))
    snapshot = read_snapshot(tmp_path)
    assert names(snapshot) == ["a"]
    assert "more than 1 files" in reasons(snapshot)[0]


def test_a_named_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    assert "not a regular file" in reasons(read_snapshot(tmp_path))[0]


def test_a_missing_folder_is_empty_and_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", secrets("a"))
    first = read_snapshot(tmp_path)
    snapshot = read_snapshot(tmp_path / "absent", first)
    assert (names(snapshot), snapshot.changed) == ([], True)
    assert "connectorctl init" in reasons(snapshot)[0]
    assert "connectorctl init" in reasons(read_snapshot(tmp_path / "a.yaml"))[0]


def test_a_folder_that_cannot_be_listed_keeps_its_content(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", secrets("a"))
    first = read_snapshot(tmp_path)
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    snapshot = read_snapshot(loop, first)
    assert names(snapshot) == ["a"]
    assert "cannot be listed" in reasons(snapshot)[0]


def test_a_mounted_config_map_is_read_through_its_links(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / f"..v{version}").mkdir()
        write(tmp_path / f"..v{version}" / "a.yaml", secrets(f"v{version}"))
    (tmp_path / "..data").symlink_to("..v1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    first = read_snapshot(tmp_path)
    assert names(first) == ["v1"]
    (tmp_path / "..data_tmp").symlink_to("..v2")
    (tmp_path / "..data_tmp").rename(tmp_path / "..data")
    assert names(read_snapshot(tmp_path, first)) == ["v2"]


def test_a_dangling_link_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").symlink_to("absent")
    snapshot = read_snapshot(tmp_path)
    assert (names(snapshot), reasons(snapshot)) == ([], [])
