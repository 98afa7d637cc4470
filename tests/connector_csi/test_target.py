"""Targets: only kubelet's own plain paths."""

from pathlib import Path

import pytest
from grpc import StatusCode

from connector_csi.failure import Failure
from connector_csi.target import check_target


@pytest.fixture
def pods(tmp_path: Path) -> Path:
    (tmp_path / "pods" / "uid" / "v").mkdir(parents=True)
    (tmp_path / "pods" / "uid" / "file").touch()
    (tmp_path / "pods" / "uid" / "link").symlink_to(tmp_path)
    (tmp_path / "pods" / "loop").symlink_to(tmp_path / "pods" / "loop")
    return tmp_path / "pods"


@pytest.mark.parametrize("name", ["uid/v/mount", "uid/v", "not/there/yet"])
def test_a_folder_or_nothing_is_a_target(pods: Path, name: str) -> None:
    assert check_target(f"{pods}/{name}", pods) == pods / name


def test_a_root_that_is_a_link_is_named_as_the_kernel_names_it(pods: Path) -> None:
    (pods.parent / "alias").symlink_to(pods)
    assert check_target(f"{pods.parent}/alias/uid/v", pods.parent / "alias") == pods / "uid" / "v"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("relative", "below", id="relative"),
        pytest.param("/etc", "below", id="elsewhere"),
        pytest.param("{pods}", "below", id="the root itself"),
        pytest.param("{pods}/../etc", "below", id="dots"),
        pytest.param("{pods}//uid", "below", id="two slashes"),
        pytest.param("{pods}/a\0b", "below", id="a zero byte"),
        pytest.param("{pods}/uid/link", "is a symbolic link", id="a link"),
        pytest.param("{pods}/uid/link/etc", "through a symbolic link", id="below a link"),
        pytest.param("{pods}/uid/file", "is not a folder", id="a file"),
    ],
)
def test_anything_else_is_not(pods: Path, path: str, message: str) -> None:
    failure = check_target(path.format(pods=pods), pods)
    assert isinstance(failure, Failure)
    assert failure.code is StatusCode.INVALID_ARGUMENT
    assert message in failure.message


@pytest.mark.parametrize("name", ["loop/x/y", "a" * 300])
def test_what_cannot_be_looked_at_is_refused(pods: Path, name: str) -> None:
    assert isinstance(check_target(f"{pods}/{name}", pods), Failure)
