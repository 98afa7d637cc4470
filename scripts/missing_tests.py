"""Report each source file without a test file: PACKAGE/…/NAME.py needs tests/PACKAGE/…/test_NAME.py.

A file with declarations alone needs none, because its tests would test Python.
"""

import ast
import sys
from pathlib import Path

from usage import show_help

PACKAGES = ("addons", "connector_store", "connector_controller", "connector_csi", "connectorctl")


def expected_test_file(source: Path) -> Path:
    return Path("tests") / source.parent / f"test_{source.name}"


def needs_test(source: Path) -> bool:
    if source.name in ("__init__.py", "__main__.py") or "_pb2" in source.name:
        return False
    return any(has_behaviour(node) for node in ast.walk(ast.parse(source.read_text())))


def has_behaviour(node: ast.AST) -> bool:
    """Return True for a function whose body is more than a docstring or `...`."""
    if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        return False
    return any(not (isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant)) for child in node.body)


def main() -> int:
    if show_help(sys.argv[1:], __doc__):
        return 0
    sources = [source for package in PACKAGES for source in Path(package).rglob("*.py") if needs_test(source)]
    untested = [source for source in sorted(sources) if not expected_test_file(source).exists()]
    for source in untested:
        sys.stderr.write(f"error: {source} has no test file; write {expected_test_file(source)}\n")
    return 1 if untested else 0


if __name__ == "__main__":
    sys.exit(main())
