"""`connectorctl completion`, and the script in a shell."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.connectorctl.cli_result import RunCli


@pytest.mark.parametrize("shell", [pytest.param("bash", marks=pytest.mark.slow), "zsh", "fish"])
def test_every_shell_has_a_script(run_cli: RunCli, shell: str) -> None:
    code, out, err = run_cli(f"completion {shell}")
    assert (code, err) == (0, "")
    assert f"_CONNECTORCTL_COMPLETE={shell}_complete" in out


@pytest.mark.slow
def test_bash_completes_a_command(run_cli: RunCli, workdir: Path) -> None:
    bash = shutil.which("bash")
    assert bash, "bash is on every machine that runs these tests"
    (workdir / "completion.bash").write_text(run_cli("completion bash").out)
    words = "COMP_WORDS=(connectorctl kubec); COMP_CWORD=1"
    ask = f"source ./completion.bash; {words}; _connectorctl_completion connectorctl; echo ${{COMPREPLY[*]}}"
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    result = subprocess.run([bash, "-c", ask], capture_output=True, text=True, env=environment, timeout=180)
    assert (result.stdout, result.stderr) == ("kubeconfig\n", "")


def test_an_unknown_shell_is_a_usage_error(run_cli: RunCli) -> None:
    code, _, err = run_cli("completion csh")
    assert code == 2
    assert "'bash', 'zsh', 'fish'" in err
