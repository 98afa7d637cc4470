"""The shell blocks of a page of the documentation, in order."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def shell_blocks(page: str) -> list[str]:
    blocks = _BLOCK.findall((DOCS / page).read_text())
    assert blocks, f"{page} has no block of shell"
    return blocks
