import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.metadata import parse_metadata
from connector_store.domain.base.names import ObjectKey


def test_all_fields_are_parsed() -> None:
    metadata = parse_metadata(
        {
            "metadata": {
                "name": "k8s.a", "namespace": "team-a", "uid": "u", "generation": 3, "resourceVersion": "7",
                "annotations": {"a": "b"}, "labels": {"c": "d"},
            }
        },
        namespaced=True,
    )  # fmt: skip
    assert (metadata.key, metadata.uid, metadata.generation, metadata.resource_version) == (
        ("team-a", "k8s.a"),
        "u",
        3,
        "7",
    )
    assert (metadata.annotation("a"), metadata.label("c"), metadata.label("a")) == ("b", "d", None)


def test_the_default_namespace_is_used_without_a_namespace() -> None:
    raw = {"metadata": {"name": "n"}}
    assert parse_metadata(raw, namespaced=True, default_namespace="default").key == ObjectKey("default", "n")


def test_cluster_scoped_objects_have_no_namespace() -> None:
    assert parse_metadata({"metadata": {"name": "n", "namespace": "x"}}, namespaced=False).key == ObjectKey("", "n")


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        pytest.param({}, "metadata.name", id="no metadata"),
        pytest.param({"metadata": []}, "metadata", id="metadata of another type"),
        pytest.param({"metadata": {"namespace": "a"}}, "metadata.name", id="no name"),
        pytest.param({"metadata": {"namespace": "a", "name": 5}}, "metadata.name", id="a number for a name"),
        pytest.param({"metadata": {"namespace": "a", "name": "A/b"}}, "metadata.name", id="no valid name"),
        pytest.param({"metadata": {"name": "n"}}, "metadata.namespace", id="no namespace"),
        pytest.param({"metadata": {"namespace": "a.b", "name": "n"}}, "metadata.namespace", id="no valid namespace"),
        pytest.param(
            {"metadata": {"namespace": "a", "name": "n", "generation": "x"}}, "metadata.generation", id="no number"
        ),
    ],
)
def test_an_object_without_a_usable_identity_is_refused(raw: dict[str, object], path: str) -> None:
    with pytest.raises(ParseError) as caught:
        parse_metadata(raw, namespaced=True)
    assert caught.value.path == path


def test_labels_that_are_not_strings_are_left_out() -> None:
    labels = {"a": "b", "c": 1}
    assert parse_metadata({"metadata": {"name": "n", "labels": labels}}, namespaced=False).labels == {"a": "b"}
    assert parse_metadata({"metadata": {"name": "n", "labels": []}}, namespaced=False).labels == {}


@pytest.mark.parametrize(
    ("created", "time"), [("1970-01-01T00:01:00Z", 60.0), (None, None), ("soon", None)], ids=["a time", "none", "text"]
)
def test_the_time_of_creation(created: str | None, time: float | None) -> None:
    raw = {"metadata": {"name": "n", "creationTimestamp": created}}
    assert parse_metadata(raw, namespaced=False).created_at == time
