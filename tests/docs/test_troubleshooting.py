"""docs/troubleshooting.md quotes the messages of the source."""

import ast
import re
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("addons", "connector_store", "connector_controller", "connector_csi")
VALUE = "\0"
"""Stands for a value in a format string of the source."""
EXAMPLE = re.compile(r"\.\.\.|https://|Impersonate-User|\d+|\b[xyz](?:/[xyz])?\b")
"""Stands for a value in a quotation."""
FOREIGN_MESSAGES = {
    "... alert certificate required",
    '... User "system:serviceaccount:...',
    '... is forbidden ... in the namespace "team-a"',
    "Error from server (Forbidden)",
    "The connection to the server HOST:PORT was refused",
    "certificate signed by unknown authority",
    "close 1001 (going away)",
    "connection refused",
    "dial tcp",
    "driver name connectors-csi not found in the list of registered CSI drivers",
    "lookup c-x.y.svc.cluster.local",
    "no such host",
    "websocket",
    "x509",
}
"""Messages of the target, kubectl, kubelet or the system."""


def quoted() -> list[str]:
    """Return the texts in the first cells of its tables, split where one message contains another."""
    page = (ROOT / "docs" / "troubleshooting.md").read_text()
    cells = [line.split(" | ")[0] for line in page.splitlines() if line.startswith("| `")]
    texts = [text for cell in cells for text in re.findall(r"`([^`]+)`", cell)]
    pieces = {piece.strip() for text in texts for piece in re.split(r" ?[:;] ", text)}
    return sorted(pieces - {"", "..."})


def messages() -> Iterator[str]:
    """Find the messages of the source, without docstrings and without texts that it compares with.

    `denial` takes the phrases of its statuses from HTTPStatus.
    """
    yield from (each.phrase for each in HTTPStatus)
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            yield from _texts(ast.parse(file.read_text()))


def _texts(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Compare() | ast.Expr(value=ast.Constant()):
            return
        case ast.JoinedStr(values=values):
            yield "".join(str(each.value) if isinstance(each, ast.Constant) else VALUE for each in values)
        case ast.Constant(value=str() as text):
            yield text
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _texts(child)


def pattern(piece: str) -> re.Pattern[str]:
    return re.compile(".*".join(re.escape(each) for each in EXAMPLE.split(piece)))


@pytest.fixture(scope="module")
def source_messages() -> str:
    return "\n".join(each.replace("\n", " ") for each in messages())


@pytest.mark.parametrize("piece", [each for each in quoted() if each not in FOREIGN_MESSAGES])
def test_the_source_has_the_message(source_messages: str, piece: str) -> None:
    assert pattern(piece).search(source_messages)


def test_messages_of_other_programs_are_quoted() -> None:
    assert FOREIGN_MESSAGES - set(quoted()) == set()


def test_texts_that_the_source_only_compares_with_are_not_its_messages(source_messages: str) -> None:
    assert "certificate verify failed" not in source_messages
