"""Choice of the source, and checks of its options."""

import click
import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.connector_source import ClusterSource, FolderSource
from connectorctl.invocation import Invocation
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.source import is_cluster, resolve_source

ACCOUNT = CallerOptions(service_account=ObjectKey("ci", "default"))
PLAIN = Invocation()
PLUGIN = Invocation(is_plugin=True)
POD = Invocation(in_pod=True)


@pytest.mark.parametrize(
    ("source_options", "caller_options", "invocation", "expected"),
    [
        pytest.param(SourceOptions(), CallerOptions(), PLAIN, FolderSource("connectors"), id="a folder by default"),
        pytest.param(
            SourceOptions(source="d"), CallerOptions(), POD, FolderSource("d"), id="a named folder, wherever it runs"
        ),
        pytest.param(SourceOptions(), None, PLUGIN, ClusterSource(), id="the cluster as a kubectl plugin"),
        pytest.param(SourceOptions(), None, POD, ClusterSource(), id="the cluster in a pod"),
        pytest.param(SourceOptions(), ACCOUNT, PLAIN, ClusterSource(), id="the cluster of an account"),
        pytest.param(SourceOptions(kubeconfig="k"), None, PLAIN, ClusterSource(), id="the cluster of a kubeconfig"),
        pytest.param(SourceOptions(context="c"), None, PLAIN, ClusterSource("c"), id="the cluster of a context"),
        pytest.param(
            SourceOptions(source="kubernetes:a"), None, PLAIN, ClusterSource("a"), id="the context of the source"
        ),
        pytest.param(
            SourceOptions(source="kubernetes:a", context="b"), None, PLAIN, ClusterSource("b"), id="a flag wins"
        ),
    ],
)
def test_the_options_select_the_source(
    source_options: SourceOptions,
    caller_options: CallerOptions | None,
    invocation: Invocation,
    expected: FolderSource | ClusterSource,
) -> None:
    assert resolve_source(source_options, invocation, caller_options) == expected


@pytest.mark.parametrize(
    ("source_options", "caller_options", "message"),
    [
        pytest.param(SourceOptions(source=""), None, "--source: is empty", id="an empty source"),
        pytest.param(
            SourceOptions(source="d", context="c"),
            None,
            "--context: is for clusters",
            id="an option for clusters with a folder",
        ),
        pytest.param(
            SourceOptions(source="kubernetes"),
            CallerOptions(),
            "--service-account: is missing",
            id="a token without an account",
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
def test_contradicting_options_are_refused(
    source_options: SourceOptions, caller_options: CallerOptions | None, message: str
) -> None:
    with pytest.raises(click.UsageError, match=message):
        resolve_source(source_options, PLAIN, caller_options)


def test_a_cluster_is_distinguished_from_a_folder() -> None:
    assert is_cluster(SourceOptions(), PLAIN, ACCOUNT)
    assert not is_cluster(SourceOptions(), PLAIN, CallerOptions())
