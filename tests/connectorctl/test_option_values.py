"""Values of options: which Connectors a command shows, and the options of a cluster for the next command."""

import pytest

from connector_store.domain.base.names import ObjectKey
from connectorctl.option_values import Selection, SourceOptions

PROD = ObjectKey("team-a", "prod")


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        pytest.param(Selection(), ["team-a/prod", "team-a/test", "team-ab/prod", ""], id="all"),
        pytest.param(Selection(namespace="team-a"), ["team-a/prod", "team-a/test"], id="a namespace"),
        pytest.param(Selection(key=PROD), ["team-a/prod"], id="a Connector"),
        pytest.param(Selection(namespace="team-b", key=PROD), [], id="a Connector of another namespace"),
    ],
)
def test_a_selection_is_a_namespace_or_a_connector(selection: Selection, expected: list[str]) -> None:
    assert [each for each in ("team-a/prod", "team-a/test", "team-ab/prod", "") if selection.includes(each)] == expected


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        pytest.param(SourceOptions(), (), id="none"),
        pytest.param(
            SourceOptions(source="kubernetes", kubeconfig="a b", context="c"),
            ("--source", "kubernetes", "--kubeconfig", "a b", "--context", "c"),
            id="all",
        ),
    ],
)
def test_the_next_command_uses_the_same_cluster(options: SourceOptions, arguments: tuple[str, ...]) -> None:
    assert options.cluster_arguments() == arguments
