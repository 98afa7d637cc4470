"""Which source a command asks, and what it demands."""

import click
import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.source import ClusterSource, FolderSource
from connectorctl.options import Caller, Where
from connectorctl.origin import choose_origin, is_cluster
from connectorctl.situation import Situation

ACCOUNT = Caller(service_account=ObjectKey("ci", "default"))
NOWHERE = Situation()
PLUGIN = Situation(plugin=True)
POD = Situation(in_pod=True)


@pytest.mark.parametrize(
    ("where", "caller", "situation", "expected"),
    [
        pytest.param(Where(), Caller(), NOWHERE, FolderSource("connectors"), id="a folder by default"),
        pytest.param(Where(source="d"), Caller(), POD, FolderSource("d"), id="a named folder, wherever it runs"),
        pytest.param(Where(), None, PLUGIN, ClusterSource(), id="the cluster as a kubectl plugin"),
        pytest.param(Where(), None, POD, ClusterSource(), id="the cluster in a pod"),
        pytest.param(Where(), ACCOUNT, NOWHERE, ClusterSource(), id="the cluster of an account"),
        pytest.param(Where(kubeconfig="k"), None, NOWHERE, ClusterSource(), id="the cluster of a kubeconfig"),
        pytest.param(Where(context="c"), None, NOWHERE, ClusterSource("c"), id="the cluster of a context"),
        pytest.param(Where(source="kubernetes:a"), None, NOWHERE, ClusterSource("a"), id="the context of the source"),
        pytest.param(Where(source="kubernetes:a", context="b"), None, NOWHERE, ClusterSource("b"), id="a flag wins"),
    ],
)
def test_the_source_is(
    where: Where, caller: Caller | None, situation: Situation, expected: FolderSource | ClusterSource
) -> None:
    assert choose_origin(where, situation, caller) == expected


@pytest.mark.parametrize(
    ("where", "caller", "message"),
    [
        pytest.param(Where(source=""), None, "--source: is empty", id="an empty source"),
        pytest.param(Where(source="d", context="c"), None, "--context: is for clusters", id="clusters' with a folder"),
        pytest.param(Where(source="kubernetes"), Caller(), "--service-account: is missing", id="a token of nobody"),
        pytest.param(
            Where(), Caller(service_account=ACCOUNT.service_account, ttl=599), "--ttl: is shorter", id="too short"
        ),
        pytest.param(Where(source="d"), Caller(ttl=86401), "--ttl: is longer than 24h", id="too long"),
    ],
)
def test_what_does_not_fit_together_is_refused(where: Where, caller: Caller | None, message: str) -> None:
    with pytest.raises(click.UsageError, match=message):
        choose_origin(where, NOWHERE, caller)


def test_a_cluster_is_told_from_a_folder() -> None:
    assert is_cluster(Where(), NOWHERE, ACCOUNT)
    assert not is_cluster(Where(), NOWHERE, Caller())
