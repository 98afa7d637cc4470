"""Target paths: only kubelet's own canonical paths are accepted."""

from pathlib import Path

import pytest
from grpc import StatusCode

from connector_csi.failure import Failure
from connector_csi.target_path import check_target_path

CSI = "volumes/kubernetes.io~csi"
NOT_ONE = "is not that of a CSI volume"


@pytest.fixture
def pods(tmp_path: Path) -> Path:
    volumes = tmp_path / "pods" / "uid" / CSI
    (volumes / "v" / "mount").mkdir(parents=True)
    (volumes / "v" / "file").touch()
    (volumes / "v" / "link").symlink_to(tmp_path)
    (volumes / "link").symlink_to(tmp_path)
    (tmp_path / "pods" / "loop").symlink_to(tmp_path / "pods" / "loop")
    return tmp_path / "pods"


@pytest.mark.parametrize("name", [f"uid/{CSI}/v/mount", f"uid/{CSI}/v/not-yet", f"another/{CSI}/w/mount"])
def test_a_folder_or_a_missing_path_is_accepted(pods: Path, name: str) -> None:
    assert check_target_path(f"{pods}/{name}", pods) == pods / name


def test_a_linked_root_is_resolved(pods: Path) -> None:
    (pods.parent / "alias").symlink_to(pods)
    target = check_target_path(f"{pods.parent}/alias/uid/{CSI}/v/mount", pods.parent / "alias")
    assert target == pods / "uid" / CSI / "v" / "mount"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        pytest.param("relative", NOT_ONE, id="relative"),
        pytest.param("/etc", NOT_ONE, id="elsewhere"),
        pytest.param("{pods}", NOT_ONE, id="the root itself"),
        pytest.param("{pods}/../uid/{csi}/v/mount", NOT_ONE, id="dots"),
        pytest.param("{pods}//uid/{csi}/v/mount", NOT_ONE, id="two slashes"),
        pytest.param("{pods}/uid/{csi}/v/a\0b", NOT_ONE, id="a zero byte"),
        pytest.param("{pods}/uid/{csi}/v", NOT_ONE, id="a volume's folder with kubelet's own files"),
        pytest.param("{pods}/uid/{csi}/v/mount/x", NOT_ONE, id="in a volume"),
        pytest.param("{pods}/uid/volumes/kubernetes.io~secret/v/mount", NOT_ONE, id="another plugin's volume"),
        pytest.param("{pods}/uid/containers/a/b/c", NOT_ONE, id="kubelet's files of containers"),
        pytest.param("{pods}/uid/{csi}/v/link", "is a symbolic link", id="a link"),
        pytest.param("{pods}/uid/{csi}/link/etc", "through a symbolic link", id="below a link"),
        pytest.param("{pods}/uid/{csi}/v/file", "is not a folder", id="a file"),
    ],
)
def test_other_paths_are_refused(pods: Path, path: str, message: str) -> None:
    failure = check_target_path(path.format(pods=pods, csi=CSI), pods)
    assert isinstance(failure, Failure)
    assert failure.code is StatusCode.INVALID_ARGUMENT
    assert message in failure.message


@pytest.mark.parametrize("name", [f"loop/{CSI}/v/mount", f"{'a' * 300}/{CSI}/v/mount"])
def test_a_path_that_cannot_be_read_is_refused(pods: Path, name: str) -> None:
    assert isinstance(check_target_path(f"{pods}/{name}", pods), Failure)
