"""Fails for each source file that has no test file: tests/PACKAGE/…/test_NAME.py for PACKAGE/…/NAME.py."""

import sys
from pathlib import Path

PACKAGES = ("addons", "connector_store", "connector_controller", "connector_csi", "connectorctl")


def wanted(source: Path) -> Path:
    return Path("tests") / source.parent / f"test_{source.name}"


def needs_test(source: Path) -> bool:
    return source.name not in ("__init__.py", "__main__.py") and "_pb2" not in source.name


def main() -> int:
    sources = [source for package in PACKAGES for source in Path(package).rglob("*.py") if needs_test(source)]
    absent = [source for source in sorted(sources) if not wanted(source).exists()]
    for source in absent:
        sys.stderr.write(f"error: {source} has no test file; write {wanted(source)}\n")
    return 1 if absent else 0


if __name__ == "__main__":
    sys.exit(main())
