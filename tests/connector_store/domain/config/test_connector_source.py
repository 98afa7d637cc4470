"""Source of Connectors."""

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.connector_source import ClusterSource, FolderSource, parse_source


@pytest.mark.parametrize(
    ("text", "in_pod", "expected"),
    [
        pytest.param("auto", False, FolderSource("connectors"), id="on a machine auto is the folder connectors"),
        pytest.param("auto", True, ClusterSource(), id="in a pod auto is its own cluster"),
        pytest.param("kubernetes", False, ClusterSource(), id="kubernetes is the current context"),
        pytest.param("kubernetes:prod", False, ClusterSource("prod"), id="a context is named after a colon"),
        pytest.param("kubernetes:a:b", False, ClusterSource("a:b"), id="a context may hold colons"),
        pytest.param(
            "./kubernetes", True, FolderSource("./kubernetes"), id="a folder of that name is written as a path"
        ),
        pytest.param("/etc/connectors", True, FolderSource("/etc/connectors"), id="a folder serves in a pod too"),
        pytest.param("c:d", False, FolderSource("c:d"), id="a folder may hold colons"),
    ],
)
def test_a_source_is_parsed(text: str, in_pod: bool, expected: FolderSource | ClusterSource) -> None:
    assert parse_source(text, in_pod=in_pod) == expected


@pytest.mark.parametrize("text", ["", "kubernetes:"])
def test_an_empty_source_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="write"):
        parse_source(text, in_pod=False)
