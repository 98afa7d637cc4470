"""`connectorctl init`."""

from pathlib import Path

from tests.connectorctl.typed import Type


def test_it_writes_an_example_and_says_what_is_next(typed: Type) -> None:
    code, out, err = typed("init")
    assert (code, out) == (0, "")
    assert "wrote connectors/k8s-connector.yaml" in err
    assert "connectorctl check connectors" in err
    assert Path("connectors/k8s-connector.yaml").is_file()


def test_the_folder_can_be_another(typed: Type) -> None:
    assert typed("init here").code == 0
    assert Path("here/k8s-connector.yaml").is_file()


def test_what_is_there_stays(typed: Type, connectors: Path) -> None:
    (connectors / "k8s-connector.yaml").write_text("mine")
    expected = "error: connectors/k8s-connector.yaml is there already; edit it, or name another folder\n"
    assert typed("init") == (1, "", expected)
    assert (connectors / "k8s-connector.yaml").read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_usage(typed: Type, place: Path) -> None:
    (place / "connectors").write_text("")
    code, _, err = typed("init")
    assert code == 2
    assert "'connectors' is a file" in err
