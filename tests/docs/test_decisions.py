"""The decisions have one form, and what they name is in the tree."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT
from tests.docs.vocabulary import product_files

FOLDER = DOCS / "decisions"
DECISIONS = sorted(FOLDER.glob("[0-9]*.md"))
HEADINGS = ["## Question", "## Decision", "## What follows", "## Not taken"]
SOURCES = ("addons", "connector_store", "connector_controller", "connector_csi", "connectorctl", "charts", "deploy",
           "image", "scripts")  # fmt: skip
EXTERNAL = {
    # Kubernetes and its tools
    "PartialObjectMetadata": "Kubernetes API type",
    "X-Remote-*": "headers of an API server's front proxy",
    "authExtractor": "field of the Alauda product's ConnectorClass",
    "deprecated: true": "field of a CustomResourceDefinition",
    "files": "source of nsswitch.conf",
    "generator": "field of the Alauda product's ConnectorClass",
    "helm template": "command of Helm",
    "kubectl --as": "option of kubectl",
    "kubectl apply": "command of kubectl",
    "kubernetes.aio.leaderelection": "module of the client library",
    "status.storedVersions": "field of a CustomResourceDefinition",
    # the system
    "add_reader": "method of asyncio's event loop",
    "asyncio.Transport": "class of asyncio",
    "OPENSSL_CONF": "environment variable of OpenSSL",
    "dns": "source of nsswitch.conf",
    "eager_start": "argument of asyncio's tasks",
    "getaddrinfo": "function of the C library",
    "localhost": "host name",
    "ndots": "option of resolv.conf",
    "net.core.netdev_max_backlog": "sysctl",
    "pip install": "command of pip",
    # mitmproxy
    "client_connected": "hook of mitmproxy",
    "client_disconnected": "hook of mitmproxy",
    "mitmdump": "program of mitmproxy",
    "proxyserver.active_connections": "method of mitmproxy's addon",
    "server_conn": "attribute of mitmproxy's flows",
    "tcp_timeout": "option of mitmproxy",
    # rejected, or for later
    "crds/": "folder of Helm's charts",
    "kubernetes_connector": "future package",
    "kubernetes_connector.proxy": "future package",
    ".controller": "future package",
    ".csi": "future package",
    ".ctl": "future package",
    ".store": "future package",
    "v1beta1": "future version",
}
"""Back-quoted text that the product's sources do not have, and what it is."""
PATH = re.compile(r"[\w.-]*/[\w./-]*|[\w-]+\.(?:py|cnf|yaml|md)")
CLASS = re.compile(r"[A-Z]\w*[a-z]\w*\.\w+|(?:[A-Z][a-z]+){2,}")
"""A class with one of its attributes, or alone."""


def titles() -> list[tuple[str, str]]:
    return [(path.name, path.read_text().partition("\n")[0].removeprefix("# ")) for path in DECISIONS]


def quoted(path: Path) -> list[str]:
    return re.findall(r"`([^`]+)`", path.read_text())


def class_names() -> set[str]:
    trees = (ast.parse(file.read_text()) for file in product_files())
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def source_text() -> str:
    return "\n".join(file.read_text() for folder in SOURCES for file in _text_files(ROOT / folder))


def _text_files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        if (
            file.is_file()
            and file.suffix in (".py", ".yaml", ".tpl", ".cnf", ".json", "")
            and file.stat().st_size < 10**6
        ):
            yield file


@pytest.fixture(scope="module")
def sources() -> str:
    return source_text()


@pytest.fixture(scope="module")
def classes() -> set[str]:
    return class_names()


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name[:4])
def test_each_has_the_four_headings(path: Path) -> None:
    assert re.findall(r"^## .*$", path.read_text(), re.MULTILINE) == HEADINGS


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name[:4])
def test_each_title_begins_with_the_number_of_its_file(path: Path) -> None:
    assert path.read_text().startswith(f"# {int(path.name[:4])}. ")


def test_the_list_has_each_title_in_order() -> None:
    listed = re.findall(r"^\d+\. \[(.+)\]\((.+)\)$", (FOLDER / "README.md").read_text(), re.MULTILINE)
    assert [(file, title) for title, file in listed] == [(file, title.split(". ", 1)[1]) for file, title in titles()]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.name[:4])
def test_what_is_named_is_in_the_tree(path: Path, sources: str, classes: set[str]) -> None:
    names = [name for name in quoted(path) if name not in EXTERNAL]
    assert [name for name in names if not _exists(name, sources, classes)] == []


def _exists(name: str, sources: str, classes: set[str]) -> bool:
    if PATH.fullmatch(name) and (ROOT / name).exists():
        return True
    if CLASS.fullmatch(name):
        first, _, attribute = name.partition(".")
        return first in classes and (not attribute or _is_word(attribute, sources))
    if _is_word(name.strip("*…"), sources):
        return True
    # A command with its arguments, or a URL with the name of a Connector in it.
    parts = name.removeprefix("http://").replace("NAME.NAMESPACE", " ").split()
    return len(parts) > 1 and all((ROOT / part).exists() or part in sources for part in parts)


def _is_word(name: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None if name[-1:].isalnum() else name in text


def test_no_external_name_is_listed_without_need() -> None:
    named = {name for path in DECISIONS for name in quoted(path)}
    assert EXTERNAL.keys() - named == set()
