"""The map of the proxy's files: the architecture page names each of them, and no others."""

import re

import addons
from tests.docs.pages import DOCS, ROOT

ADDONS = ROOT / "addons"
DATA_PATH = (DOCS / "architecture.md").read_text().partition("## The data path")[2].partition("## What fails")[0]
FILES = {str(each.relative_to(ADDONS).with_suffix("")) for each in ADDONS.rglob("*.py") if each.name != "__init__.py"}


def test_the_page_names_every_file_with_its_folder() -> None:
    names = set(re.findall(r"`((?:[a-z0-9]+/)?[a-z0-9_]+)(?:\.py|\.[A-Z]\w*)?`", DATA_PATH))
    assert sorted(FILES - names) == []


def test_the_page_names_only_files_that_exist() -> None:
    names = set(re.findall(r"`((?:server|sessions|relay|access|net|http1|records)/[a-z0-9_]+)", DATA_PATH))
    assert sorted(names - FILES) == []


def test_the_map_names_every_folder_in_the_order_of_imports() -> None:
    names = re.findall(r"^([a-z0-9_]+)(?:/|\.py) ", addons.__doc__ or "", re.MULTILINE)
    folders = {each.name for each in ADDONS.iterdir() if (each / "__init__.py").exists()}
    assert names == ["connector", "__main__", "server", "sessions", "relay", "access", "net", "http1", "records"]
    assert set(names) == folders | {"connector", "__main__"}
