"""Check or write the version of connector_store/version.py in the files that must repeat it.

scripts/version.py                    report each file with another version; exit code 1 if there is one
scripts/version.py VERSION            write VERSION to all files
scripts/version.py VERSION --release  also move the section Unreleased of CHANGELOG.md under VERSION and today's date
"""

import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = "connector_store/version.py"
SEMVER = r"\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?"
_IMAGE = r"localhost/kubernetes-connector:"
VERSION_PREFIXES = {
    SOURCE: [r'VERSION: Final = "'],
    "Dockerfile": [r"ARG VERSION="],
    "charts/kubernetes-connector/Chart.yaml": [r"^version: ", r"^appVersion: "],
    "deploy/product/kustomization.yaml": [r"newTag: ", r"app\.kubernetes\.io/version: "],
    "deploy/examples/overlay/kustomization.yaml": [r"newTag: "],
    "docs/quickstart.md": [_IMAGE],
    "docs/helm.md": [r"image\.tag="],
    "docs/kind.md": [_IMAGE, r"image\.tag="],
    "docs/outside.md": [_IMAGE],
}
"""Patterns of the text before the version. Each occurs at least once in its file."""


def version_pattern(prefix: str) -> re.Pattern[str]:
    return re.compile(f"({prefix})({SEMVER})", re.MULTILINE)


def read_version(root: Path) -> str:
    match = version_pattern(VERSION_PREFIXES[SOURCE][0]).search((root / SOURCE).read_text())
    if match is None:
        raise ValueError(f"{SOURCE}: has no VERSION of the form MAJOR.MINOR.PATCH")
    return match[2]


def find_problems(root: Path) -> list[str]:
    """Return one line for each place with another version."""
    expected = read_version(root)
    messages = []
    for file, prefixes in VERSION_PREFIXES.items():
        text = (root / file).read_text()
        for prefix in prefixes:
            versions = {match[2] for match in version_pattern(prefix).finditer(text)}
            if versions != {expected}:
                messages.append(
                    f"{file}: {prefix} is {', '.join(sorted(versions)) or 'not there'}, and {SOURCE} says {expected}"
                )
    return messages


def write_version(root: Path, new_version: str) -> None:
    """Write the version to all files. Raise ValueError if it is not a version."""
    if not re.fullmatch(SEMVER, new_version):
        raise ValueError(f"{new_version} is not MAJOR.MINOR.PATCH, with a -PRERELEASE or without (https://semver.org)")
    for file, prefixes in VERSION_PREFIXES.items():
        path = root / file
        text = path.read_text()
        for prefix in prefixes:
            text = version_pattern(prefix).sub(rf"\g<1>{new_version}", text)
        path.write_text(text)


def close_unreleased(changelog: str, new_version: str, day: date) -> str:
    """Return the changelog with the section Unreleased moved under the new version.

    Raise ValueError if the section is empty, or if the changelog has the version already.
    """
    if re.search(rf"^## {re.escape(new_version)}\b", changelog, re.MULTILINE):
        raise ValueError(f"CHANGELOG.md: has {new_version} already")
    match = re.search(r"^## Unreleased\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if match is None or not match[1].strip():
        raise ValueError("CHANGELOG.md: section Unreleased is empty; describe the release there")
    start = match.start(1)
    return f"{changelog[:start]}\n## {new_version} - {day.isoformat()}\n{changelog[start:]}"


def main(arguments: list[str]) -> int:
    if {"-h", "--help"} & set(arguments):
        sys.stdout.write(f"{(__doc__ or '').strip()}\n")
        return 0
    try:
        match arguments:
            case [new_version, *rest] if rest in ([], ["--release"]):
                changelog = ROOT / "CHANGELOG.md"
                new_changelog = (
                    close_unreleased(changelog.read_text(), new_version, datetime.now(UTC).date()) if rest else None
                )
                write_version(ROOT, new_version)
                if new_changelog is not None:
                    changelog.write_text(new_changelog)
            case []:
                pass
            case _:
                sys.stderr.write(f"{(__doc__ or '').strip()}\n")
                return 2
        errors = find_problems(ROOT)
    except ValueError as error:
        errors = [str(error)]
    for message in errors:
        sys.stderr.write(f"error: {message}\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
