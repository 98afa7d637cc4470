"""The files with the URLs of sessions pages."""

import socket
from pathlib import Path

from connector_store.sessions_file import PREFIX, read_urls, remove_url, write_url

ONE = "http://127.0.0.1:1/#secret"


def test_only_its_owner_can_read_the_file(tmp_path: Path) -> None:
    path = write_url(tmp_path, ONE)
    assert path == tmp_path / f"{PREFIX}1"
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_urls(tmp_path) == [ONE]
    assert [*tmp_path.iterdir()] == [path]


def test_no_file_is_no_url(tmp_path: Path) -> None:
    assert read_urls(tmp_path) == []
    assert read_urls(tmp_path / "absent") == []
    remove_url(tmp_path, ONE)


def test_each_proxy_has_a_file(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        first = f"http://127.0.0.1:{listener.getsockname()[1]}/#first"
        write_url(tmp_path, first)
        write_url(tmp_path, ONE)
        assert sorted(read_urls(tmp_path)) == sorted([first, ONE])
        remove_url(tmp_path, ONE)
        assert read_urls(tmp_path) == [first]
    remove_url(tmp_path, first)
    assert read_urls(tmp_path) == []


def test_the_file_of_a_killed_proxy_goes_when_the_next_one_starts(tmp_path: Path) -> None:
    write_url(tmp_path, ONE)
    (tmp_path / f"{PREFIX}x").write_text("http://[::1/#x")
    write_url(tmp_path, "http://127.0.0.1:2/#two")
    assert read_urls(tmp_path) == ["http://127.0.0.1:2/#two"]


def test_the_file_of_a_later_proxy_at_the_same_port_stays(tmp_path: Path) -> None:
    write_url(tmp_path, ONE)
    write_url(tmp_path, "http://127.0.0.1:1/#later")
    remove_url(tmp_path, ONE)
    assert read_urls(tmp_path) == ["http://127.0.0.1:1/#later"]


def test_a_file_that_cannot_be_read_does_not_hide_others(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}2").mkdir()
    write_url(tmp_path, ONE)
    assert read_urls(tmp_path) == [ONE]
