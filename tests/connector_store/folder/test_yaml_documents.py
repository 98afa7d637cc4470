import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.folder import yaml_documents
from connector_store.folder.yaml_documents import MAX_DEPTH, Document, YamlProblem, line_of, parse_documents


def read(text: str) -> object:
    documents, problem = parse_documents(text.encode())
    assert problem is None
    return documents[0].value if documents else None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: b", {"a": "b"}),
        ("a:\n  - b\n  - c: d", {"a": ["b", {"c": "d"}]}),
        ("a: |\n  b\n  c\n", {"a": "b\nc\n"}),
        ("a: &x {b: c}\nd: *x", {"a": {"b": "c"}, "d": {"b": "c"}}),
        ("a: &x {b: c, e: f}\nd: {<<: *x, b: g}", {"a": {"b": "c", "e": "f"}, "d": {"b": "g", "e": "f"}}),
        ("a: &x {b: c}\nd: {b: g, <<: [*x, {h: i}]}", {"a": {"b": "c"}, "d": {"b": "g", "h": "i"}}),
        ("a: &x {b: c}\nd: {<<: *x, b: g}", {"a": {"b": "c"}, "d": {"b": "g"}}),
        ("1: a", {"1": "a"}),
        ("yes: a", {"yes": "a"}),
        ("\ufeffa: b", {"a": "b"}),
        ("# only a comment", None),
        ("", None),
        ('{"a": [1, true, null, "x"]}', {"a": [1, True, None, "x"]}),
    ],
)
def test_documents_are_read(text: str, value: object) -> None:
    assert read(text) == value


@pytest.mark.parametrize(
    ("scalar", "value"),
    [
        ("", None), ("~", None), ("null", None), ("yes", True), ("Off", False), ("n", False), ("12", 12), ("-5", -5),
        ("+7", 7), ("1_000", 1000), ("0x1f", 31), ("0b101", 5), ("0o17", 15), ("010", 10), ("abc", "abc"),
        ("2024-01-01", "2024-01-01"), ("12:30", "12:30"), ("0b", "0b"),
        ("0x_", "0x_"), ("'12'", "12"), ('"yes"', "yes"),
        ("!!str 12", "12"), ("! 12", "12"), ("1.2.3.4", "1.2.3.4"), ("=", "="), ("!!map {b: c}", {"b": "c"}),
    ],
)  # fmt: skip
def test_plain_scalars_have_the_types_that_they_have_for_kubectl(scalar: str, value: object) -> None:
    assert read(f"a: {scalar}") == {"a": value}


@pytest.mark.parametrize("scalar", ["1e5", ".5", "1.5", "-1.", ".inf", ".NaN", "9" * 80])
def test_fractions_are_not_text(scalar: str) -> None:
    documents = read(f"a: {scalar}")
    assert isinstance(documents, dict)
    assert isinstance(documents["a"], float)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + each)}: &{chr(98 + each)} [{','.join([f'*{chr(97 + each)}'] * 9)}]\n" for each in range(9)
)


@pytest.mark.parametrize(
    ("data", "line", "reason"),
    [
        pytest.param(b"a: b\nc: \xff", 2, "not UTF-8", id="no UTF-8"),
        pytest.param("a: b".encode("utf-16"), 1, "not UTF-8", id="UTF-16"),
        pytest.param(b"a: b\nc: d: e", 2, "not YAML", id="no YAML"),
        pytest.param(b"a: 'b", 1, "not YAML", id="cut off"),
        pytest.param(b"a: b\x01", 1, "not allowed", id="a control character"),
        pytest.param(b"\ta: b", 1, "not YAML", id="a tab"),
        pytest.param(b"a: b\na: c", 2, "a key twice", id="a key twice"),
        pytest.param(b"? [a]\n: b", 1, "not text", id="a list for a key"),
        pytest.param(b"? {a: b}\n: c", 1, "not text", id="an object for a key"),
        pytest.param(b"a: &x [b]\n? *x\n: c", 2, "not text", id="an alias of a list for a key"),
        pytest.param(b"a: *b", 1, "not defined", id="an unknown alias"),
        pytest.param(b"a: &a [*a]", 1, "not defined", id="an alias within itself"),
        pytest.param(b"a: &a b\n---\nc: *a", 3, "not defined", id="an alias of another document"),
        pytest.param(b"a: {<<: b}", 1, "merges", id="merging a text"),
        pytest.param(b"a: !!python/object/apply:os.system [x]", 1, "tag", id="a tag on a list"),
        pytest.param(b"a: !!binary YQ==", 1, "tag", id="a tag on a scalar"),
        pytest.param(b"[" * 100_000, 1, "nest", id="deep nesting in brackets"),
        pytest.param(
            b"".join(b" " * each + b"a:\n" for each in range(MAX_DEPTH + 1)), MAX_DEPTH + 1, "nested", id="deep nesting"
        ),
        pytest.param(LAUGHS.encode(), 6, "split the file", id="a billion laughs"),
    ],
)
def test_what_cannot_be_read_names_its_line(data: bytes, line: int, reason: str) -> None:
    documents, problem = parse_documents(data)
    assert problem is not None
    assert problem.line == line
    with pytest.raises(ValueError, match=reason):
        raise ValueError(problem.reason)
    assert len(documents) <= 1


def test_too_many_values_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_documents, "MAX_NODES", 1000)
    assert parse_documents(b"[" + b"a," * 998 + b"a]")[1] is None
    _, problem = parse_documents(b"\n[" + b"a," * 999 + b"a]")
    assert problem == YamlProblem(2, "has more than 1000 values; split the file")


def test_documents_before_the_problem_are_returned() -> None:
    documents, problem = parse_documents(b"a: b\n---\nc: d: e\n")
    assert documents == [Document({"a": "b"}, 1)]
    assert problem is not None


TEXT = """# a comment
metadata:
  annotations:
    a.b/c: d
items:
- x: 1
- &y
  z:
    - 2
    - 3
merged:
  <<: *y
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", 2), ("metadata", 2), ("metadata.annotations[a.b/c]", 4), ("items", 5), ("items[0].x", 6),
        ("items[1].z[1]", 10), ("items[1].z[9]", 8), ("items[1].z.a", 8), ("metadata.absent.more", 2), ("absent", 2),
        ("merged.z", 11),
    ],
)  # fmt: skip
def test_every_field_has_its_line(path: str, line: int) -> None:
    documents, _ = parse_documents(TEXT.encode())
    assert line_of(documents[0], path) == line


def test_a_document_begins_where_its_content_does() -> None:
    documents, _ = parse_documents(b"# a\na: b\n---\n\n# c\nc: d\n---\n---\ntext\n")
    assert [each.line for each in documents] == [2, 6, 9]


# Above this, JSON writes surrogate pairs as escapes, which YAML does not have.
TEXTS = st.text(st.characters(codec="utf-8", max_codepoint=0xFFFF), max_size=9)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=9,
)


@given(VALUES.filter(lambda value: value is not None and "<<" not in json.dumps(value)))
def test_for_every_value_what_json_writes_is_what_is_read(value: object) -> None:
    for text in (json.dumps(value), json.dumps(value, indent=1)):
        assert read(text) == value


@given(st.binary(max_size=60) | st.text(alphabet="ab:-[]{}&*!|>'\"#%@,? \n\t<01_x.", max_size=40).map(str.encode))
def test_for_every_text_there_are_documents_or_a_problem(data: bytes) -> None:
    documents, problem = parse_documents(data)
    assert all(1 <= each.line <= data.count(b"\n") + 2 for each in documents)
    assert problem is None or problem.line >= 1
