"""The shell blocks of a page of the documentation, in order."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
BY_CALLER = "## Administrator: let the target decide by caller"
"""Heading of the quick start's second half."""
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def shell_blocks(page: str, *, before: str = "", after: str = "") -> list[str]:
    """Return the blocks of the whole page, or those before or after a heading."""
    text = (DOCS / page).read_text()
    for heading in filter(None, (before, after)):
        assert heading in text, f"{page} has no {heading}"
    text = text.partition(before)[0] if before else text
    text = text.partition(after)[2] if after else text
    blocks = _BLOCK.findall(text)
    assert blocks, f"{page} has no block of shell"
    return blocks
