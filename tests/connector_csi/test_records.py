"""Records survive the process, and half of one does no harm."""

from pathlib import Path

import pytest

from connector_csi.records import Record, Records

RECORD = Record(volume_id="csi-1", target="/t", digest="d")


def test_they_are_there_after_a_restart(tmp_path: Path) -> None:
    Records(tmp_path / "v").put(RECORD)
    again = Records(tmp_path / "v")
    assert list(again) == [RECORD]
    assert len(again) == 1
    again.drop("csi-1")
    assert again.get("csi-1") is None
    assert list((tmp_path / "v").iterdir()) == []


def test_dropping_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    Records(tmp_path).drop("csi-1")


def test_the_same_again_writes_nothing(tmp_path: Path) -> None:
    records = Records(tmp_path)
    records.put(RECORD)
    [path] = tmp_path.iterdir()
    written = path.stat().st_mtime_ns, path.stat().st_ino
    records.put(RECORD)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == written


@pytest.mark.parametrize("volume_id", ["../../etc/passwd", "a/b", "x" * 5000, "\u0000"])
def test_an_id_chooses_no_path(tmp_path: Path, volume_id: str) -> None:
    records = Records(tmp_path)
    records.put(Record(volume_id=volume_id, target="/t", digest="d"))
    assert Records(tmp_path).get(volume_id) is not None
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"volume_id": "x"}', "\udcff"])
def test_what_is_no_record_is_removed(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content, errors="surrogateescape")
    assert list(Records(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []
