"""Which source a command asks, and what it demands."""

from typing import Any

import pytest

from connector_store.domain.errors import ParseError
from connector_store.domain.names import ObjectKey
from connector_store.domain.source import Cluster, Folder
from connectorctl.arguments import Arguments
from connectorctl.origin import choose_origin

ACCOUNT = ObjectKey("ci", "default")


def arguments(command: str = "token", **values: Any) -> Arguments:
    return Arguments(command=command, **values)


@pytest.mark.parametrize(
    ("asked", "plugin", "in_pod", "expected"),
    [
        pytest.param(arguments(), False, False, Folder("connectors"), id="a folder by default"),
        pytest.param(arguments(source="d"), True, True, Folder("d"), id="a named folder, wherever it runs"),
        pytest.param(arguments("status"), True, False, Cluster(), id="the cluster as a kubectl plugin"),
        pytest.param(arguments("status"), False, True, Cluster(), id="the cluster in a pod"),
        pytest.param(arguments(service_account=ACCOUNT), False, False, Cluster(), id="the cluster of an account"),
        pytest.param(arguments("status", kubeconfig="k"), False, False, Cluster(), id="the cluster of a kubeconfig"),
        pytest.param(arguments("status", context="c"), False, False, Cluster("c"), id="the cluster of a context"),
        pytest.param(
            arguments("status", source="kubernetes:a"), False, False, Cluster("a"), id="the context of the source"
        ),
        pytest.param(
            arguments("status", source="kubernetes:a", context="b"), False, False, Cluster("b"), id="a flag wins"
        ),
    ],
)
def test_the_source_is(asked: Arguments, plugin: bool, in_pod: bool, expected: Folder | Cluster) -> None:
    assert choose_origin(asked, plugin=plugin, in_pod=in_pod) == expected


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        pytest.param(arguments(source=""), "--source", id="an empty source"),
        pytest.param(arguments(source="d", context="c"), "--context", id="a flag for clusters with a folder"),
        pytest.param(arguments(source="kubernetes"), "--service-account", id="a cluster's token is an account's"),
        pytest.param(arguments(service_account=ACCOUNT, ttl=599), "--ttl", id="a cluster's token lives ten minutes"),
    ],
)
def test_what_does_not_fit_together_is_refused(asked: Arguments, path: str) -> None:
    with pytest.raises(ParseError) as refused:
        choose_origin(asked, plugin=False, in_pod=False)
    assert refused.value.path == path
