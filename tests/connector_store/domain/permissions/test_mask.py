"""Masks of one object, as the API server sends it."""

from typing import Any

import pytest

from connector_store.domain.permissions.mask import (
    Form,
    accept_header,
    check_columns,
    choose_form,
    copy_status,
    kind_of,
    mask_event,
    mask_list_metadata,
    mask_partial_metadata,
    mask_row,
    mask_secret,
    mask_table,
    masker_of,
)

CANARY = "c4n4ry"
MASKED = {"connectors.alauda.io/masked": "true"}
COLUMNS = [{"name": name, "type": "string", "x": CANARY} for name in ("Name", "Type", "Data", "Age")]


def secret(**fields: Any) -> dict[str, Any]:
    return {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {
            "name": "a",
            "labels": {"l": "m"},
            "annotations": {"copy": CANARY, "meta.helm.sh/release-name": "r"},
            "managedFields": [{"fieldsV1": {"f:data": CANARY}}],
            "newField": CANARY,
        },
        "data": {"password": CANARY},
        "type": "Opaque",
        "newField": CANARY,
    } | fields


def partial() -> dict[str, Any]:
    return {"kind": "PartialObjectMetadata", "metadata": {"name": "a", "annotations": {"copy": CANARY}}, "data": CANARY}


def row(**fields: Any) -> dict[str, Any]:
    return {"cells": ["a", "Opaque", 1, "5m"], "object": partial(), "conditions": CANARY} | fields


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        pytest.param([], Form.OBJECT, id="no Accept"),
        pytest.param(["application/vnd.kubernetes.protobuf"], Form.OBJECT, id="protobuf"),
        pytest.param(["application/json;as=Table;v=v1;g=meta.k8s.io"], Form.TABLE, id="a table"),
        pytest.param(["a/b", 'c; AS="Table"; v=v1; g=meta.k8s.io;q=0.1'], Form.TABLE, id="a table in another header"),
        pytest.param(["*/*;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"], Form.METADATA, id="metadata"),
        pytest.param(["application/json;as=Table;v=v1beta1;g=meta.k8s.io"], Form.OBJECT, id="a former version"),
        pytest.param(["application/json;as=Scale;v=v1;g=meta.k8s.io"], Form.OBJECT, id="another kind"),
        pytest.param(["application/json;as;v=v1;g=meta.k8s.io"], Form.OBJECT, id="no kind"),
    ],
)  # fmt: skip
def test_the_form_follows_accept(accept: list[str], form: Form) -> None:
    assert choose_form(accept) is form


@pytest.mark.parametrize(
    ("form", "is_list", "accept", "kind"),
    [
        (Form.OBJECT, False, b"application/json", "Secret"),
        (Form.OBJECT, True, b"application/json", "SecretList"),
        (Form.TABLE, True, b"application/json;as=Table;v=v1;g=meta.k8s.io", "Table"),
        (Form.METADATA, False, b"application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
         "PartialObjectMetadata"),
        (Form.METADATA, True, b"application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
         "PartialObjectMetadataList"),
    ],
)  # fmt: skip
def test_the_proxy_asks_for_the_form_in_json(form: Form, is_list: bool, accept: bytes, kind: str) -> None:
    assert accept_header(form, is_list=is_list) == accept
    assert kind_of(form, is_list=is_list) == kind


def test_a_secret_keeps_all_but_its_values() -> None:
    assert mask_secret(secret(stringData={"b": CANARY}, immutable=True)) == {
        "kind": "Secret",
        "apiVersion": "v1",
        "metadata": {
            "name": "a",
            "labels": {"l": "m"},
            "annotations": {"copy": "masked", "meta.helm.sh/release-name": "r"} | MASKED,
        },
        "data": {"password": "bWFza2Vk"},
        "stringData": {"b": "masked"},
        "type": "Opaque",
        "immutable": True,
    }


def test_an_item_of_a_list_has_no_kind() -> None:
    assert mask_secret({"metadata": {"name": "a", "annotations": None}, "data": None}) == {
        "metadata": {"name": "a", "annotations": MASKED}
    }


def test_only_the_metadata_of_a_partial_object_passes() -> None:
    expected = {"name": "a", "annotations": {"copy": "masked"} | MASKED}
    assert mask_partial_metadata(partial()) == {"kind": "PartialObjectMetadata", "metadata": expected}


def test_a_table_keeps_its_cells() -> None:
    table = {"kind": "Table", "metadata": {"resourceVersion": "1", "x": CANARY}, "columnDefinitions": COLUMNS}
    masked = mask_table(table | {"rows": [row(), row(object=None), row(object=secret())], "x": CANARY})
    assert CANARY not in str(masked)
    assert [each["cells"] for each in masked["rows"]] == [["a", "Opaque", 1, "5m"]] * 3
    assert [each["name"] for each in masked["columnDefinitions"]] == ["Name", "Type", "Data", "Age"]
    assert masked["rows"][1]["object"] is None


def test_a_bookmark_in_a_table_has_no_name() -> None:
    bookmark = {"kind": "PartialObjectMetadata", "metadata": {"resourceVersion": "1"}}
    masked = mask_row({"cells": ["", "", 0, "<unknown>"], "object": bookmark})
    assert masked["object"]["metadata"] == {"resourceVersion": "1", "annotations": MASKED}


@pytest.mark.parametrize("age", ["5m", "2d3h", "<unknown>", "<invalid>"])
def test_ages_pass(age: str) -> None:
    assert mask_row(row(cells=["a", "Opaque", 1, age]))["cells"][3] == age


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("text", id="no object"),
        pytest.param(row(cells=["a", "Opaque", 1, "5m", CANARY]), id="another cell"),
        pytest.param(row(cells=["a", "Opaque", CANARY, "5m"]), id="a text as the number"),
        pytest.param(row(cells=["a", "Opaque", True, "5m"]), id="a boolean as the number"),
        pytest.param(row(cells=["a", "Opaque", 1, "C4N4RY"]), id="a text as the age"),
        pytest.param(row(cells=None), id="no cells"),
        pytest.param(row(cells=[CANARY, "Opaque", 1, "5m"]), id="another name"),
        pytest.param(row(object={"kind": "Pod"}), id="another object"),
    ],
)
def test_another_row_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"not|kind"):
        mask_row(value)


def test_later_events_of_a_watch_have_no_columns() -> None:
    assert check_columns(None) is None
    assert check_columns([]) == []


@pytest.mark.parametrize("value", [[{"name": "Value"}], [*COLUMNS, {"name": "Value"}], ["Name"]])
def test_other_columns_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"columns|object"):
        check_columns(value)


def test_list_metadata_has_known_fields_only() -> None:
    assert mask_list_metadata({"resourceVersion": "1", "continue": "c", "x": CANARY}) == {
        "resourceVersion": "1",
        "continue": "c",
    }


def test_an_event_has_a_masked_object() -> None:
    event = mask_event({"type": "ADDED", "object": secret(), "x": CANARY}, masker_of(Form.OBJECT))
    assert event["type"] == "ADDED"
    assert CANARY not in str(event)


def test_an_error_event_has_a_status() -> None:
    status = {"kind": "Status", "code": 410, "message": "too old", "x": CANARY}
    assert mask_event({"type": "ERROR", "object": status}, mask_secret) == {
        "type": "ERROR",
        "object": {"kind": "Status", "code": 410, "message": "too old"},
    }


@pytest.mark.parametrize(
    ("mask", "value"),
    [
        pytest.param(mask_secret, secret(kind="ConfigMap"), id="another kind than Secret"),
        pytest.param(mask_secret, secret(data="text"), id="data that is no object"),
        pytest.param(mask_secret, {"kind": "Secret"}, id="no metadata"),
        pytest.param(mask_secret, {"metadata": {"annotations": "a"}}, id="annotations that are no object"),
        pytest.param(mask_partial_metadata, secret(), id="another kind than PartialObjectMetadata"),
        pytest.param(mask_table, {"kind": "Table", "rows": None, "metadata": {}}, id="no rows"),
        pytest.param(copy_status, {"kind": "Secret"}, id="another kind than Status"),
        pytest.param(lambda each: mask_event(each, mask_secret), {"type": "X", "object": secret()}, id="another event"),
    ],
)
def test_another_form_is_refused(mask: Any, value: object) -> None:
    with pytest.raises(ValueError, match=r"not|kind|without|unknown"):
        mask(value)


def test_each_form_has_its_function() -> None:
    assert [masker_of(form) for form in Form] == [mask_secret, mask_partial_metadata, mask_table]
