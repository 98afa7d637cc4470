"""Pages of the reference, as tests read them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
REFERENCE = DOCS / "reference"


def section(page: str, heading: str) -> str:
    text = (REFERENCE / page).read_text()
    _, _, after_heading = text.partition(f"## {heading}\n")
    assert after_heading, f"{page} has no section {heading}"
    return after_heading.partition("\n## ")[0]


def rows(text: str) -> dict[str, str]:
    """First cell -> second cell of a table, without code marks, headings left out."""
    cells = [re.split(r"(?<!\\) ?\| ?", each)[1:3] for each in text.splitlines() if each.startswith("| `")]
    return {name.strip(): value.strip("` ") for name, value in cells}


def names(text: str) -> set[str]:
    return set(re.findall(r"`([^`\s]+)`", text))
