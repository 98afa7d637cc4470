"""`connectorctl init`."""

from pathlib import Path

from tests.connectorctl.cli_result import RunCli


def test_an_example_is_written_with_the_next_step(run_cli: RunCli) -> None:
    code, out, err = run_cli("init")
    assert (code, out) == (0, "")
    assert "wrote connectors/k8s-connector.yaml" in err
    assert "connectorctl check connectors" in err
    assert Path("connectors/k8s-connector.yaml").is_file()


def test_the_folder_can_be_chosen(run_cli: RunCli) -> None:
    assert run_cli("init here").code == 0
    assert Path("here/k8s-connector.yaml").is_file()


def test_an_existing_file_stays(run_cli: RunCli, connectors: Path) -> None:
    (connectors / "k8s-connector.yaml").write_text("mine")
    expected = "error: connectors/k8s-connector.yaml exists already; edit it, or name another folder\n"
    assert run_cli("init") == (1, "", expected)
    assert (connectors / "k8s-connector.yaml").read_text() == "mine"


def test_a_file_in_place_of_the_folder_is_an_error(run_cli: RunCli, workdir: Path) -> None:
    (workdir / "connectors").write_text("")
    code, _, err = run_cli("init")
    assert code == 1
    assert "connectors exists already" in err


def test_the_folder_can_be_an_option(run_cli: RunCli, workdir: Path) -> None:
    assert run_cli("init --source there").code == 0
    assert (workdir / "there" / "k8s-connector.yaml").is_file()
    assert "b: the source is named twice; leave one of them out" in run_cli("init b --source c").err


def test_an_example_for_an_agent_masks_secrets_completely(run_cli: RunCli) -> None:
    assert run_cli("init --agent").code == 0
    path = Path("connectors/k8s-connector.yaml")
    path.write_text(path.read_text().replace("REPLACE-WITH-A-TOKEN", "s3cret").replace("k8s.example", "k8s.corp"))
    assert "1 of 1 Connectors can be used; no problems\n" in run_cli("check").err
    assert run_cli("can-i get secrets -n a").out == "yes, masked\n"
    assert run_cli("can-i create pods/exec -n a").out == "no\n"
