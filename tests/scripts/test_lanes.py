"""scripts/lanes.py: lanes run at the same time, their output is printed, and a signal stops all of them."""

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fakes.waiting import until

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))
import lanes
from lanes import INTERRUPTED, Lane, LaneFunction, Prerequisite, Progress, run_command, run_lanes

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parents[2] / "scripts"
TIMEOUT = 180.0
DRIVER = """\
import sys
from pathlib import Path
from lanes import Lane, run_command, run_lanes, run_until_signal
folder = Path(sys.argv[1])
async def first(lane: Lane) -> bool:
    return await lane.run("sh", "-c", f"sleep 1000 & echo $! >{folder}/first; wait")
async def second(lane: Lane) -> bool:
    return await lane.run("sh", "-c", f"echo $$ >{folder}/second; exec sleep 1000")
async def in_lanes() -> int:
    return len(await run_lanes({"a": first, "b": second}, folder))
async def in_the_foreground() -> int:
    return await run_command(sys.executable, "-c", f'''
import time
try:
    open("{folder}/first", "w").write("1\\\\n")
    time.sleep(1000)
except KeyboardInterrupt:
    print("a summary")
''')
sys.exit(run_until_signal(globals()[sys.argv[2]]()))
"""


def shell(script: str) -> LaneFunction:
    async def work(lane: Lane) -> bool:
        return await lane.run("sh", "-c", script)

    return work


async def test_lanes_run_at_the_same_time(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    met = tmp_path / "met"
    work = {
        "first": shell(f"until [ -e {met} ]; do sleep 0.1; done; echo it met the other"),
        "second": shell(f"touch {met}"),
    }
    assert await asyncio.wait_for(run_lanes(work, tmp_path / "build"), TIMEOUT) == []
    assert capfdbinary.readouterr().out == b"\n== first\nit met the other\n\n== second\n"
    assert (tmp_path / "build" / "first.log").read_text() == "it met the other\n"


async def test_only_so_many_commands_run_at_the_same_time(tmp_path: Path) -> None:
    alone = tmp_path / "alone"
    work = {name: shell(f"mkdir {alone} && sleep 0.2 && rmdir {alone}") for name in ("first", "second", "third")}
    assert await run_lanes(work, tmp_path, max_commands=1) == []


async def test_a_failed_lane_is_named_and_its_output_is_printed(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    work = {"wrong": shell("echo it went wrong; exit 3"), "right": shell("echo fine")}
    assert await run_lanes(work, tmp_path) == ["wrong"]
    assert capfdbinary.readouterr().out == b"\n== wrong\nit went wrong\n\n== right\nfine\n"


@pytest.mark.parametrize(
    ("code", "failed"), [pytest.param(0, [], id="built"), pytest.param(3, ["image", "node"], id="not built")]
)
async def test_a_lane_runs_only_with_its_prerequisite(tmp_path: Path, code: int, failed: list[str]) -> None:
    images = Prerequisite("image")
    started = tmp_path / "started"

    async def image(lane: Lane) -> bool:
        return await images.provide(lane.run("sh", "-c", f"sleep 0.2; test ! -e {started} && exit {code}"))

    async def node(lane: Lane) -> bool:
        return await images.wait(lane) and await lane.run("touch", started)

    assert await run_lanes({"image": image, "node": node}, tmp_path) == failed
    assert started.exists() is not bool(failed)
    assert (tmp_path / "node.log").read_text() == ("not run: image failed\n" if failed else "")


async def test_progress_is_the_number_of_tests(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    end = tmp_path / "end"
    work = {
        "unit": shell(f"printf '....\\n..F.s  [100%%]\\n'; until [ -e {end} ]; do sleep 0.1; done"),
        "image": shell("true"),
    }
    running = asyncio.create_task(run_lanes(work, tmp_path, progress_interval=0.05))
    printed = b""
    while b"unit: 9 tests" not in printed:
        await asyncio.sleep(0.05)
        printed += capfdbinary.readouterr().out
    end.touch()
    assert await running == []
    assert b"image: " not in printed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
async def test_a_signal_stops_all_processes_of_all_lanes(tmp_path: Path, number: signal.Signals) -> None:
    with start_driver(tmp_path, "in_lanes") as driver:
        pids = [await read_pid(tmp_path / name) for name in ("first", "second")]
        driver.send_signal(number)
        assert driver.wait(TIMEOUT) == INTERRUPTED
        await until(lambda: all(has_ended(pid) for pid in pids))


async def test_a_command_in_the_foreground_gets_the_signal_itself(tmp_path: Path) -> None:
    with start_driver(tmp_path, "in_the_foreground") as driver:
        await read_pid(tmp_path / "first")
        driver.send_signal(signal.SIGINT)
        out, _ = driver.communicate(timeout=TIMEOUT)
    assert (driver.returncode, out) == (INTERRUPTED, "a summary\n")


async def test_a_command_that_ignores_the_signal_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "STOP_TIMEOUT", 0.1)
    pid_file = tmp_path / "pid"
    script = f"trap '' TERM; echo $$ >{pid_file}; while true; do sleep 1; done"
    running = asyncio.create_task(run_command("sh", "-c", script))
    pid = await read_pid(pid_file)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert has_ended(pid)


async def test_the_exit_code_of_a_killed_command_is_that_of_a_shell() -> None:
    assert await run_command("sh", "-c", "kill -9 $$") == 137


def start_driver(folder: Path, main: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", DRIVER, str(folder), main]
    return subprocess.Popen(command, cwd=SCRIPTS, stdout=subprocess.PIPE, text=True)


async def read_pid(file: Path) -> int:
    await until(lambda: read_line(file))
    return int(read_line(file))


def read_line(file: Path) -> str:
    """Return the content of a file if it has a whole line."""
    text = file.read_text() if file.exists() else ""
    return text if text.endswith("\n") else ""


def has_ended(pid: int) -> bool:
    """Return True for a zombie, too: in a container without an init process nothing reaps it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.parametrize(
    ("totals", "output", "seconds", "expected"),
    [
        pytest.param({"a": 40, "b": 20}, "." * 15, 90.0, f"  [{'#' * 7}{'.' * 23}] 15 of 60 tests, 5 min left",
                     id="the last run is known"),
        pytest.param({"a": 40, "b": 20}, "." * 60, 90.0, f"  [{'#' * 30}] 60 of 60 tests, 0 min left", id="at the end"),
        pytest.param({"a": 2, "b": 2}, "." * 15, 90.0, "  15 tests", id="the last run had fewer tests"),
        pytest.param(None, "..sF", 90.0, "  4 tests", id="there is no last run"),
        pytest.param({"a": 40}, "", 90.0, "  0 tests", id="nothing has run"),
    ],
)  # fmt: skip
def test_the_bar_has_the_share_and_the_time_left(
    tmp_path: Path, totals: dict[str, int] | None, output: str, seconds: float, expected: str
) -> None:
    logs = {name: tmp_path / f"{name}.log" for name in ("a", "b")}
    logs["a"].write_text("")
    logs["b"].write_text(f"{output} [ 10%]\n")
    if totals is not None:
        (tmp_path / "tests-of-the-last-run.json").write_text(json.dumps(totals))
    clock = iter([0.0, seconds])
    assert Progress(tmp_path, logs, now=lambda: next(clock)).render_bar() == expected


def test_the_totals_are_those_of_the_last_run(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("..... [100%]\n")
    Progress(tmp_path, {"a": log}).store_totals()
    log.write_text(".. [ 40%]\n")
    assert Progress(tmp_path, {"a": log}).render_bar().endswith("2 of 5 tests, 1 min left")
