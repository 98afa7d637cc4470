"""`connectorctl status`."""

from pathlib import Path

import pytest

from tests.connectorctl.typed import Type


def test_it_is_a_table(typed: Type, connectors: Path) -> None:
    code, out, _ = typed("status")
    assert code == 0
    assert out.splitlines()[1].split() == ["default/k8s-connector", "https://k8s.example:6443", "yes"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("status --source absent", "is not there; make it with", id="a folder that is not there"),
        pytest.param("status --kubeconfig absent", "kubeconfig absent not found", id="a kubeconfig missing"),
    ],
)
def test_a_failure_says_why(typed: Type, place: Path, line: str, message: str) -> None:
    code, out, err = typed(line)
    assert (code, out) == (1, "")
    assert message in err
