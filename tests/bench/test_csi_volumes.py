"""The requests of bench.csi_volumes."""

from pathlib import Path

from bench.csi_volumes import make_publish_request
from connector_csi.target_path import check_target_path


def test_the_driver_accepts_the_target_path_of_the_requests(tmp_path: Path) -> None:
    path = make_publish_request(tmp_path, 7, "").target_path
    assert check_target_path(path, tmp_path / "pods") == Path(path)
