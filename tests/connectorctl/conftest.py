"""A working folder with a proxy's confdir and an example folder, without environment variables of this machine."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from connectorctl import cli
from connectorctl.example import write_example
from connectorctl.option_values import SourceOptions
from connectorctl.proxy_ca import CA_FILE
from lab.certificates import make_ca
from lab.kubectl import write_kubeconfig
from tests.connectorctl.cli_result import CliResult, RunCli
from tests.connectorctl.fake_access_cluster import FakeAccessCluster
from tests.fakes.api_server import FakeApiServer


@pytest.fixture
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder. Its `confdir` is that of a proxy that has run once."""
    for name in [each for each in os.environ if each.startswith(("CONNECTOR", "KUBE", "NO_COLOR"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "confdir").mkdir()
    (tmp_path / "confdir" / CA_FILE).write_bytes(make_ca().pem)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def connectors(workdir: Path) -> Path:
    """Folder `connectors` in the working folder, with the example."""
    return write_example(Path("connectors")).parent


@pytest.fixture
def run_cli(workdir: Path, capsys: pytest.CaptureFixture[str]) -> RunCli:
    """Run one command line in this process."""

    def run(line: str, *, plugin: bool = False) -> CliResult:
        code = cli.run(line.split(), is_plugin=plugin)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return CliResult(code, out, err)

    return run


@pytest.fixture
async def cluster(workdir: Path, capsys: pytest.CaptureFixture[str]) -> AsyncIterator[FakeAccessCluster]:
    """Fake API server with access objects, and a command line whose kubeconfig names it."""
    async with FakeApiServer().serving() as server:
        path = write_kubeconfig(workdir / "config", server=server.url, ca_pem="", user={"token": "t"})
        yield FakeAccessCluster(server, path, capsys)


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer().serving() as fake:
        yield fake


@pytest.fixture
def source_options(server: FakeApiServer, tmp_path: Path) -> SourceOptions:
    """Options whose kubeconfig names the fake API server."""
    path = write_kubeconfig(tmp_path / "config", server=server.url, ca_pem="", user={"token": "t"})
    return SourceOptions(kubeconfig=str(path))
