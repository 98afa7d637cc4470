"""Shell completion."""

from pathlib import Path

import pytest

from connectorctl.complete import complete_connectors, print_kubectl_completions
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions

CHECK = "Validate a folder of manifests, and report each problem with file and line."


def test_names_are_sorted(connectors_folder: Path) -> None:
    assert complete_connectors(SourceOptions(), Invocation()) == ["a/first", "default/k8s-connector"]


@pytest.fixture
def connectors_folder(connectors: Path) -> Path:
    (connectors / "b.yaml").write_text(
        "apiVersion: connectors.alauda.io/v1alpha1\nkind: Connector\nmetadata: {name: first, namespace: a}\nspec: {}\n"
    )
    return connectors


@pytest.mark.parametrize(
    "source_options",
    [
        pytest.param(SourceOptions(), id="no such folder"),
        pytest.param(SourceOptions(kubeconfig="absent"), id="no such cluster"),
        pytest.param(SourceOptions(source="d", context="c"), id="options that do not fit together"),
    ],
)
def test_an_unreadable_source_completes_nothing(source_options: SourceOptions, workdir: Path) -> None:
    assert complete_connectors(source_options, Invocation()) == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["che"], [f"check\t{CHECK}", ":4"], id="a command"),
        pytest.param(["completion", "z"], ["zsh", ":4"], id="a choice"),
        pytest.param(["token", "x", "--cont"], ["--context\tContext of the kubeconfig.", ":4"], id="an option"),
        pytest.param(["check", ""], [":0"], id="a file is for the shell to complete"),
        pytest.param(["token", "default/k8s-connector", "x"], [":4"], id="no further argument"),
        pytest.param(["token", "--source", "connectors", "d"], ["default/k8s-connector", ":4"], id="a Connector"),
    ],
)  # fmt: skip
def test_completions_for_kubectl(
    words: list[str], expected: list[str], connectors_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert print_kubectl_completions(words) == 0
    assert capsys.readouterr().out.splitlines() == expected


def test_without_words_all_commands_are_completed(capsys: pytest.CaptureFixture[str]) -> None:
    assert print_kubectl_completions([]) == 0
    assert "kubeconfig\t" in capsys.readouterr().out
