"""docs/without-the-driver.md, word by word: a pod on a node without the driver."""

from lab.node.csi_driver import eventually
from tests.journey.documents import shell_blocks
from tests.journey.product import Product


def test_the_page_works_word_by_word(product: Product, quickstart: str) -> None:
    printed = product.shell(shell_blocks("without-the-driver.md"))
    assert "kube-system" in printed[printed.rindex("NAME ") :].split()
    [volume] = product.kubectl.json("get", "job", "without-the-driver", namespace="team-a")["spec"]["template"]["spec"][
        "volumes"
    ]
    assert "csi" not in volume


def test_its_requests_are_those_of_the_pods_own_account(product: Product) -> None:
    def users() -> set[str]:
        callers = [each["caller"] for each in product.audit() if each.get("connector") == "team-a/target"]
        return {each["user"] for each in callers if each and (each.get("pod") or "").startswith("without-the-driver-")}

    assert eventually(users) == {"system:serviceaccount:team-a:pipeline"}
