"""Build the documentation site from docs/ into build/site/html. A broken link or anchor stops the build.

scripts/site          build the site
scripts/site --serve  build the site, then show it at http://127.0.0.1:8000

Pages link to files of the repository outside docs/. The site contains a copy of each of these files.
"""

import os
import posixpath
import re
import shutil
import subprocess
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from usage import show_help

ROOT = Path(__file__).parents[1]
PROJECT_PAGES = ("README.md", "README.zh.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
"""Pages of the repository's root that the site shows below project/."""
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#:]+)(#[^)\s]*)?\)")
"""A Markdown link or image to a file: text, path, fragment. URLs contain a colon, so they do not match."""
BACK_LINK = re.compile(r"\A\[← Documentation\]\([^)]*\)\n\n")
"""First line of a page in the repository. The site has its navigation instead."""
ADDRESS = ("127.0.0.1", 8000)


class Site:
    """Site sources: pages with links rewritten to the site's own layout, and copies of the files that they link to."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.root = root
        self.folder = folder
        self.copied: set[str] = set()

    def write(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.root / "docs", self.folder / "docs", ignore=shutil.ignore_patterns("*.md"))
        pages = [path.relative_to(self.root).as_posix() for path in (self.root / "docs").rglob("*.md")]
        for page in (*pages, *(page for page in PROJECT_PAGES if (self.root / page).exists())):
            target = self.folder / "docs" / site_path(page)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.rewrite(page, (self.root / page).read_text()))
        shutil.copy(self.root / "zensical.toml", self.folder)

    def rewrite(self, page: str, text: str) -> str:
        """Return the page's text with links that are valid in the site."""

        def replace(link: re.Match[str]) -> str:
            opening, path, fragment = link[1], link[2], link[3] or ""
            repository_path = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
            if not (self.root / repository_path).exists():
                return link[0]  # the strict build reports it
            self.copy(repository_path)
            target = posixpath.relpath(site_path(repository_path), posixpath.dirname(site_path(page)) or ".")
            if (self.root / repository_path).is_dir():
                target += f"/{self.index_of(repository_path)}"
            return f"{opening}{target}{fragment})"

        return LINK.sub(replace, BACK_LINK.sub("", text))

    def index_of(self, folder: str) -> str:
        return "README.md" if (self.root / folder / "README.md").exists() else "index.md"

    def copy(self, repository_path: str) -> None:
        """Copy a linked file outside docs/. Of a folder, write a page that lists its files."""
        if repository_path in self.copied or not site_path(repository_path).startswith("source/"):
            return
        self.copied.add(repository_path)
        source, target = self.root / repository_path, self.folder / "docs" / site_path(repository_path)
        if source.is_dir() and self.index_of(repository_path) == "README.md":
            self.copy(f"{repository_path}/README.md")
        elif source.is_dir():
            children = [child for child in sorted(source.iterdir()) if not child.name.startswith(("_", "."))]
            lines = [f"- [{child.name}]({child.name}{'/' if child.is_dir() else ''})" for child in children]
            page = f"{repository_path}/index.md"
            target.mkdir(parents=True, exist_ok=True)
            text = f"# {repository_path}\n\n" + "\n".join(lines) + "\n"
            (target / "index.md").write_text(self.rewrite(page, text))
        elif source.suffix == ".md":
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(self.rewrite(repository_path, source.read_text()))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)


def site_path(repository_path: str) -> str:
    """Return where the site has a file of the repository, relative to the site's root."""
    if repository_path.startswith("docs/"):
        return repository_path.removeprefix("docs/")
    return f"project/{repository_path}" if repository_path in PROJECT_PAGES else f"source/{repository_path}"


def build(root: Path) -> Path:
    """Build the site strictly and return its folder. Raise SystemExit with the problems of a broken page."""
    folder = root / "build" / "site"
    Site(root, folder).write()
    command = [str(Path(sys.executable).with_name("zensical")), "build", "--strict"]
    result = subprocess.run(
        command, cwd=folder, env=os.environ | {"NO_COLOR": "1"}, capture_output=True, text=True, check=False
    )
    if result.returncode:
        problems = (result.stdout + result.stderr).partition("Traceback")[0]
        raise SystemExit(f"{problems}\nerror: the documentation site has problems; fix the lines above in docs/")
    return folder / "html"


def main(arguments: list[str]) -> int:
    if show_help(arguments, __doc__):
        return 0
    if arguments not in ([], ["--serve"]):
        sys.stderr.write(f"{(__doc__ or '').strip()}\n")
        return 2
    html = build(ROOT)
    sys.stdout.write(f"wrote {html.relative_to(ROOT)}/index.html\n")
    if arguments:
        sys.stdout.write(f"open http://{ADDRESS[0]}:{ADDRESS[1]}; stop with Ctrl-C\n")
        ThreadingHTTPServer(ADDRESS, partial(SimpleHTTPRequestHandler, directory=str(html))).serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
