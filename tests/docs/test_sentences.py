"""Sentences of the pages are short enough to read once."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT

MAX_WORDS = 30
"""Limit of a sentence outside of tables and code. CONTRIBUTING.md asks for 25."""
PAGES = [
    *sorted(DOCS.glob("*.md")),
    *sorted(DOCS.glob("reference/*.md")),
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")),
]
NOT_PROSE = re.compile(r"```[\s\S]*?```|^ {4,}.*$|^ *\|.*$", re.MULTILINE)
ITEM = re.compile(r"^( *- | *\d+\. |#)", re.MULTILINE)
LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
CODE = re.compile(r"`[^`]*`")


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of paragraphs and items. A quotation of code counts as one word."""
    prose = CODE.sub("CODE", LINK.sub(r"\1", ITEM.sub("\n\n", NOT_PROSE.sub("", text))))
    for paragraph in re.split(r"\n\s*\n", prose):
        yield from filter(None, re.split(r"(?<=[.!?:;])\s+", " ".join(paragraph.split())))


def test_tables_code_and_items_are_apart_from_sentences() -> None:
    prose = "# A\n\nOne `a b c` two.\nThree\nfour: [five](six.md)\n\n- seven\n- eight\n\n"
    text = f"{prose}| table |\n\n    code\n\n```\ncode\n```\n\nNine.\n"
    assert list(sentences(text)) == ["A", "One CODE two.", "Three four:", "five", "seven", "eight", "Nine."]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_sentence_is_too_long(page: Path) -> None:
    assert [each for each in sentences(page.read_text()) if len(each.split()) > MAX_WORDS] == []
