"""Records survive the process, and half of one does no harm."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from connector_csi.volume_records import FORMAT_VERSION, VolumeRecord, VolumeRecords

RECORD = VolumeRecord(volume_id="csi-1", target="/t", digest="d", kept={"a/b": ("https://h:1", "http://p")})


def test_they_are_there_after_a_restart(tmp_path: Path) -> None:
    VolumeRecords(tmp_path / "v").put(RECORD)
    again = VolumeRecords(tmp_path / "v")
    assert list(again) == [RECORD]
    assert len(again) == 1
    again.delete("csi-1")
    assert again.get("csi-1") is None
    assert list((tmp_path / "v").iterdir()) == []


def test_dropping_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    VolumeRecords(tmp_path).delete("csi-1")


def test_the_same_again_writes_nothing(tmp_path: Path) -> None:
    records = VolumeRecords(tmp_path)
    records.put(RECORD)
    [path] = tmp_path.iterdir()
    written = path.stat().st_mtime_ns, path.stat().st_ino
    records.put(RECORD)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == written


class KilledError(BaseException):
    """Stands for SIGKILL."""


def test_a_driver_that_is_killed_while_it_writes_keeps_the_record_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = VolumeRecords(tmp_path)
    records.put(RECORD)
    write = Path.write_text

    def write_half(path: Path, text: str) -> None:
        write(path, text[: len(text) // 2])
        raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", write_half)
        with pytest.raises(KilledError):
            records.put(replace(RECORD, digest="another"))
    assert list(VolumeRecords(tmp_path)) == [RECORD]


@pytest.mark.parametrize("volume_id", ["../../etc/passwd", "a/b", "x" * 5000, "\u0000"])
def test_an_id_chooses_no_path(tmp_path: Path, volume_id: str) -> None:
    records = VolumeRecords(tmp_path)
    records.put(VolumeRecord(volume_id=volume_id, target="/t", digest="d"))
    assert VolumeRecords(tmp_path).get(volume_id) is not None
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"volume_id": "csi-1", "target": "/t", "digest": "d"}, id="before it had one"),
        pytest.param(
            {"version": FORMAT_VERSION + 1, "volume_id": "csi-1", "target": "/t", "more": {}}, id="a later one"
        ),
    ],
)
def test_a_record_of_another_version_keeps_its_volume_and_knows_no_digest(
    tmp_path: Path, content: dict[str, object]
) -> None:
    (tmp_path / "x.json").write_text(json.dumps(content))
    [record] = VolumeRecords(tmp_path)
    assert (record.volume_id, record.target) == ("csi-1", "/t")
    assert not record.conflicts_with("d")
    assert not record.conflicts_with("another")


def test_a_record_of_this_version_tells_what_differs() -> None:
    assert not RECORD.conflicts_with("d")
    assert RECORD.conflicts_with("another")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"volume_id": "x"}',
        '{"volume_id": 1, "target": "/t"}',
        '{"volume_id": "x", "target": "/t", "version": 2, "digest": "d", "kept": []}',
        '{"volume_id": "x", "target": "/t", "version": 2, "digest": "d", "kept": {"a": 5}}',
        "\udcff",
    ],
)
def test_what_is_no_record_is_removed(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content, errors="surrogateescape")
    assert list(VolumeRecords(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []
