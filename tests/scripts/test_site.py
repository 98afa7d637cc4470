"""The documentation site: links of pages, copies of linked files, and a navigation that names each page."""

import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
from site_builder import BACK_LINK, ROOT, Site, build, site_path

PAGES_OF_AN_INDEX = {"decisions"}
"""Folders whose README.md links to each page, so the navigation names the README.md alone."""


@pytest.fixture
def site(tmp_path: Path) -> Site:
    root = tmp_path / "root"
    for path in ("docs/reference", "docs/decisions", "deploy/empty", "monitoring"):
        (root / path).mkdir(parents=True)
    for path in ("docs/a.md", "docs/reference/b.md", "docs/decisions/README.md", "deploy/x.yaml", "README.md"):
        (root / path).write_text(f"# {path}\n")
    (root / "monitoring/README.md").write_text("[rules](rules.yaml)\n")
    (root / "monitoring/rules.yaml").write_text("groups: []\n")
    return Site(root, tmp_path / "site")


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        pytest.param("docs/a.md", "reference/b.md#c", "reference/b.md#c", id="a page of the site keeps its link"),
        pytest.param("docs/reference/b.md", "../a.md", "../a.md", id="a page above it keeps its link"),
        pytest.param("docs/a.md", "../README.md#x", "project/README.md#x", id="a page of the root is in project/"),
        pytest.param("README.md", "docs/a.md", "../a.md", id="a page of the root links to a page of the site"),
        pytest.param("docs/reference/b.md", "../../deploy/x.yaml", "../source/deploy/x.yaml", id="a file is copied"),
        pytest.param("docs/a.md", "../deploy", "source/deploy/index.md", id="a folder has a page of its files"),
        pytest.param("docs/a.md", "../monitoring", "source/monitoring/README.md", id="a folder has its README.md"),
        pytest.param("docs/a.md", "https://example.com/a", "https://example.com/a", id="a URL stays"),
        pytest.param("docs/a.md", "gone.md", "gone.md", id="a broken link stays, and the strict build reports it"),
    ],
)
def test_a_link_is_valid_in_the_site(site: Site, page: str, link: str, expected: str) -> None:
    assert site.rewrite(page, f"see [it]({link}).") == f"see [it]({expected})."
    if expected.startswith("source/"):
        assert (site.folder / "docs" / expected).exists()


def test_each_page_leads_back_to_the_documentation_and_the_site_leaves_that_out(site: Site) -> None:
    docs = ROOT / "docs"
    pages = [*docs.glob("*.md"), *docs.glob("reference/*.md"), docs / "decisions" / "README.md"]
    for page in pages:
        first_line, *_ = page.read_text().splitlines()
        match = BACK_LINK.match(f"{first_line}\n\n")
        assert (match is None) == (page == docs / "README.md"), page
        if match is not None:
            assert (page.parent / first_line.partition("(")[2].rstrip(")")).samefile(docs / "README.md"), page
    assert site.rewrite("docs/a.md", "[← Documentation](README.md)\n\n# A\n") == "# A\n"


def test_the_page_of_a_folder_lists_its_files_and_copies_them(site: Site) -> None:
    site.rewrite("docs/a.md", "[deploy](../deploy)")
    copied = site.folder / "docs/source/deploy"
    assert (copied / "index.md").read_text() == "# deploy\n\n- [empty](empty/index.md)\n- [x.yaml](x.yaml)\n"
    assert (copied / "x.yaml").exists()


def test_the_navigation_names_each_page() -> None:
    navigation = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")}
    expected = {
        site_path(page)
        for page in pages
        if page.endswith("README.md") or Path(page).parent.name not in PAGES_OF_AN_INDEX
    }
    assert {page for page in leaves(navigation) if not page.startswith("project/")} == expected


@pytest.mark.slow
def test_a_broken_anchor_stops_the_build(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/README.md").write_text("# Home\n\n[x](#nothing)\n")
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"):
        (tmp_path / name).write_text(f"# {name}\n")
    (tmp_path / "zensical.toml").write_text('[project]\nsite_name = "x"\nsite_dir = "html"\n')
    with pytest.raises(SystemExit, match="anchor does not exist"):
        build(tmp_path)
    (tmp_path / "docs/README.md").write_text("# Home\n\n[x](#home)\n")
    assert (build(tmp_path) / "index.html").exists()


def leaves(value: Any) -> list[str]:
    match value:
        case str():
            return [value]
        case dict():
            return [page for each in value.values() for page in leaves(each)]
        case _:
            return [page for each in value for page in leaves(each)]
