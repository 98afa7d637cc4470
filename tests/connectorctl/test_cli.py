"""The command line as a process: stdout, stderr, exit codes, both program names."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from connectorctl import cli
from connectorctl.command import Command
from tests.connectorctl.cli_result import RunCli
from tests.fakes.terminal import read_to_end

NAME = "default/k8s-connector"


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def test_without_a_command_the_commands_are_listed(run_cli: RunCli) -> None:
    result = run_cli("")
    assert (result.code, result.out) == (2, "")
    assert "Start:" in result.err


@pytest.mark.parametrize("line", ["--version", "version"])
def test_the_version_is_printed(run_cli: RunCli, line: str) -> None:
    code, out, err = run_cli(line)
    assert (code, err) == (0, "")
    assert out.startswith("connectorctl 0.")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_has_help_and_examples(name: str) -> None:
    command = cli.ROOT.get_command(click.Context(cli.ROOT), name)
    assert isinstance(command, Command)
    assert command.name == name
    assert command.examples
    assert all(f"connectorctl {name}" in example for example in command.examples)
    assert command.short_help


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("kubeconfg", "Did you mean 'kubeconfig'?", id="a command with a slip"),
        pytest.param("nothing", "No such command 'nothing'.", id="an unknown command"),
        pytest.param("status --ttl 5m", "--ttl", id="an option of another command"),
        pytest.param("completion", "Choose from: bash, zsh, fish\n", id="an argument is missing"),
        pytest.param("token a/b c/d", "c/d: there are two Connectors", id="an argument too many"),
        pytest.param(
            "token a",
            "'a': not of the form NAMESPACE/NAME; a folder begins with ./",
            id="neither a folder nor a Connector",
        ),
        pytest.param("token ./a ./b", "./b: the source is named twice", id="two folders"),
        pytest.param("ls", "No such command 'ls'. Did you mean 'status'?", id="a command of another program"),
        pytest.param("--nothing", "No such option", id="an unknown option"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(run_cli: RunCli, line: str, message: str) -> None:
    code, out, err = run_cli(line)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert "--help' for usage." in err


def test_the_help_groups_all_commands(run_cli: RunCli) -> None:
    out = run_cli("--help").out
    assert [line for line in out.splitlines() if line.endswith(":")] == [
        *("Options:", "Start:", "Use:", "Access:", "Inspect:", "Scripts:"),
    ]
    commands = out.partition("\nStart:\n")[2].partition("\n  The reference")[0]
    assert re.findall("^  ([a-z-]+)", commands, re.MULTILINE) == list(cli.COMMANDS)


def test_the_help_of_many_options_begins_with_the_common_ones(run_cli: RunCli) -> None:
    common, _, advanced = run_cli("kubeconfig -h").out.partition("\nAdvanced options:\n")
    assert "--merge" in common
    assert "--oidc SOURCE" not in common
    assert "--oidc" in advanced
    assert "[DIR]" not in advanced


@pytest.mark.parametrize("line", ["status {}", "check {}", "token {} --confdir c", "can-i get pods {}"])
def test_a_folder_is_an_argument_or_the_source(run_cli: RunCli, connectors: Path, workdir: Path, line: str) -> None:
    connectors.rename("team")
    results = [run_cli(line.format(folder)) for folder in ("./team", "--source team")]
    assert {result.code for result in results} <= {0, 1}
    assert not any("does not exist" in result.err for result in results)
    if "token" not in line:
        assert results[0].out.replace("./", "") == results[1].out


@pytest.mark.parametrize(("plugin", "program_name"), [(False, "connectorctl"), (True, "kubectl connector")])
def test_help_shows_the_name_of_the_program(run_cli: RunCli, plugin: bool, program_name: str) -> None:
    assert run_cli("--help", plugin=plugin).out.startswith(f"Usage: {program_name} ")
    assert f"  {program_name} token" in run_cli("token -h", plugin=plugin).out


def test_an_interrupted_command_prints_nothing(run_cli: RunCli, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli.ROOT, "invoke", interrupted)
    assert run_cli("status") == (130, "", "\n")


def test_the_plugin_uses_a_cluster(run_cli: RunCli, connectors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "absent")
    code, _, err = run_cli("status", plugin=True)
    assert code == 1
    assert "no access to an API server" in err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["connectorctl", "kubectl-connector"])
def test_both_names_are_installed_and_run(connectors: Path, name: str) -> None:
    command = [program(name), "token", NAME, "--source", "connectors", "--confdir", "c"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=180, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("eyJ")


@pytest.mark.slow
def test_the_completion_of_kubectl_is_installed(workdir: Path) -> None:
    result = subprocess.run([program("kubectl_complete-connector"), "tok"], capture_output=True, text=True, timeout=180)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines() == ["token\tPrint a caller's token for one Connector.", ":4"]


@pytest.mark.slow
def test_a_reader_that_closes_stdout_early_is_not_a_failure(connectors: Path) -> None:
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
def test_a_reader_of_help_that_closes_stdout_is_not_a_failure(workdir: Path, line: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [program("connectorctl"), *line.split()]
    result = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, timeout=180, check=False)
    os.close(writer)
    assert (result.returncode, result.stderr) == (0, b"")


@pytest.mark.slow
def test_a_full_stdout_is_reported(connectors: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run([program("connectorctl"), "status"], stdout=full, stderr=subprocess.PIPE, timeout=180)
    assert (result.returncode, result.stderr) == (1, b"error: stdout: No space left on device\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "line", ["status", f"token {NAME} --confdir c", f"kubeconfig {NAME} --confdir confdir", "--help", "version"]
)
def test_a_closed_stdout_is_reported(connectors: Path, line: str) -> None:
    command = ["sh", "-c", f'"$0" {line} >&-', program("connectorctl")]
    result = subprocess.run(command, stderr=subprocess.PIPE, timeout=180, check=False)
    assert (result.returncode, result.stderr) == (1, b"error: stdout: is closed\n")


@pytest.mark.slow
def test_a_command_that_writes_a_file_needs_no_stdout(connectors: Path) -> None:
    command = ["sh", "-c", f'"$0" kubeconfig {NAME} --confdir confdir -o f >&-', program("connectorctl")]
    result = subprocess.run(command, stderr=subprocess.PIPE, timeout=180, check=False)
    assert (result.returncode, result.stderr) == (0, b"wrote f\n")


@pytest.mark.slow
@pytest.mark.parametrize(("variable", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_terminal_has_colours_unless_no_color_is_set(workdir: Path, variable: dict[str, str], coloured: bool) -> None:
    leader, follower = pty.openpty()
    subprocess.run([program("connectorctl"), "nothing"], stderr=follower, env=os.environ | variable, timeout=180)
    os.close(follower)
    output = read_to_end(leader).decode()
    os.close(leader)
    assert "No such command" in output
    assert ("\x1b[" in output) == coloured


@pytest.mark.slow
def test_a_folder_does_not_import_cluster_libraries(connectors: Path) -> None:
    script = (
        "import sys; from connectorctl.cli import run; code = run(['status'], is_plugin=False); "
        "heavy = {'kubernetes', 'aiohttp', 'grpc', 'mitmproxy'} & set(sys.modules); "
        "sys.exit(code or (3 if heavy else 0))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=180, check=False)
    assert result.returncode == 0, result.stderr
