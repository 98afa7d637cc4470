"""`connectorctl completion`: what a shell does with the script."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.connectorctl.typed import Type


@pytest.mark.parametrize("shell", [pytest.param("bash", marks=pytest.mark.slow), "zsh", "fish"])
def test_every_shell_has_a_script_that_asks_us(typed: Type, shell: str) -> None:
    code, out, err = typed(f"completion {shell}")
    assert (code, err) == (0, "")
    assert f"_CONNECTORCTL_COMPLETE={shell}_complete" in out


@pytest.mark.slow
def test_bash_completes_a_command(typed: Type, place: Path) -> None:
    bash = shutil.which("bash")
    assert bash, "bash is on every machine that runs these tests"
    (place / "completion.bash").write_text(typed("completion bash").out)
    words = "COMP_WORDS=(connectorctl kubec); COMP_CWORD=1"
    ask = f"source ./completion.bash; {words}; _connectorctl_completion connectorctl; echo ${{COMPREPLY[*]}}"
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    done = subprocess.run([bash, "-c", ask], capture_output=True, text=True, env=environment, timeout=60)
    assert (done.stdout, done.stderr) == ("kubeconfig\n", "")


def test_another_shell_is_usage(typed: Type) -> None:
    code, _, err = typed("completion csh")
    assert code == 2
    assert "'bash', 'zsh', 'fish'" in err
