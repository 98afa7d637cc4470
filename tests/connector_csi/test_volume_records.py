"""Records survive a restart, and an incomplete one does no harm."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from connector_csi.volume_records import FORMAT_VERSION, VolumeRecord, VolumeRecords

RECORD = VolumeRecord(volume_id="csi-1", target_path="/t", digest="d", endpoints={"a/b": ("https://h:1", "http://p")})


def test_records_survive_a_restart(tmp_path: Path) -> None:
    VolumeRecords(tmp_path / "v").put(RECORD)
    reloaded = VolumeRecords(tmp_path / "v")
    assert list(reloaded) == [RECORD]
    assert len(reloaded) == 1
    reloaded.delete("csi-1")
    assert reloaded.get("csi-1") is None
    assert list((tmp_path / "v").iterdir()) == []


def test_deleting_a_missing_record_is_not_an_error(tmp_path: Path) -> None:
    VolumeRecords(tmp_path).delete("csi-1")


def test_an_unchanged_record_is_not_written_again(tmp_path: Path) -> None:
    records = VolumeRecords(tmp_path)
    records.put(RECORD)
    [path] = tmp_path.iterdir()
    before = path.stat().st_mtime_ns, path.stat().st_ino
    records.put(RECORD)
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


class KilledError(BaseException):
    """Stands for SIGKILL."""


def test_a_driver_killed_during_a_write_keeps_the_old_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_a_volume_id_does_not_choose_a_path(tmp_path: Path, volume_id: str) -> None:
    records = VolumeRecords(tmp_path)
    records.put(VolumeRecord(volume_id=volume_id, target_path="/t", digest="d"))
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
def test_a_record_of_another_version_has_no_digest(tmp_path: Path, content: dict[str, object]) -> None:
    (tmp_path / "x.json").write_text(json.dumps(content))
    [record] = VolumeRecords(tmp_path)
    assert (record.volume_id, record.target_path) == ("csi-1", "/t")
    assert not record.conflicts_with("d")
    assert not record.conflicts_with("another")


def test_a_record_conflicts_with_another_digest() -> None:
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
def test_an_invalid_record_is_removed(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content, errors="surrogateescape")
    assert list(VolumeRecords(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []
