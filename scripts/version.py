"""The version, which connector_store/version.py has, in the files that cannot read it there.

scripts/version.py                    fails for each file that says another version
scripts/version.py VERSION            writes it everywhere
scripts/version.py VERSION --release  and makes that, with the day, the heading of what CHANGELOG.md has Unreleased
"""

import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = "connector_store/version.py"
SEMVER = r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?"
_IMAGE = r"localhost/kubernetes-connector:"
PLACES = {
    SOURCE: [r'VERSION: Final = "'],
    "Dockerfile": [r"ARG VERSION="],
    "charts/kubernetes-connector/Chart.yaml": [r"^version: ", r"^appVersion: "],
    "deploy/product/kustomization.yaml": [r"newTag: ", r"app\.kubernetes\.io/version: "],
    "deploy/examples/overlay/kustomization.yaml": [r"newTag: "],
    "docs/quickstart.md": [_IMAGE],
    "docs/helm.md": [r"image\.tag="],
    "docs/outside.md": [_IMAGE],
}
"""What stands before the version, at least once in each file."""


def pattern(before: str) -> re.Pattern[str]:
    return re.compile(f"({before})({SEMVER})", re.MULTILINE)


def version(root: Path) -> str:
    found = pattern(PLACES[SOURCE][0]).search((root / SOURCE).read_text())
    if found is None:
        raise ValueError(f"{SOURCE}: has no VERSION of the form MAJOR.MINOR.PATCH")
    return found[2]


def problems(root: Path) -> list[str]:
    """One line for each place that does not say the version."""
    wanted = version(root)
    found = []
    for file, befores in PLACES.items():
        text = (root / file).read_text()
        for before in befores:
            said = {each[2] for each in pattern(before).finditer(text)}
            if said != {wanted}:
                found.append(
                    f"{file}: {before} is {', '.join(sorted(said)) or 'not there'}, and {SOURCE} says {wanted}"
                )
    return found


def write(root: Path, wanted: str) -> None:
    """ValueError if it is no version."""
    if not re.fullmatch(SEMVER, wanted):
        raise ValueError(f"{wanted} is not MAJOR.MINOR.PATCH, with a -PRERELEASE or without (https://semver.org)")
    for file, befores in PLACES.items():
        path = root / file
        text = path.read_text()
        for before in befores:
            text = pattern(before).sub(rf"\g<1>{wanted}", text)
        path.write_text(text)


def close(changelog: str, wanted: str, day: date) -> str:
    """The changelog with an empty Unreleased; ValueError if there is nothing to release, or this version is there."""
    if re.search(rf"^## {re.escape(wanted)}\b", changelog, re.MULTILINE):
        raise ValueError(f"CHANGELOG.md: has {wanted} already")
    found = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if found is None or not found[1].strip():
        raise ValueError("CHANGELOG.md: there is nothing under Unreleased")
    start = found.start(1)
    return f"{changelog[:start]}\n## {wanted} - {day.isoformat()}\n{changelog[start:]}"


def main(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(f"{(__doc__ or '').strip()}\n")
        return 0
    try:
        match arguments:
            case [wanted, *rest] if rest in ([], ["--release"]):
                changelog = ROOT / "CHANGELOG.md"
                closed = close(changelog.read_text(), wanted, datetime.now(UTC).date()) if rest else None
                write(ROOT, wanted)
                if closed is not None:
                    changelog.write_text(closed)
            case []:
                pass
            case _:
                sys.stderr.write(f"{(__doc__ or '').strip()}\n")
                return 2
        wrong = problems(ROOT)
    except ValueError as error:
        wrong = [str(error)]
    for each in wrong:
        sys.stderr.write(f"error: {each}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
