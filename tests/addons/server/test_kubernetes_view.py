"""The content view: objects as YAML, lists as tables, watches as events, and nothing that a terminal interprets."""

import json
from typing import Any

import pytest
from mitmproxy import contentviews
from mitmproxy.contentviews import Metadata

from addons.server.flow_setting import add_content_view
from addons.server.kubernetes_view import KubernetesView

VIEW = KubernetesView()
JSON = Metadata(content_type="application/json; charset=utf-8")
POD: dict[str, Any] = {
    "apiVersion": "v1", "kind": "Pod",
    "metadata": {"namespace": "web", "name": "a", "resourceVersion": "7", "managedFields": [{"manager": "kubectl"}]},
}  # fmt: skip


def prettify(document: Any) -> str:
    return VIEW.prettify(json.dumps(document).encode(), JSON)


def test_an_object_is_yaml_without_managed_fields() -> None:
    assert prettify(POD) == (
        "apiVersion: v1\nkind: Pod\nmetadata:\n  namespace: web\n  name: a\n  resourceVersion: '7'\n"
    )


def test_a_list_is_a_table() -> None:
    assert prettify({"apiVersion": "v1", "kind": "PodList", "items": [POD]}) == (
        "# PodList, 1 items\nNAMESPACE  NAME  CREATED  VERSION\nweb        a              7\n"
    )


def test_a_table_of_kubectl_is_a_table() -> None:
    table = {
        "apiVersion": "meta.k8s.io/v1", "kind": "Table", "columnDefinitions": [{"name": "Name"}, {"name": "Ready"}],
        "rows": [{"cells": ["web-1", "1/1"]}, {"cells": ["x", None]}],
    }  # fmt: skip
    assert prettify(table) == "NAME   READY\nweb-1  1/1\nx\n"


def test_a_watch_is_a_list_of_events_and_an_incomplete_line_is_left_out() -> None:
    event = json.dumps({"type": "ADDED", "object": POD})
    assert VIEW.prettify(f"{event}\n{event[:20]}".encode(), JSON) == (
        "TYPE   KIND  NAMESPACE  NAME  VERSION\nADDED  Pod   web        a     7\n"
    )


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"apiVersion": "v1", "kind": "PodList", "items": ["x", None, {"metadata": []}]}, id="odd items"),
        pytest.param({"apiVersion": "v1", "kind": "Table", "rows": [1, {"cells": 2}]}, id="an odd table"),
        pytest.param({"apiVersion": "v1", "kind": "Pod", "metadata": 5}, id="odd metadata"),
        pytest.param({"type": "ERROR", "object": "x"}, id="an odd event"),
    ],
)
def test_odd_content_is_rendered(document: Any) -> None:
    assert prettify(document)


@pytest.mark.parametrize("data", [b"{", b"[]", b'{"a": 1}', b'{"apiVersion": "v1", "kind": "Po'])
def test_other_content_is_an_error_that_mitmproxy_shows(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any text
        VIEW.prettify(data, JSON)


def test_control_characters_are_escaped() -> None:
    evil = "a\x1b[2J\u202eb"
    shown = [prettify(POD | {"spec": {"x": evil}}), prettify({"apiVersion": "v1", "kind": evil, "items": [
        {"metadata": {"name": evil}}]})]  # fmt: skip
    assert not any("\x1b" in text or "\u202e" in text for text in shown)


@pytest.mark.parametrize(
    ("content_type", "data", "is_chosen"),
    [
        ("application/json", b'{"kind":"Pod","apiVersion":"v1"}', True),
        ("application/json", b'{"a": 1}', False),
        ("application/vnd.kubernetes.protobuf", b'{"kind":"Pod","apiVersion":"v1"}', False),
        (None, b"", False),
    ],
)
def test_mitmproxy_chooses_it_for_kubernetes_json(content_type: str | None, data: bytes, is_chosen: bool) -> None:
    add_content_view()
    metadata = Metadata(content_type=content_type)
    assert (VIEW.render_priority(data, metadata) > 0) is is_chosen
    assert (contentviews.registry.get_view(data, metadata).name == "Kubernetes") is is_chosen
