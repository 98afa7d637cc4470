"""The picture of a session in README. tests/cluster/test_pages.py runs the session again and compares the output."""

import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.docs.pages import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
from recording import COLUMNS, IMAGE, PROXY, REFUSED, SESSION, Step, render_svg

TEXT = "{http://www.w3.org/2000/svg}text"


def elements(svg: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(svg).iter(TEXT) if each.get("class") != "title"]  # noqa: S314 - our own picture


def texts(svg: str) -> list[tuple[str, str]]:
    return [(each.get("class", ""), each.text or "") for each in elements(svg)]


def test_it_shows_commands_and_what_they_print() -> None:
    assert texts(render_svg([Step('connectorctl kubeconfig -o "a & b"', ["wrote <a & b>"]), Step("ls", [])])) == [
        ("command", '$ connectorctl kubeconfig -o "a & b"'),
        ("output", "wrote <a & b>"),
        ("command", "$ ls"),
    ]


def test_no_line_is_wider_than_the_terminal() -> None:
    lines = texts(render_svg([Step("long " * 60, ["x" * 300])]))
    assert max(len(text) for _, text in lines) <= COLUMNS
    assert {kind for kind, _ in lines} == {"command", "output"}


def test_lines_appear_in_their_order_and_output_after_its_command() -> None:
    shown = elements(render_svg([Step("a", ["1", "2"]), Step("b", ["3"])]))
    delays = [float(re.findall(r"animation-delay: ([\d.]+)s", each.get("style", ""))[0]) for each in shown]
    assert delays == sorted(delays)
    assert delays[0] < delays[1] == delays[2] < delays[3] < delays[4]


def test_the_picture_in_the_readme_shows_the_session() -> None:
    for page in ("README.md", "README.zh.md"):
        assert f"]({IMAGE.relative_to(ROOT)})" in (ROOT / page).read_text()
    commands = [text for kind, text in texts(IMAGE.read_text()) if kind == "command"]
    assert commands == [f"$ {each}{' &' if each == PROXY else ''}" for each in SESSION]


def test_the_session_is_that_of_the_readme_with_limits_and_a_refusal() -> None:
    readme = (ROOT / "README.md").read_text()
    imported, *others = SESSION
    assert imported.removesuffix(" --read-only --deny-credentials") in readme
    for command in (each for each in others if each != REFUSED):
        assert f"{command}\n" in readme


@pytest.mark.parametrize("word", ["eyJ", "/tmp/", "/work", "/root"])
def test_it_has_no_token_and_no_path_of_a_machine(word: str) -> None:
    assert word not in Path(IMAGE).read_text()
