"""`connectorctl kubeconfig`."""

import stat
from pathlib import Path

import pytest
import yaml

from tests.connectorctl.typed import Type

NAME = "default/k8s-connector"
MAKE = f"kubeconfig {NAME} --confdir confdir"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_goes_to_stdout(typed: Type, connectors: Path) -> None:
    code, out, err = typed(MAKE)
    config = yaml.safe_load(out)
    assert (code, err) == (0, "")
    assert config["clusters"][0]["cluster"]["proxy-url"].startswith("http://default%2Fk8s-connector:eyJ")
    assert "REPLACE" not in out


def test_it_goes_to_a_private_file(typed: Type, connectors: Path, place: Path) -> None:
    assert typed(f"{MAKE} -o team.kubeconfig") == (0, "", "wrote team.kubeconfig\n")
    assert mode(place / "team.kubeconfig") == 0o600
    assert yaml.safe_load((place / "team.kubeconfig").read_text())["kind"] == "Config"


def test_a_rotating_one_has_its_token_beside_it(typed: Type, connectors: Path, place: Path) -> None:
    assert typed(f"{MAKE} --rotating -o team.kubeconfig").code == 0
    config = yaml.safe_load((place / "team.kubeconfig").read_text())
    assert config["users"][0]["user"] == {"tokenFile": "context.token"}
    assert (place / "context.token").read_text().startswith("eyJ")
    assert mode(place / "context.token") == 0o600


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        pytest.param(f"kubeconfig {NAME} --confdir nowhere", 1, "start the proxy once", id="a proxy that never ran"),
        pytest.param(f"{MAKE} --proxy x", 1, "http://HOST:PORT", id="a proxy of no URL"),
        pytest.param(f"{MAKE} -o absent/f", 1, "No such file or directory", id="a folder missing"),
        pytest.param(f"{MAKE} --rotating", 2, "needs -o FILE", id="rotating needs a place for the token"),
        pytest.param(f"{MAKE} --rotating -o -", 2, "needs -o FILE", id="rotating has no place on stdout"),
        pytest.param(f"{MAKE} a/b --rotating -o f", 2, "a token of its own", id="rotating is for one of a folder"),
    ],
)
def test_a_failure_has_its_code_and_says_why(typed: Type, connectors: Path, line: str, code: int, message: str) -> None:
    done = typed(line)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert message in done.err
