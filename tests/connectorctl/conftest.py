"""A working folder with a proxy's confdir and an example's folder in it, and no variable of this machine."""

import os
from pathlib import Path

import pytest

from connectorctl import cli
from connectorctl.example import write_example
from connectorctl.proxy_ca import CA_FILE
from lab.certificates import make_ca
from tests.connectorctl.typed import Type, Typed


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder; `confdir` in it is that of a proxy that has run once."""
    for name in [each for each in os.environ if each.startswith(("CONNECTOR", "KUBE", "NO_COLOR"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "confdir").mkdir()
    (tmp_path / "confdir" / CA_FILE).write_bytes(make_ca().pem)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def connectors(place: Path) -> Path:
    """`connectors` in the working folder, with the example in it."""
    return write_example(Path("connectors")).parent


@pytest.fixture
def typed(place: Path, capsys: pytest.CaptureFixture[str]) -> Type:
    """Runs one command line in this process."""

    def run(line: str, *, plugin: bool = False) -> Typed:
        code = cli.run(line.split(), is_plugin=plugin)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Typed(code, out, err)

    return run
