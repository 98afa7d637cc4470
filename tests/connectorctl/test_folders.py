"""The error for a folder that does not exist."""

from pathlib import Path

from connectorctl.folders import missing_folder_error


def test_the_command_can_be_typed_as_it_stands() -> None:
    text = "folder \"a b\" does not exist; create it with: connectorctl init 'a b'"
    assert str(missing_folder_error(Path("a b"))) == text


def test_the_default_folder_can_also_be_created_from_a_kubeconfig() -> None:
    text = "connectorctl init connectors, or from a kubeconfig with: connectorctl import"
    assert str(missing_folder_error(Path("./connectors"))).endswith(f"does not exist; create it with: {text}")
