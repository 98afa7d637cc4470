"""`connectorctl run`: a kubeconfig for one command, and nothing after it."""

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from connectorctl.example import MANIFESTS
from lab.waiting import wait_until
from tests.connectorctl.cli_result import RunCli
from tests.connectorctl.test_supervision import is_running

RUN = [str(Path(sys.executable).with_name("connectorctl")), "run"]
PROXY = ["--proxy", "http://127.0.0.1:1", "--confdir", "confdir"]
"""Options with which no proxy is started."""


@pytest.fixture(autouse=True)
def temporary(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of temporary files."""
    folder = workdir / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        pytest.param("run", 2, "write the command after --", id="no separator"),
        pytest.param("run default/k8s-connector --", 2, "write the command after --", id="no command"),
        pytest.param("run kubectl get -- pods", 2, "kubectl", id="a word before the separator"),
        pytest.param("run default/absent --confdir c -- true", 1, '"absent" not found in namespace', id="no Connector"),
        pytest.param("run --source absent -- true", 1, "absent", id="no folder"),
        pytest.param("run --oidc github -- true", 2, "--oidc needs NAMESPACE/NAME, --proxy", id="OIDC alone"),
        pytest.param("run --ca ca.crt -- true", 2, "--ca goes with --oidc", id="a CA alone"),
        pytest.param(
            "run --proxy ftp://x --confdir confdir -- true", 1, "is not the URL of a proxy", id="not a proxy's URL"
        ),
    ],
)
def test_a_wrong_line_runs_nothing(
    run_cli: RunCli,
    connectors: Path,
    temporary: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    code: int,
    message: str,
) -> None:
    monkeypatch.setattr("connectorctl.supervision.start_helper", None)
    monkeypatch.setattr("connectorctl.supervision.start_command", None)
    result = run_cli(line)
    assert (result.code, result.out) == (code, "")
    assert message in result.err
    assert list(temporary.iterdir()) == []


def test_the_help_shows_where_the_command_goes(run_cli: RunCli) -> None:
    assert run_cli("run -h").out.startswith("Usage: connectorctl run [OPTIONS] [DIR] [NAMESPACE/NAME] -- COMMAND")


@pytest.mark.slow
def test_the_command_gets_a_kubeconfig_that_is_gone_after_it(connectors: Path, temporary: Path) -> None:
    script = 'echo "$KUBECONFIG"; stat -c %a "$(dirname "$KUBECONFIG")" "$KUBECONFIG"; cat "$KUBECONFIG"; exit 7'
    done = subprocess.run([*RUN, *PROXY, "--", "sh", "-c", script], capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stderr) == (7, "")
    path, folder_mode, mode, text = done.stdout.split("\n", 3)
    assert Path(path).is_relative_to(temporary)
    assert (folder_mode, mode) == ("700", "600")
    assert "proxy-url: http://default%2Fk8s-connector:x@127.0.0.1:1\n" in text
    assert "tokenFile: context.token" in text
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize(("word", "code"), [("absent-program", 127), ("/", 126)])
def test_a_command_that_cannot_start_is_named(connectors: Path, temporary: Path, word: str, code: int) -> None:
    done = subprocess.run([*RUN, *PROXY, "--", word], capture_output=True, text=True, timeout=180)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith(f"error: cannot run {word}: ")
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_several_connectors_need_a_name_without_a_terminal(connectors: Path) -> None:
    (connectors / "b.yaml").write_text(MANIFESTS.replace("k8s-connector", "b").replace("k8s-secret", "b"))
    done = subprocess.run(
        [*RUN, *PROXY, "--", "true"], capture_output=True, text=True, timeout=180, stdin=subprocess.PIPE
    )
    assert done.returncode == 1
    assert done.stderr == "error: the source has several Connectors; name one of: default/b, default/k8s-connector\n"


def children_of(parent: int) -> list[int]:
    done = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], stdout=subprocess.PIPE, text=True, check=False)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.slow
def test_a_signal_reaches_the_command_and_nothing_stays(connectors: Path, temporary: Path) -> None:
    """Runs the proxy, too: it, the kubeconfig and the command are gone after the signal."""
    script = "trap 'echo stopped; exit 3' INT TERM; echo ready; while :; do sleep 0.01; done"
    running = subprocess.Popen(
        [*RUN, "--confdir", "keys", "--log", "log", "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "ready\n"
    wait_until(lambda: len(children_of(running.pid)) >= 2, "the proxy and the command")
    children = children_of(running.pid)
    assert [each.name.startswith("connectorctl-run-") for each in temporary.iterdir()] == [True]
    summary = "serving 0 Connectors of folder connectors; 1 problem to fix"
    # The proxy logs it soon after it serves.
    wait_until(lambda: summary in Path("log").read_text(), "the summary of the proxy")
    running.send_signal(signal.SIGTERM)
    with running:
        assert running.wait(180) == 3
        assert running.stdout.read() == "stopped\n"
    assert not any(is_running(child) for child in children)
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_a_signal_during_the_start_leaves_nothing(connectors: Path, temporary: Path) -> None:
    # On a busy machine the proxy may have started before the signal, which then ends the command.
    running = subprocess.Popen([*RUN, "--confdir", "keys", "--", "sleep", "600"])
    wait_until(lambda: any(temporary.glob("*/proxy.log")), "the start of the proxy")
    running.terminate()
    assert running.wait(180) == 143
    assert list(temporary.iterdir()) == []


@pytest.mark.slow
def test_a_caller_from_outside_runs_a_command_with_its_own_token(workdir: Path) -> None:
    (workdir / "token").write_text("FROM-THE-JOB")
    oidc = ["--oidc", "file:token", "--proxy", "https://proxy.example.com", "--ca", "confdir/mitmproxy-ca-cert.pem"]
    script = 'cd "$(dirname "$KUBECONFIG")" && grep server kubeconfig && cat context.token'
    done = subprocess.run(
        [*RUN, "team-a/k8s", *oidc, "--", "sh", "-c", script], capture_output=True, text=True, timeout=180
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["server:", "https://proxy.example.com/connectors/team-a/k8s", "FROM-THE-JOB"]
