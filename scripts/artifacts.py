"""Create parts of a release; scripts/release combines them.

artifacts.py notes CHANGELOG SECTION…    print the first of these sections of the changelog that is not empty
artifacts.py sbom LOCK VERSION           print the CycloneDX SBOM of the packages that the lock file puts into the image
artifacts.py repack PACKAGE TARGET       write a .tgz again with fixed times, owners and order
SOURCE_DATE_EPOCH is the time in the files (https://reproducible-builds.org/specs/source-date-epoch).
"""

import gzip
import io
import json
import os
import re
import sys
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.markers import Marker
from usage import show_help

IMAGE_ENVIRONMENT = {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "python_version": "3.13",
         "python_full_version": "3.13.0", "implementation_name": "cpython", "platform_python_implementation": "CPython",
         "platform_machine": "x86_64"}  # fmt: skip
"""Environment of the image, for which the markers of the lock file are evaluated."""
PRODUCT = "kubernetes-connector"
_REQUIREMENT = re.compile(r"^([A-Za-z0-9_.-]+)==([^\s;\\]+)(?: *; *([^\\]+?))? *\\?$")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class LockedPackage:
    """A package of the lock file. `required_by` has the names of the packages that require it, or of the product."""

    name: str
    version: str
    hashes: tuple[str, ...]
    required_by: tuple[str, ...]


def release_notes(changelog: str, *sections: str) -> str:
    """Return the content of the first section that is not empty. Raise ValueError if there is none."""
    for section in sections:
        match = re.search(
            rf"^## {re.escape(section)}(?: [^\n]*)?\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL
        )
        if match and (text := match[1].strip()):
            return text + "\n"
    headings = " or ".join(f'"## {section}"' for section in sections)
    raise ValueError(
        f"CHANGELOG.md: there is nothing under {headings}; run scripts/version.py VERSION --release, and commit"
    )


def parse_lock(lock: str) -> Iterator[LockedPackage]:
    """Yield the packages of a lock file of `uv pip compile --generate-hashes` that a Linux image contains."""
    for block in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE):
        lines = block.splitlines()
        match = _REQUIREMENT.match(lines[0]) if lines else None
        if match is None or (match[3] and not Marker(match[3]).evaluate(IMAGE_ENVIRONMENT)):
            continue
        via = re.findall(r"^    #   (?:via )?(\S+)|^    # via (\S+)", block, re.MULTILINE)
        names = {PRODUCT if one.startswith(PRODUCT) else one for pair in via for one in pair if one}
        yield LockedPackage(
            name=match[1], version=match[2], hashes=tuple(_HASH.findall(block)), required_by=tuple(sorted(names))
        )


def sbom(lock: str, version: str, timestamp: datetime) -> dict[str, Any]:
    """Return a CycloneDX 1.6 document (https://cyclonedx.org/docs/1.6/json) with the digests of all packages' files."""
    packages = list(parse_lock(lock))
    references = {package.name: f"pkg:pypi/{package.name.lower()}@{package.version}" for package in packages}
    product = {"type": "application", "bom-ref": PRODUCT, "name": PRODUCT, "version": version}
    identity = f"{PRODUCT}@{version}#{timestamp.timestamp():.0f}"
    dependencies: dict[str, list[str]] = {PRODUCT: [], **{package.name: [] for package in packages}}
    for package in packages:
        for user in package.required_by:
            dependencies.get(user, []).append(references[package.name])
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, identity)}",
        "version": 1,
        "metadata": {"timestamp": timestamp.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": product},
        "components": [
            {
                "type": "library",
                "bom-ref": references[package.name],
                "name": package.name,
                "version": package.version,
                "purl": references[package.name],
                "hashes": [{"alg": "SHA-256", "content": digest} for digest in package.hashes],
            }
            for package in packages
        ],
        "dependencies": [
            {"ref": references.get(name, name), "dependsOn": sorted(used)} for name, used in dependencies.items()
        ],
    }


def repack(package: bytes, timestamp: datetime) -> bytes:
    """Return an archive with the same files, sorted by name, without owners and with one time."""
    content: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(package), mode="r:gz") as source:
        for member in source:
            file = source.extractfile(member)
            if file is not None:
                content[member.name] = file.read()
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as target:
        for name in sorted(content):
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content[name]), 0o644, int(timestamp.timestamp())
            target.addfile(entry, io.BytesIO(content[name]))
    return gzip.compress(tar.getvalue(), mtime=0)


def main(arguments: list[str]) -> int:
    if show_help(arguments, __doc__):
        return 0
    timestamp = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    try:
        match arguments:
            case ["notes", changelog, *sections] if sections:
                sys.stdout.write(release_notes(Path(changelog).read_text(), *sections))
            case ["sbom", lock, version]:
                sys.stdout.write(json.dumps(sbom(Path(lock).read_text(), version, timestamp), indent=1) + "\n")
            case ["repack", package, target]:
                Path(target).write_bytes(repack(Path(package).read_bytes(), timestamp))
            case _:
                sys.stderr.write(f"{__doc__}\n")
                return 2
    except ValueError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
