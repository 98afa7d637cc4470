"""`check --probe` with real TLS servers on loopback."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from connector_store.domain.config.settings import Settings
from connector_store.probes import Prober
from connectorctl.check import check_folder
from connectorctl.example import MANIFESTS
from connectorctl.probe import probe_targets
from lab.certificates import make_ca
from lab.ports import Port
from lab.targets import CA, TargetServer, run_target, status_response

TOKEN = "s3cret-canary"


@pytest.fixture(autouse=True)
def slow_probes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Probes may take as long as they need on a busy machine, instead of 5 s."""
    monkeypatch.setattr("connectorctl.probe.Prober", partial(Prober, timeout=120.0))


@pytest.fixture
def server() -> Iterator[TargetServer]:
    with run_target() as server:
        yield server


def probe(folder: Path, address: str, ca: bytes = CA.pem) -> list[str]:
    indented = "".join(f"    {line}\n" for line in ca.decode().splitlines())
    text = MANIFESTS.replace("REPLACE-WITH-A-TOKEN", f"{TOKEN}\n  ca.crt: |\n{indented}", 1)
    (folder / "a.yaml").write_text(text.replace("https://k8s.example:6443", address))
    report = check_folder(folder, Settings(), now=0.0)
    assert len(report.targets) == 1, report.findings
    findings = [str(finding).removeprefix(f"{folder}/") for finding in probe_targets(report.targets, Settings())]
    assert TOKEN not in repr(findings)
    return findings


def test_a_target_that_responds_has_no_findings(tmp_path: Path, server: TargetServer) -> None:
    assert probe(tmp_path, f"https://127.0.0.1:{server.port}") == []


def test_a_target_that_is_down_is_reported_at_its_address(tmp_path: Path) -> None:
    port = Port()
    [line] = probe(tmp_path, f"https://127.0.0.1:{port.number}")
    assert "Connector default/k8s-connector: spec.address: " in line
    assert f"127.0.0.1:{port.number}: Connection refused; check that an API server listens there" in line


def test_a_wrong_ca_is_reported_at_the_address(tmp_path: Path, server: TargetServer) -> None:
    [line] = probe(tmp_path, f"https://127.0.0.1:{server.port}", make_ca().pem)
    assert "its certificate is not valid" in line


def test_a_refused_token_is_reported_at_the_secret(tmp_path: Path) -> None:
    with run_target(respond=lambda head: status_response(200 if b" /livez " in head else 401)) as server:
        [line] = probe(tmp_path, f"https://127.0.0.1:{server.port}")
    assert ": spec.auth.secretRef.name: Authentication failed: status code 401" in line
