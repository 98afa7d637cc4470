"""Build connectorctl as one file: scripts/one_file.py FILE. It needs Python 3.12 or newer, and nothing else.

The file is a zip archive that Python runs (PEP 441). It contains this product's command line, and the pure Python
packages that it imports for what a job needs: kubeconfig, token, run and credential, with --oidc or a cluster, and
doctor. The same sources give the same bytes. FILE.sha256 has its checksum, in the format of sha256sum.
"""

import hashlib
import importlib.util
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from usage import show_help

ROOT: Final = Path(__file__).parents[1]
PRODUCT: Final = ("connectorctl", "connector_store")
LIBRARIES: Final = ("click", "yaml")
"""Packages of others. They have no compiled parts, or work without them."""
SHEBANG: Final = b"#!/usr/bin/env python3\n"
_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""Time of each file in the archive. Zip archives begin at this year."""
_MODE: Final = 0o100644 << 16
MAIN: Final = """\
import sys

if sys.version_info < (3, 12):
    sys.exit("error: connectorctl needs Python 3.12 or newer, and this is %d.%d" % sys.version_info[:2])

from connectorctl.__main__ import main

main()
"""


def build(path: Path) -> None:
    """Write the program and its checksum."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(SHEBANG)
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            _add(archive, "__main__.py", MAIN.encode())
            for name, source in sorted(_sources()):
                _add(archive, name, source.read_bytes())
    path.chmod(0o755)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n")


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, _TIME)
    info.external_attr, info.compress_type = _MODE, zipfile.ZIP_DEFLATED
    archive.writestr(info, content)


def _sources() -> Iterator[tuple[str, Path]]:
    """Yield the Python files with their names in the archive."""
    for package in (*PRODUCT, *LIBRARIES):
        folder = ROOT / package if package in PRODUCT else _library(package)
        for file in folder.rglob("*.py"):
            yield str(Path(package) / file.relative_to(folder)), file


def _library(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"error: {name} is not installed; run scripts/install")
    return Path(spec.origin).parent


def main(arguments: list[str]) -> int:
    if show_help(arguments, __doc__):
        return 0
    if len(arguments) != 1:
        sys.stderr.write(f"{__doc__}\n")
        return 2
    build(Path(arguments[0]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
