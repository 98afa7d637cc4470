"""The file with the URL of the sessions page."""

from pathlib import Path

from connector_store.sessions_file import FILE, read_url, remove_url, write_url


def test_only_its_owner_can_read_the_file(tmp_path: Path) -> None:
    path = write_url(tmp_path, "http://127.0.0.1:1/#secret")
    assert path == tmp_path / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_url(tmp_path) == "http://127.0.0.1:1/#secret"
    assert [each.name for each in tmp_path.iterdir()] == [FILE]


def test_no_file_is_no_url(tmp_path: Path) -> None:
    assert read_url(tmp_path) is None


def test_the_file_of_another_proxy_stays(tmp_path: Path) -> None:
    write_url(tmp_path, "http://127.0.0.1:1/#one")
    write_url(tmp_path, "http://127.0.0.1:2/#two")
    remove_url(tmp_path, "http://127.0.0.1:1/#one")
    assert read_url(tmp_path) == "http://127.0.0.1:2/#two"
    remove_url(tmp_path, "http://127.0.0.1:2/#two")
    assert read_url(tmp_path) is None
