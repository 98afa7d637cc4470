"""Run scripts/demo and draw its terminal output, from the step of the kubeconfig on, as docs/images/demo.svg.

recording.py [FILE]   FILE has the output of the demo; without it, the demo runs
"""

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from usage import show_help

ROOT: Final = Path(__file__).parents[1]
IMAGE: Final = ROOT / "docs" / "images" / "demo.svg"
FIRST_STEP: Final = "4. "
COLUMNS: Final = 112
_LINE: Final = 19
_CHARACTER: Final = 8.43
_MARGIN: Final = 20
_TOP: Final = 46
_STYLE: Final = """\
text { font: 14px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #c9d1d9; white-space: pre }
.step { fill: #ffffff; font-weight: bold } .command { fill: #7ee787 } .title { fill: #8b949e }"""


def visible_lines(output: str) -> list[str]:
    """Return the lines from FIRST_STEP on, wrapped to the width of the terminal."""
    lines = output.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(FIRST_STEP))
    return [part for line in lines[start:] for part in _wrap(line)]


def _wrap(line: str) -> list[str]:
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(line, COLUMNS, subsequent_indent=indent, drop_whitespace=False) or [""]


def render_svg(lines: list[str]) -> str:
    """Return an SVG of a terminal with these lines."""
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
    return "\n".join([*frame, *_render_lines(lines), "</svg>\n"])


def _render_lines(lines: list[str]) -> Iterator[str]:
    kind = ""
    for number, line in enumerate(lines):
        kind = _line_kind(line, kind)
        if line.strip():
            class_attribute = f' class="{kind}"' if kind else ""
            yield f'<text{class_attribute} x="{_MARGIN}" y="{_TOP + number * _LINE}">{escape(line)}</text>'


def _line_kind(line: str, previous: str) -> str:
    """Return `step`, `command` or an empty string. Further lines of a command are indented by six, like output."""
    if line.startswith("  $ "):
        return "command"
    if line[:1].isdigit():
        return "step"
    return previous if previous == "command" and line.startswith("      ") else ""


def main(arguments: list[str]) -> int:
    if show_help(arguments, __doc__):
        return 0
    if arguments:
        output = Path(arguments[0]).read_text()
    else:
        demo = subprocess.run([ROOT / "scripts" / "demo", "--once"], stdout=subprocess.PIPE, text=True, check=True)
        output = demo.stdout
    IMAGE.write_text(render_svg(visible_lines(output)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
