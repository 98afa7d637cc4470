"""README in Chinese: the same commands, flags and links as in English."""

import re

import pytest

from tests.docs.pages import ROOT

ENGLISH, CHINESE = (ROOT / "README.md").read_text(), (ROOT / "README.zh.md").read_text()


def commands(text: str) -> list[str]:
    """Lines of shell without their comments, and commands and flags in the text."""
    blocks = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [*re.findall(r"^ {4}(scripts/.*)$", text, re.MULTILINE), *"\n".join(blocks).splitlines()]
    inline = re.findall(r"`((?:connectorctl |--)[^`]+)`", text)
    return sorted([*(line.partition("#")[0].strip() for line in lines), *inline])


def test_the_commands_are_those_of_the_english_page() -> None:
    assert commands(CHINESE) == commands(ENGLISH)
    assert len(commands(CHINESE)) > 10


@pytest.mark.parametrize("text", [ENGLISH, CHINESE], ids=["English", "Chinese"])
def test_each_page_links_to_the_other(text: str) -> None:
    assert ("](README.zh.md)" in text) is (text is ENGLISH)
    assert ("](README.md)" in text) is (text is CHINESE)


def test_its_links_are_links_of_the_english_page() -> None:
    links = [set(re.findall(r"\]\((docs/[^)]+)\)", text)) for text in (CHINESE, ENGLISH)]
    assert links[0] - links[1] == set()
    assert len(links[0]) > 15
