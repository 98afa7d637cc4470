"""Which source a command asks, and what it demands."""

import click
import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.connector_source import ClusterSource, FolderSource
from connectorctl.invocation import Invocation
from connectorctl.options import CallerOptions, SourceOptions
from connectorctl.source import is_cluster, resolve_source

ACCOUNT = CallerOptions(service_account=ObjectKey("ci", "default"))
NOWHERE = Invocation()
PLUGIN = Invocation(is_plugin=True)
POD = Invocation(in_pod=True)


@pytest.mark.parametrize(
    ("where", "caller", "situation", "expected"),
    [
        pytest.param(SourceOptions(), CallerOptions(), NOWHERE, FolderSource("connectors"), id="a folder by default"),
        pytest.param(
            SourceOptions(source="d"), CallerOptions(), POD, FolderSource("d"), id="a named folder, wherever it runs"
        ),
        pytest.param(SourceOptions(), None, PLUGIN, ClusterSource(), id="the cluster as a kubectl plugin"),
        pytest.param(SourceOptions(), None, POD, ClusterSource(), id="the cluster in a pod"),
        pytest.param(SourceOptions(), ACCOUNT, NOWHERE, ClusterSource(), id="the cluster of an account"),
        pytest.param(SourceOptions(kubeconfig="k"), None, NOWHERE, ClusterSource(), id="the cluster of a kubeconfig"),
        pytest.param(SourceOptions(context="c"), None, NOWHERE, ClusterSource("c"), id="the cluster of a context"),
        pytest.param(
            SourceOptions(source="kubernetes:a"), None, NOWHERE, ClusterSource("a"), id="the context of the source"
        ),
        pytest.param(
            SourceOptions(source="kubernetes:a", context="b"), None, NOWHERE, ClusterSource("b"), id="a flag wins"
        ),
    ],
)
def test_the_source_is(
    where: SourceOptions, caller: CallerOptions | None, situation: Invocation, expected: FolderSource | ClusterSource
) -> None:
    assert resolve_source(where, situation, caller) == expected


@pytest.mark.parametrize(
    ("where", "caller", "message"),
    [
        pytest.param(SourceOptions(source=""), None, "--source: is empty", id="an empty source"),
        pytest.param(
            SourceOptions(source="d", context="c"), None, "--context: is for clusters", id="clusters' with a folder"
        ),
        pytest.param(
            SourceOptions(source="kubernetes"), CallerOptions(), "--service-account: is missing", id="a token of nobody"
        ),
        pytest.param(
            SourceOptions(),
            CallerOptions(service_account=ACCOUNT.service_account, ttl=599),
            "--ttl: is shorter",
            id="too short",
        ),
        pytest.param(SourceOptions(source="d"), CallerOptions(ttl=86401), "--ttl: is longer than 24h", id="too long"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    where: SourceOptions, caller: CallerOptions | None, message: str
) -> None:
    with pytest.raises(click.UsageError, match=message):
        resolve_source(where, NOWHERE, caller)


def test_a_cluster_is_told_from_a_folder() -> None:
    assert is_cluster(SourceOptions(), NOWHERE, ACCOUNT)
    assert not is_cluster(SourceOptions(), NOWHERE, CallerOptions())
