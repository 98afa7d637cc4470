"""Words, sentence forms and names that the project does not use do not come back.

`vocabulary_exceptions.toml` has the number that each file may still have. The numbers are exact, so they only shrink.
"""

import ast
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterable

import pytest

from tests.docs import vocabulary
from tests.docs.pages import DOCS, ROOT

EXCEPTIONS = tomllib.loads((ROOT / "tests" / "docs" / "vocabulary_exceptions.toml").read_text())


def assert_only_exceptions(findings: Iterable[vocabulary.Finding], exceptions: dict[str, int]) -> None:
    findings = list(findings)
    counts = Counter(finding.source for finding in findings)
    wrong = {source for source in counts.keys() | exceptions.keys() if counts[source] != exceptions.get(source, 0)}
    shown = "\n".join(str(finding) for finding in findings if finding.source in wrong)
    differences = {source: f"{counts[source]}, listed {exceptions.get(source, 0)}" for source in sorted(wrong)}
    assert not wrong, f"fix these words, and the numbers in vocabulary_exceptions.toml: {differences}\n{shown}"


def test_pages_use_the_common_words() -> None:
    assert_only_exceptions(vocabulary.in_pages(), EXCEPTIONS["pages"])


def test_descriptions_of_definitions_and_alerts_use_the_common_words() -> None:
    assert_only_exceptions(vocabulary.in_manifests(), EXCEPTIONS["manifests"])


def test_helps_begin_with_a_noun_or_a_verb_and_use_the_common_words() -> None:
    assert_only_exceptions(vocabulary.in_helps(), EXCEPTIONS["helps"])


def test_docstrings_say_what_a_thing_is_or_does() -> None:
    assert_only_exceptions(vocabulary.in_docstrings(), EXCEPTIONS["docstrings"])


def test_comments_use_the_common_words() -> None:
    assert_only_exceptions(vocabulary.in_comments(), EXCEPTIONS["comments"])


def test_no_name_is_a_participle_alone() -> None:
    assert_only_exceptions(vocabulary.in_names(), EXCEPTIONS["names"])


def test_no_two_files_of_the_product_define_a_class_of_the_same_name() -> None:
    files: dict[str, list[str]] = defaultdict(list)
    for file in vocabulary.product_files():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                files[node.name].append(str(file.relative_to(ROOT)))
    assert {name: places for name, places in files.items() if len(places) > 1} == {}


MAX_PARAMETERS = 8
MANY_PARAMETERS = {
    "connectorctl/commands/kubeconfig.py command": "click passes each option of the command",
    "connectorctl/commands/import_.py command": "click passes each option of the command",
    "connectorctl/commands/run.py command": "click passes each option of the command",
    "connectorctl/commands/request.py command": "click passes each option of the command",
    "connectorctl/commands/lock.py command": "click passes each option of the command",
    "connector_controller/connectors.py __init__": "the parts of the controller that one reconcile needs",
    "addons/server/assembly.py assemble": "the parts that one place joins into the proxy",
    "connector_store/kube/access.py __init__": "options with defaults",
    "connector_store/kube/cluster_watches.py __init__": "options with defaults",
    "connector_store/kube/reflector.py __init__": "options with defaults",
}
"""Functions of the product with more than `MAX_PARAMETERS`, and the reason."""


def test_no_function_of_the_product_has_many_parameters_without_a_reason() -> None:
    functions = {
        f"{file.relative_to(ROOT)} {node.name}"
        for file in vocabulary.product_files()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and _parameter_count(node) > MAX_PARAMETERS
    }
    assert functions == MANY_PARAMETERS.keys()


def _parameter_count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return sum(parameter.arg not in ("self", "cls") for parameter in parameters)


@pytest.mark.parametrize(
    "text",
    [
        "whoever asks",
        "It is mended.",
        "nobody\nis there",
        "That is no\nkubeconfig.",
        "a Lease of ours",
        "The keys cannot be had.",
        "There are none, and it is none of those.",
        "made anew",
    ],
)
def test_these_are_seen(text: str) -> None:
    assert len(list(vocabulary._words("page", text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "There is no key.",
        "It is no longer there.",
        "It is None.",
        "It is amended, as recommended.",
        "a Lease of our own",
    ],
)
def test_these_are_plain_english(text: str) -> None:
    assert list(vocabulary._words("page", text)) == []


def test_the_line_of_an_occurrence_is_named() -> None:
    [finding] = vocabulary._words("page", "one\ntwo\nnobody")
    assert str(finding).startswith("page:3: 'nobody' in: ")


def test_a_block_of_comments_is_one_text() -> None:
    text = "x = 1  # a\n# that is no\n# key\n\n# other\n"
    assert list(vocabulary.comments(text)) == [(1, "a that is no key"), (5, "other")]


def test_docstrings_of_attributes_count() -> None:
    text = (
        '"""M"""\nclass C:\n    """C"""\n    x: int\n    """A"""\n    def f(self):\n        self.y = 1\n        """Y"""'
    )
    assert [docstring for _, docstring in vocabulary.docstrings(text)] == ["M", "C", "A", "Y"]


def test_every_kind_of_definition_has_its_name() -> None:
    text = "def a(b, *c, d=1): e = 1\nclass F:\n  g: int\n  def h(self): self.i = 1\nwith x as j: pass\nfor k in x: ..."
    assert {name for _, name in vocabulary.names(text)} == set("abcdeFghijk") | {"self"}


def test_the_glossary_defines_each_term_once() -> None:
    lines = [line for line in (DOCS / "glossary.md").read_text().splitlines() if line.startswith("| ")]
    terms = [term for line in lines for term in line.split(" | ")[0].removeprefix("| ").split(", ") if term != "term"]
    assert len(terms) > 30
    assert [term for term, count in Counter(terms).items() if count > 1] == []
