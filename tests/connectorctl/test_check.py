"""`connectorctl check`: every problem, with its place."""

from pathlib import Path

from connector_store.domain.settings import Settings
from connectorctl.check import check_folder
from connectorctl.example import MANIFESTS


def test_every_problem_is_named_with_its_line(tmp_path: Path) -> None:
    broken = MANIFESTS.replace("https://192.168.1.100:6443", "http://192.168.1.100").replace("REPLACE", '"a b', 1)
    (tmp_path / "a.yaml").write_text(broken.replace('"a b-WITH-A-TOKEN', '"a b"'))
    (tmp_path / "b.yaml").write_text("kind: ]")
    text, fatal, summary = check_folder(tmp_path, Settings())
    lines = text.splitlines()
    address = 1 + next(n for n, line in enumerate(broken.splitlines()) if "address:" in line)
    token = 1 + next(n for n, line in enumerate(broken.splitlines()) if "  token:" in line)
    assert any(line.startswith(f"{tmp_path}/a.yaml:{address}: Connector default/k8s-connector") for line in lines)
    assert any(line.startswith(f"{tmp_path}/a.yaml:{token}: Secret default/k8s-secret") for line in lines)
    assert any(line.startswith(f"{tmp_path}/b.yaml:1: ") for line in lines)
    assert fatal
    assert summary == f"0 of 1 Connectors can be used; {len(lines)} problems to mend"


def test_what_is_merely_not_run_is_said_and_no_failure(tmp_path: Path) -> None:
    (tmp_path / "class.yaml").write_text(
        "apiVersion: connectors.alauda.io/v1alpha1\nkind: ConnectorClass\nmetadata: {name: x}\n"
        "spec: {auth: {types: [{name: a, secretType: connectors.cpaas.io/bearer-token}]}, "
        "authProbes: [{authName: a, probe: {http: {path: '{{ .x }}'}}}]}\n"
    )
    text, fatal, _ = check_folder(tmp_path, Settings())
    assert "ConnectorClass x" in text
    assert not fatal


def test_one_problem_is_counted_as_one(tmp_path: Path) -> None:
    text, fatal, summary = check_folder(tmp_path / "absent", Settings())
    assert f"{tmp_path / 'absent'}: is not a folder" in text
    assert fatal
    assert summary.endswith("1 problem to mend")
