"""Fixtures of a whole node; they work inside `scripts/cluster isolate` only, as `scripts/test node` runs them.

`node`            one `Node` for the session; a test may restart its kubelet and API server, and leaves them running
`node_namespace`  a fresh namespace on it, with ServiceAccount `default`; deleted afterwards, without waiting
`product_image`   name of the product's image, imported into the node
`csi_sanity`      path of the csi-sanity program
`promtool`        path of Prometheus' tool, next to prometheus; needs no node
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector_store.version import VERSION
from lab.go_modules import ProgramsMissingError
from lab.node.isolation import is_isolated
from lab.node.node import Node
from lab.node.requirements import find_missing
from lab.programs import CSI_TEST, ensure_programs, node_programs, prometheus_programs

PRODUCT = f"localhost/kubernetes-connector:{VERSION}"
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="session")
def isolated_node_programs() -> list[Path]:
    try:
        programs = node_programs()
        reason = find_missing() or (
            "" if is_isolated() else "a node needs private namespaces: run it by `scripts/test node`"
        )
    except ProgramsMissingError as error:
        programs, reason = [], str(error)
    if reason and os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
    return programs


@pytest.fixture(scope="session")
def node(isolated_node_programs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with Node(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.fixture(scope="session")
def product_image(node: Node) -> str:
    """Import the image; `scripts/test node` built it with `scripts/image --debian --archive`, before the namespaces."""
    archive = Path(__file__).parents[2] / "build" / "image.tar"
    if not archive.exists():
        pytest.fail(f"no {archive}; run: scripts/image --debian --archive {archive}", pytrace=False)
    node.import_image(archive)
    return PRODUCT


@pytest.fixture
def node_namespace(node: Node) -> Iterator[str]:
    name = f"test-{next(_NUMBERS)}"
    node.kubectl("create", "namespace", name)
    node.kubectl("wait", "--for=create", "serviceaccount/default", "--timeout=150s", namespace=name)
    yield name
    node.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="session")
def csi_sanity() -> Path:
    try:
        return ensure_programs(CSI_TEST, ["csi-sanity"]) / "csi-sanity"
    except ProgramsMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def promtool() -> Path:
    try:
        return prometheus_programs() / "promtool"
    except ProgramsMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
