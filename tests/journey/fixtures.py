"""`product`: the whole product, for the session's node; `quickstart` installs it by the commands of its page.

`worker`: a pod of it that uses the node's own cluster.
"""

from collections.abc import Iterator

import pytest

from lab.node.node import Node
from tests.journey.documents import BY_CALLER, shell_blocks
from tests.journey.product import Product, Target
from tests.journey.worker import Worker


@pytest.fixture(scope="session")
def product(product_image: str, node: Node, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """Removed at the end, unless a test has done that."""
    target = Target(tmp_path_factory.mktemp("target"), node)
    try:
        target.start()
        product = Product(node, target, tmp_path_factory.mktemp("journey") / "repository")
        product.tag_kubectl_image()
        yield product
        if product.is_installed():
            product.shell(["kubectl delete --ignore-not-found -k deploy/uninstall"])
    finally:
        target.close()


@pytest.fixture(scope="session")
def quickstart(product: Product) -> str:
    """The output of the quick start's first half, from the installation to the log of its Job."""
    return product.shell(shell_blocks("quickstart.md", before=BY_CALLER))


@pytest.fixture(scope="session")
def worker(product: Product, quickstart: str) -> Worker:
    return Worker(product)
