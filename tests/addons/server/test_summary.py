"""One line says what is served, and how to go on."""

from pathlib import Path

import pytest

from addons.server.summary import format_summary
from connector_store.domain.config.connector_source import ClusterSource, FolderSource
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.manifest_secret import parse_secret
from connector_store.store import Store
from lab.certificates import make_ca
from tests.fakes.manifests import connector, secret

CONFDIR = Path.home() / ".mitmproxy"
LOCAL = [("127.0.0.1", 8080)]


def store(*names: str) -> Store:
    """Only `good` has its Secret."""
    result = Store()
    raw = [connector(name, "https://10.0.0.1", secret="secret" if name == "good" else "missing") for name in names]
    result.replace(
        "test", [parse_secret(secret(ca=make_ca("a").pem), system_namespace="s"), *map(parse_connector, raw)]
    )
    return result


@pytest.mark.parametrize(
    ("names", "says", "name"),
    [
        pytest.param([], "serving 0 Connectors of folder my; no problems; ", "NAMESPACE/NAME", id="an empty folder"),
        pytest.param(["good"], "serving 1 Connector of folder my; no problems; ", "team-a/good", id="one"),
        pytest.param(
            ["bad", "good"],
            "serving 1 Connector of folder my; 1 problem to fix (connectorctl check my); ",
            "team-a/good",
            id="bad",
        ),
    ],
)
def test_the_summary_of_a_folder(names: list[str], says: str, name: str) -> None:
    assert format_summary(FolderSource("my"), store(*names), LOCAL, confdir=CONFDIR) == (
        says + f"listening at http://127.0.0.1:8080; for a kubeconfig: connectorctl kubeconfig {name} "
        "--source my; targets may be anywhere that targets-deny does not name"
    )


@pytest.mark.parametrize(
    ("source", "place", "option"),
    [
        (ClusterSource(), "the cluster; ", "kubernetes"),
        (ClusterSource("prod"), "the cluster of context prod; ", "kubernetes:prod"),
    ],
)
def test_the_summary_of_a_cluster(source: ClusterSource, place: str, option: str) -> None:
    line = format_summary(source, store("bad"), [("::", 8080), ("0.0.0.0", 8080)], confdir=CONFDIR)  # noqa: S104 - nothing is bound
    assert line == (
        f"serving 0 Connectors of {place}1 problem to fix (kubectl get connectors --all-namespaces); "
        "listening at http://*:8080; for a kubeconfig: connectorctl kubeconfig NAMESPACE/NAME "
        f"--source {option} --service-account NAMESPACE/NAME"
    )


def test_addresses_of_ipv6_stand_in_brackets() -> None:
    assert "listening at http://[::1]:8080, http://127.0.0.1:8080; " in format_summary(
        FolderSource("my"), store(), [("::1", 8080), ("127.0.0.1", 8080)], confdir=CONFDIR
    )
    assert "listening at no port" in format_summary(FolderSource("my"), store(), [], confdir=CONFDIR)


def test_the_commands_name_a_confdir_and_a_port_that_are_not_the_defaults() -> None:
    line = format_summary(FolderSource("my"), store(), [("0.0.0.0", 18099)], confdir=Path("/my conf"))  # noqa: S104 - nothing is bound
    assert (
        "connectorctl kubeconfig NAMESPACE/NAME --source my --confdir '/my conf' --proxy http://127.0.0.1:18099" in line
    )


def test_a_placeholder_is_to_be_fixed() -> None:
    result = store("good")
    raw = secret(token="REPLACE-WITH-A-TOKEN", ca=make_ca("a").pem)
    result.replace(
        "test",
        [
            parse_secret(raw, system_namespace="s"),
            parse_connector(connector("good", "https://10.0.0.1", secret="secret")),
        ],
    )
    line = format_summary(FolderSource("my"), result, LOCAL, confdir=CONFDIR)
    assert line.startswith("serving 0 Connectors of folder my; 1 problem to fix (connectorctl check my); ")
