"""The command line: missing options are reported, and paths follow from kubelet's root."""

from pathlib import Path

import pytest

from connector_csi.options import parse_options


def test_paths_follow_from_kubelets_root() -> None:
    options = parse_options(["--kubelet-root=/k"], {"NODE_NAME": "n"})
    assert options.node_name == "n"
    assert options.pods_folder == Path("/k/pods")
    assert options.endpoint == Path("/k/plugins/connectors-csi/csi.sock")
    assert options.records_folder == Path("/k/plugins/connectors-csi/volumes")
    assert options.registration_socket == Path("/k/plugins_registry/connectors-csi-reg.sock")


def test_a_flag_wins_over_the_environment() -> None:
    assert parse_options(["--node-name=a"], {"NODE_NAME": "b"}).node_name == "a"


@pytest.mark.parametrize("label", ["", "system_u:object_r:container_file_t:s0", "u:r:t_t:s0-s0:c0.c1023,c5"])
def test_the_label_comes_from_the_environment_and_may_be_empty(label: str) -> None:
    assert parse_options([], {"NODE_NAME": "n", "SELINUX_CONTEXT": label}).selinux_context == label


def test_the_admin_address_is_loopback_by_default() -> None:
    assert parse_options([], {"NODE_NAME": "n"}).admin == ("127.0.0.1", 9093)
    assert parse_options(["--admin=[::]:9091"], {"NODE_NAME": "n"}).admin == ("::", 9091)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param([], "--node-name", id="no name of the node"),
        pytest.param(["--node-name=n", "--kubelet-root=k"], "not an absolute path", id="a relative root"),
        pytest.param(["--node-name=n", "--admin=x"], "is not HOST:PORT", id="no address"),
        pytest.param(["--node-name=n", '--selinux-context=a:b:c:s0",x'], "USER:ROLE:TYPE", id="a quote in a label"),
        pytest.param(["--node-name=n", "--selinux-context=container_file_t"], "USER:ROLE:TYPE", id="a type alone"),
    ],
)
def test_a_wrong_option_is_reported(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_options(arguments, {})
    assert message in capsys.readouterr().err
