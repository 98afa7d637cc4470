"""The render_svg of a terminal in README."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.docs.pages import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from recording import COLUMNS, IMAGE, render_svg, visible_lines

PRINTED = """\
3. The proxy
  $ mitmdump &

4. For the pipeline
  $ connectorctl kubeconfig demo/target -o "a & b"
    wrote <pipeline.kubeconfig>
"""


def texts(svg: str) -> list[tuple[str, str]]:
    root = ElementTree.fromstring(svg)  # noqa: S314 - our own text
    return [(each.get("class", ""), each.text or "") for each in root.iter("{http://www.w3.org/2000/svg}text")][1:]


def test_it_shows_steps_commands_and_what_they_print() -> None:
    assert texts(render_svg(visible_lines(PRINTED))) == [
        ("step", "4. For the pipeline"),
        ("command", '  $ connectorctl kubeconfig demo/target -o "a & b"'),
        ("", "    wrote <pipeline.kubeconfig>"),
    ]


def test_no_line_is_wider_than_the_terminal() -> None:
    lines = visible_lines(f"4. x\n  $ {'long ' * 60}\n    output\n")
    assert max(map(len, lines)) <= COLUMNS
    kinds = [kind for kind, _ in texts(render_svg(lines))]
    assert kinds == ["step", *["command"] * (len(lines) - 2), ""]


def test_the_readme_shows_the_current_demo() -> None:
    assert f"]({IMAGE.relative_to(ROOT)})" in (ROOT / "README.md").read_text()
    drawn = [text for kind, text in texts(IMAGE.read_text()) if kind == "step"]
    steps = re.findall(r'print_heading\(\s*"([4-7]\. [^"]+)"', (ROOT / "scripts" / "demo.py").read_text())
    assert len(steps) == 4
    assert " ".join(" ".join(drawn).split()) == " ".join(" ".join(steps).split())


@pytest.mark.parametrize("word", ["eyJ", "/tmp/", "/work", "/root"])
def test_it_has_no_token_and_no_path_of_a_machine(word: str) -> None:
    assert word not in Path(IMAGE).read_text()
