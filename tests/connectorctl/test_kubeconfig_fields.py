"""Reads of a kubeconfig and its files."""

from pathlib import Path

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connectorctl import kubeconfig_fields
from connectorctl.kubeconfig_fields import find_entry, load_kubeconfig, read_data, read_file


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("a: [", "is not a kubeconfig: it is not YAML", id="not YAML"),
        pytest.param("- a", "is not an object", id="a list"),
        pytest.param("x" * 200, "is longer than 100 bytes", id="too long"),
    ],
)
def test_another_file_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    monkeypatch.setattr(kubeconfig_fields, "MAX_FILE_SIZE", 100)
    (tmp_path / "f").write_text(text)
    with pytest.raises(ParseError, match=message):
        load_kubeconfig(tmp_path / "f")


def test_an_entry_is_found_by_its_name() -> None:
    config = Fields({"users": [{"name": "a", "user": {"token": "x"}}, {"name": "b"}]}, "")
    assert find_entry(config, "users", "a", "user").text("token") == "x"
    with pytest.raises(ParseError, match='users: user "c" does not exist; the kubeconfig has: a, b'):
        find_entry(config, "users", "c", "user")


def test_data_comes_before_a_file_of_the_kubeconfigs_folder(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"file")
    both = Fields({"ca-data": "ZGF0YQ==", "ca": "ca.crt"}, "cluster")
    assert read_data(both, "ca", tmp_path) == b"data"
    assert read_data(Fields({"ca": "ca.crt"}, "cluster"), "ca", tmp_path) == b"file"
    assert read_data(Fields({}, "cluster"), "ca", tmp_path) is None
    with pytest.raises(ParseError, match=r"cluster\.ca-data: is not base64"):
        read_data(Fields({"ca-data": "?"}, "cluster"), "ca", tmp_path)


def test_a_file_is_read_up_to_the_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kubeconfig_fields, "MAX_FILE_SIZE", 2)
    (tmp_path / "f").write_bytes(b"abcdef")
    assert read_file("x", tmp_path / "f") == b"abc"
    with pytest.raises(ParseError, match=r"x: .*gone: No such file"):
        read_file("x", tmp_path / "gone")
