"""Runs scripts/demo and draws what its terminal shows, from the kubeconfig on, as docs/images/demo.svg.

recording.py [FILE]   FILE has what the demo printed; without it the demo is run
"""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from usage import answered

ROOT: Final = Path(__file__).parents[1]
PICTURE: Final = ROOT / "docs" / "images" / "demo.svg"
FIRST_STEP: Final = "4. "
COLUMNS: Final = 112
_LINE: Final = 19
_CHARACTER: Final = 8.43
_MARGIN: Final = 20
_TOP: Final = 46
_STYLE: Final = """\
text { font: 14px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #c9d1d9; white-space: pre }
.step { fill: #ffffff; font-weight: bold } .command { fill: #7ee787 } .title { fill: #8b949e }"""


def shown(printed: str) -> list[str]:
    """The lines from the first step of interest on, as wide as a terminal."""
    lines = printed.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(FIRST_STEP))
    return [part for line in lines[start:] for part in _wrapped(line)]


def _wrapped(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(line, COLUMNS, subsequent_indent=indent, drop_whitespace=False) or [""]


def picture(lines: list[str]) -> str:
    """An SVG of a terminal with these lines."""
    width = round(COLUMNS * _CHARACTER) + 2 * _MARGIN
    height = _TOP + len(lines) * _LINE + _MARGIN
    frame = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
        "<title>kubectl through the proxy, as scripts/demo shows it</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        *(f'<circle cx="{20 + 18 * number}" cy="18" r="5" fill="{colour}"/>'
          for number, colour in enumerate(("#ff5f56", "#ffbd2e", "#27c93f"))),
        f'<text class="title" x="{width // 2}" y="23" text-anchor="middle">scripts/demo</text>',
    ]  # fmt: skip
    return "\n".join([*frame, *_texts(lines), "</svg>\n"])


def _texts(lines: list[str]) -> Iterator[str]:
    kind = ""
    for number, line in enumerate(lines):
        kind = _kind(line, kind)
        if line.strip():
            named = f' class="{kind}"' if kind else ""
            yield f'<text{named} x="{_MARGIN}" y="{_TOP + number * _LINE}">{escape(line)}</text>'


def _kind(line: str, before: str) -> str:
    """`step`, `command` or nothing; what a command of several lines goes on with is indented like output, by six."""
    if line.startswith("  $ "):
        return "command"
    if line[:1].isdigit():
        return "step"
    return before if before == "command" and line.startswith("      ") else ""


def main(arguments: list[str]) -> int:
    if answered(arguments, __doc__):
        return 0
    if arguments:
        printed = Path(arguments[0]).read_text()
    else:
        demo = subprocess.run([ROOT / "scripts" / "demo", "--once"], stdout=subprocess.PIPE, text=True, check=True)
        printed = demo.stdout
    PICTURE.write_text(picture(shown(printed)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
