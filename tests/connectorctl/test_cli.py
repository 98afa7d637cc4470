"""The command line as processes see it: stdout, stderr, exit codes, both names."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest

from connectorctl import cli
from connectorctl.command import Command
from tests.connectorctl.typed import Type

NAME = "default/k8s-connector"


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def test_without_a_command_it_lists_them(typed: Type) -> None:
    done = typed("")
    assert (done.code, done.out) == (2, "")
    assert "Commands:" in done.err


@pytest.mark.parametrize("line", ["--version", "version"])
def test_the_version_is_printed(typed: Type, line: str) -> None:
    code, out, err = typed(line)
    assert (code, err) == (0, "")
    assert out.startswith("connectorctl 0.")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_is_there_with_help_and_examples(name: str) -> None:
    found = cli.ROOT.get_command(click.Context(cli.ROOT), name)
    assert isinstance(found, Command)
    assert found.name == name
    assert found.examples
    assert all(f"connectorctl {name}" in each for each in found.examples)
    assert found.short_help


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("kubeconfg", "Did you mean 'kubeconfig'?", id="a command with a slip"),
        pytest.param("nothing", "No such command 'nothing'.", id="a command that there is not"),
        pytest.param("status --ttl 5m", "--ttl", id="an option of another command"),
        pytest.param("token", "Missing argument", id="an argument is missing"),
        pytest.param("token a/b c/d", "c/d", id="an argument too many"),
        pytest.param("--nothing", "No such option", id="an option that there is not"),
    ],
)
def test_what_was_typed_wrong_is_usage(typed: Type, line: str, message: str) -> None:
    code, out, err = typed(line)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert "--help' for usage." in err


@pytest.mark.parametrize(("plugin", "called"), [(False, "connectorctl"), (True, "kubectl connector")])
def test_it_calls_itself_as_it_is_called(typed: Type, plugin: bool, called: str) -> None:
    assert typed("--help", plugin=plugin).out.startswith(f"Usage: {called} ")
    assert f"  {called} token" in typed("token -h", plugin=plugin).out


def test_a_command_that_is_interrupted_says_nothing(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.ROOT, "invoke", interrupted)
    assert typed("status") == (130, "", "\n")


def test_the_plugin_asks_a_cluster(typed: Type, connectors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "absent")
    code, _, err = typed("status", plugin=True)
    assert code == 1
    assert "no access to an API server" in err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["connectorctl", "kubectl-connector"])
def test_both_names_are_installed_and_run(connectors: Path, name: str) -> None:
    command = [program(name), "token", NAME, "--source", "connectors", "--confdir", "c"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("eyJ")


@pytest.mark.slow
def test_kubectls_completion_is_installed_and_answers(place: Path) -> None:
    done = subprocess.run([program("kubectl_complete-connector"), "tok"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["token\tPrint a caller's token for one Connector.", ":4"]


@pytest.mark.slow
def test_a_reader_that_has_had_enough_is_no_failure(connectors: Path) -> None:
    many = "\n---\n".join(
        "apiVersion: connectors.alauda.io/v1alpha1\nkind: Connector\n"
        f"metadata: {{name: c{number}}}\nspec: {{connectorClassName: k8s, address: 'https://x'}}"
        for number in range(3000)
    )
    (connectors / "many.yaml").write_text(many)
    with subprocess.Popen(
        [program("connectorctl"), "status"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == ""
        assert running.wait(60) == 0


@pytest.mark.slow
@pytest.mark.parametrize("line", ["--help", "version", "--version", "status --help", "help", "help status"])
def test_neither_is_one_of_help(place: Path, line: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [program("connectorctl"), *line.split()]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.slow
def test_a_stdout_that_takes_nothing_is_named(connectors: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([program("connectorctl"), "status"], stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (1, b"error: stdout: No space left on device\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["status", f"token {NAME} --confdir c", f"kubeconfig {NAME} --confdir confdir", "--help", "version"]
)
def test_a_stdout_that_is_closed_is_named(connectors: Path, line: str) -> None:
    command = ["sh", "-c", f'"$0" {line} >&-', program("connectorctl")]
    done = subprocess.run(command, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (1, b"error: stdout: is closed\n")


@pytest.mark.slow
def test_what_writes_a_file_needs_no_stdout(connectors: Path) -> None:
    command = ["sh", "-c", f'"$0" kubeconfig {NAME} --confdir confdir -o f >&-', program("connectorctl")]
    done = subprocess.run(command, stderr=subprocess.PIPE, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"wrote f\n")


@pytest.mark.slow
@pytest.mark.parametrize(("variable", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_has_colours_unless_it_says_no(place: Path, variable: dict[str, str], coloured: bool) -> None:
    leader, follower = pty.openpty()
    subprocess.run([program("connectorctl"), "nothing"], stderr=follower, env=os.environ | variable, timeout=60)
    os.close(follower)
    shown = os.read(leader, 65536).decode()
    os.close(leader)
    assert "No such command" in shown
    assert ("\x1b[" in shown) == coloured


@pytest.mark.slow
def test_a_folder_needs_no_code_of_clusters(connectors: Path) -> None:
    script = (
        "import sys; from connectorctl.cli import run; code = run(['status'], plugin=False); "
        "heavy = {'kubernetes', 'aiohttp', 'grpc', 'mitmproxy'} & set(sys.modules); "
        "sys.exit(code or (3 if heavy else 0))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
