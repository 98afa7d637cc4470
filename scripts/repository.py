"""Read or write the public address of this repository in pyproject.toml ([project.urls]) and the chart (home, sources).

scripts/repository.py        print the address; exit code 1 if there is none
scripts/repository.py URL    write the address to both files
"""

import re
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from usage import show_help

ROOT = Path(__file__).parents[1]
_CHART = "charts/kubernetes-connector/Chart.yaml"
_TABLE = re.compile(r"^\[project\.urls\]\n(?:[^\[\n].*\n)*\n", re.MULTILINE)
_CHART_LINES = re.compile(r"^(?:home|sources): .*\n", re.MULTILINE)
_QUOTABLE = re.compile(r"[!#-\[\]-~]+")
"""Characters that need no escape in quotes in TOML and YAML: visible ASCII except quotes and backslashes."""


def read_address(root: Path) -> str | None:
    urls: dict[str, str] = tomllib.loads((root / "pyproject.toml").read_text())["project"].get("urls", {})
    return urls.get("Repository")


def write_address(root: Path, url: str) -> None:
    """Write the address to both files. Raise ValueError if it is not a public https URL."""
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.username or not _QUOTABLE.fullmatch(url):
        raise ValueError(f"{url} is not https://HOST/PATH")
    project, chart = root / "pyproject.toml", root / _CHART
    table = f'[project.urls]\nRepository = "{url}"\n\n'
    text = _TABLE.sub("", project.read_text())
    project.write_text(text.replace("[project.scripts]\n", f"{table}[project.scripts]\n", 1))
    text = _CHART_LINES.sub("", chart.read_text())
    chart.write_text(text.replace("keywords: ", f'home: "{url}"\nsources: ["{url}"]\nkeywords: ', 1))


def main(arguments: list[str]) -> int:
    if show_help(arguments, __doc__):
        return 0
    try:
        match arguments:
            case []:
                current_url = read_address(ROOT)
                if current_url is None:
                    raise ValueError(
                        "pyproject.toml: project.urls has no Repository; scripts/repository.py URL writes it"
                    )
                sys.stdout.write(f"{current_url}\n")
            case [url] if not url.startswith("-"):
                write_address(ROOT, url)
            case _:
                sys.stderr.write(f"{(__doc__ or '').strip()}\n")
                return 2
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
