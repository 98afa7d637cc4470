"""The command line: what is missing is told, the rest follows from kubelet's root."""

from pathlib import Path

import pytest

from connector_csi.options import parse_options


def test_paths_follow_from_kubelets_root() -> None:
    options = parse_options(["--kubelet-root=/k"], {"NODE_NAME": "n"})
    assert options.node_name == "n"
    assert options.pods == Path("/k/pods")
    assert options.endpoint == Path("/k/plugins/connectors-csi/csi.sock")
    assert options.records == Path("/k/plugins/connectors-csi/volumes")
    assert options.registration == Path("/k/plugins_registry/connectors-csi-reg.sock")


def test_a_flag_wins_over_the_environment() -> None:
    assert parse_options(["--node-name=a"], {"NODE_NAME": "b"}).node_name == "a"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "--node-name", id="no name of the node"),
        pytest.param(["--node-name=n", "--kubelet-root=k"], "not an absolute path", id="a relative root"),
        pytest.param(["--node-name=n", "--admin-port=x"], "invalid int", id="no number"),
    ],
)
def test_a_mistake_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(arguments, {})
    assert message in capsys.readouterr().err
