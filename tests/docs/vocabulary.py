"""Find the words, sentence forms and names that the project does not use.

The rules are those of CONTRIBUTING.md. `python -m tests.docs.vocabulary` prints each occurrence with its file and line.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import yaml

from addons.server import options
from connectorctl.cli import ROOT as ROOT_COMMAND
from tests.docs.pages import DOCS, ROOT

PRODUCT = ("addons", "connector_store", "connector_controller", "connector_csi", "connectorctl")
PACKAGES = (*PRODUCT, "lab", "bench", "scripts", "image")
GENERATED = "_pb2"

WORDS = re.compile(
    r"(?i:\b(?:whoever|whomever|nobody|somebody|anybody|everybody|anew|mend(?:s|ed|ing)?|shall|likewise)\b)"
    r"|(?i:(?<!there )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b))"
    r"|(?i:(?<!there )\b(?:is|are|was|were)) none\b"
    r"|(?i:\bof (?:ours|theirs|yours|mine|hers)\b)"
    r"|(?i:\bbe had\b)"
)
"""Words that do not come back. "There is no X" and "it is None" are fine, "X is no Y" and "it is none" are not."""
DOCSTRING_BEGINNING = re.compile(r"\s*(?:Of|Whether|What)\b")
HELP_BEGINNING = re.compile(
    r"\s*(?:Of|By|Be|As|At|For|From|In|On|To|With|Where|Whether|What|When|Who|Whom|Whose|Whatever)\b"
)
"""A help begins with a noun or an imperative verb."""
PARTICIPLES = frozenset(
    ("found", "held", "kept", "known", "asked", "taken", "told", "named", "meant", "lent", "given", "said")
)
"""These alone are not names."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One occurrence of what the project does not use; `source` is a file, or the command of a help text."""

    source: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}: {self.text}"


def product_files() -> list[Path]:
    """The Python files of the product, without generated code."""
    return _python_files(PRODUCT)


def python_files() -> list[Path]:
    """The Python files that follow the rules of names and docstrings, without generated code."""
    return _python_files(PACKAGES)


def _python_files(packages: Iterable[str]) -> list[Path]:
    files = (file for package in packages for file in (ROOT / package).rglob("*.py"))
    return sorted(file for file in files if GENERATED not in file.name and "node_modules" not in file.parts)


def shell_files() -> list[Path]:
    """The programs in scripts/ that sh runs."""
    files = (file for file in (ROOT / "scripts").iterdir() if file.is_file() and not file.suffix)
    return sorted(file for file in files if file.read_text().startswith("#!/bin/sh"))


def pages() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *_pages_of("lab"), *_pages_of("bench")])


def _pages_of(package: str) -> Iterable[Path]:
    return (ROOT / package).rglob("*.md")


def manifests() -> list[Path]:
    """The definitions and the alerts: people read their descriptions and comments."""
    return sorted([*(ROOT / "deploy" / "crds").glob("*.yaml"), *(ROOT / "monitoring").glob("*.yaml")])


def in_pages() -> Iterator[Finding]:
    for page in pages():
        yield from _words(_name(page), _without_code(page.read_text()))


def in_manifests() -> Iterator[Finding]:
    for manifest in manifests():
        text = manifest.read_text()
        yield from _words(_name(manifest), text)
        for description in _descriptions(yaml.safe_load_all(text)):
            if HELP_BEGINNING.match(description):
                yield Finding(_name(manifest), 0, f"begins with: {_excerpt(description)}")


def in_helps() -> Iterator[Finding]:
    for source, text in helps():
        yield from _words(source, text)
        if HELP_BEGINNING.match(text):
            yield Finding(source, 0, f"begins with: {_excerpt(text)}")


def helps() -> Iterator[tuple[str, str]]:
    """Command or option, and its help text."""
    for name, _, _, text in options._OPTIONS:
        yield f"option {name}", text
    context = click.Context(ROOT_COMMAND)
    for name in ("", *ROOT_COMMAND.list_commands(context)):
        command = ROOT_COMMAND.get_command(context, name) if name else ROOT_COMMAND
        assert command is not None
        source = f"connectorctl {name}".strip()
        yield source, command.help or ""
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                yield f"{source} {parameter.opts[0]}", parameter.help or ""


def in_docstrings() -> Iterator[Finding]:
    for file in python_files():
        source, text = _name(file), file.read_text()
        for line, docstring in docstrings(text):
            yield from _words(source, docstring, line)
            if DOCSTRING_BEGINNING.match(docstring):
                yield Finding(source, line, f"begins with: {_excerpt(docstring)}")


def in_comments() -> Iterator[Finding]:
    """Comments of Python, where a sentence may go on in the next line, and of shell."""
    for file in python_files():
        for line, comment in comments(file.read_text()):
            yield from _words(_name(file), comment, line)
    for file in shell_files():
        for number, text in enumerate(file.read_text().splitlines(), start=1):
            if text.lstrip().startswith("#"):
                yield from _words(_name(file), text, number)


def in_names() -> Iterator[Finding]:
    for file in python_files():
        for line, name in names(file.read_text()):
            if name.strip("_").lower() in PARTICIPLES:
                yield Finding(_name(file), line, name)


def docstrings(text: str) -> Iterator[tuple[int, str]]:
    """Line and text of each docstring, of attributes too."""
    for node in ast.walk(ast.parse(text)):
        for body in (getattr(node, field, None) for field in ("body", "orelse")):
            for statement in body if isinstance(body, list) else ():
                match statement:
                    case ast.Expr(value=ast.Constant(value=str() as docstring)):
                        yield statement.lineno, docstring


def comments(text: str) -> Iterator[tuple[int, str]]:
    """First line and text of each block of comments, joined."""
    block: list[str] = []
    first = last = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        if block and token.start[0] != last + 1:
            yield first, " ".join(block)
            block = []
        if not block:
            first = token.start[0]
        block.append(token.string.lstrip("#! "))
        last = token.start[0]
    if block:
        yield first, " ".join(block)


def names(text: str) -> Iterator[tuple[int, str]]:
    """Line and name of each variable, parameter, attribute, function and class that a file defines."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield node.lineno, name
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield node.lineno, name
            case ast.ExceptHandler(name=str() as name) | ast.MatchAs(name=str() as name):
                yield node.lineno, name
            case ast.MatchStar(name=str() as name):
                yield node.lineno, name


def _words(source: str, text: str, line: int = 1) -> Iterator[Finding]:
    """Occurrences in a text that begins at `line`; a phrase may go over the end of a line."""
    flat = re.sub(r"\s", " ", text)
    for match in WORDS.finditer(flat):
        excerpt = flat[max(0, match.start() - 30) : match.end() + 30]
        yield Finding(source, line + text.count("\n", 0, match.start()), f"{match[0].strip()!r} in: {excerpt.strip()}")


def _without_code(text: str) -> str:
    """Blank out inline code and links' targets, which may quote anything."""
    return re.sub(r"`[^`\n]*`|\]\([^)]*\)", lambda match: " " * len(match[0]), text)


def _descriptions(node: object) -> Iterator[str]:
    match node:
        case dict():
            for key, value in node.items():
                if key == "description" and isinstance(value, str):
                    yield value
                yield from _descriptions(value)
        case str():
            return
        case Iterable():
            for item in node:
                yield from _descriptions(item)


def _excerpt(text: str) -> str:
    return " ".join(text.split())[:60]


def _name(file: Path) -> str:
    return str(file.relative_to(ROOT))


def words() -> list[Finding]:
    return [*in_pages(), *in_manifests(), *in_helps(), *in_docstrings(), *in_comments()]


if __name__ == "__main__":
    sys.stdout.writelines(f"{finding}\n" for finding in [*words(), *in_names()])
