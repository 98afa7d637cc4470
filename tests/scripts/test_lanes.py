"""scripts/test: its lanes run at the same time, what they said is shown, and all end with it."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.fakes.waiting import until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LANES = {
    "first": 'until [ -e "$HERE/second" ]; do sleep 0.1; done; echo it met the other',
    "second": 'touch "$HERE/second"',
    "wrong": "echo it went wrong; exit 3",
    "endless": 'sleep 1000 & echo $! >"$HERE/sleeper"; wait',
}
PATIENCE = 60.0


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A copy of the script, and programs in place of its lanes."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "test").write_text((ROOT / "scripts" / "test").read_text())
    for name, content in LANES.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{content}\n")
    for each in (tmp_path / "scripts" / "test", *(tmp_path / name for name in LANES)):
        each.chmod(0o755)
    return tmp_path


def beside(place: Path, *lanes: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [place / "scripts" / "test", "--lane", "beside", *lanes],
        env=os.environ | {"PATH": f"{place}:{os.environ['PATH']}", "HERE": str(place)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(pid: int) -> bool:
    """Also where nobody waits for it, as in a container without an init."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_they_run_at_the_same_time(place: Path) -> None:
    with beside(place, "first", "second") as running:
        out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, err) == (0, "")
    assert out == "\n== first\nit met the other\n\n== second\n"


def test_one_that_fails_fails_the_whole_and_is_named(place: Path) -> None:
    with beside(place, "wrong", "second") as running:
        out, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, err) == (1, "failed: wrong\n")
    assert "== wrong\nit went wrong\n" in out


@pytest.mark.parametrize(
    ("code", "failed"), [pytest.param(0, [], id="built"), pytest.param(3, ["image", "journey_ends"], id="not built")]
)
def test_a_node_is_made_with_the_image_only(place: Path, code: int, failed: list[str]) -> None:
    programs = {"image": f"sleep 0.2; exit {code}", "former": "exit 0", "cluster": 'touch "$HERE/node"'}
    for name, content in programs.items():
        (place / "scripts" / name).write_text(f"#!/bin/sh\n{content}\n")
        (place / "scripts" / name).chmod(0o755)
    with beside(place, "image", "journey_ends") as running:
        _, err = running.communicate(timeout=PATIENCE)
    assert (running.returncode, err) == ((1, f"failed: {' '.join(failed)}\n") if failed else (0, ""))
    assert (place / "node").exists() is not bool(failed)


async def test_all_end_with_it_also_one_that_has_begun_another_program(place: Path) -> None:
    with beside(place, "second", "endless") as running:
        sleeper = place / "sleeper"
        await until(lambda: sleeper.exists() and sleeper.read_text().endswith("\n"))
        running.send_signal(signal.SIGTERM)
        assert running.wait(PATIENCE) == 130
        pid = int(sleeper.read_text())
        await until(lambda: ended(pid))
        running.communicate(timeout=PATIENCE)
