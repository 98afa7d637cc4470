"""Run a short session beside a new control plane, and draw its commands and their output as docs/images/demo.svg.

recording.py   the ports 8080 and 9091 must be free

The lines appear one after the other. A viewer that does not animate shows all of them at once.
"""

import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.sax.saxutils import escape

from usage import show_help

from lab.control_plane import ControlPlane
from lab.process import Process
from lab.programs import control_plane_programs
from lab.scratch import scratch_folder

ROOT: Final = Path(__file__).parents[1]
IMAGE: Final = ROOT / "docs" / "images" / "demo.svg"
PROXY: Final = "connectorctl proxy"
"""The command of the session that continues while the others run."""
REFUSED: Final = "kubectl --kubeconfig team.kubeconfig get secrets"
"""The command of the session that the proxy refuses."""
SESSION: Final = (
    "connectorctl import ~/.kube/config --name my-cluster --read-only --deny-credentials",
    PROXY,
    "connectorctl kubeconfig default/my-cluster -o team.kubeconfig",
    "kubectl --kubeconfig team.kubeconfig get namespaces",
    REFUSED,
)
COLUMNS: Final = 104
START_TIMEOUT: Final = 400.0
_READY: Final = "serving 1 Connector"
_READING_SECONDS: Final = 1.5
"""Time between the output of a command and the next command in the picture."""
_WORKING_SECONDS: Final = 0.7
_LINE: Final = 19
_CHARACTER: Final = 8.43
_MARGIN: Final = 20
_TOP: Final = 46
_STYLE: Final = """\
text { font: 14px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #c9d1d9; white-space: pre }
.command { fill: #7ee787 } .title { fill: #8b949e }
.command, .output { animation: appear 1ms backwards }
@keyframes appear { from { opacity: 0 } }
@media (prefers-reduced-motion: reduce) { .command, .output { animation: none } }"""


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and the lines that it printed."""

    command: str
    output: Sequence[str]


def record(
    folder: Path, environment: Mapping[str, str], *, proxy_arguments: Sequence[str] = (), proxy_url: str = ""
) -> list[Step]:
    """Run the session in `folder`, which is also HOME and has .kube/config. Raise CalledProcessError if a step fails.

    A test gives the proxy other ports. Its other commands then find it by the variable of `--proxy`.
    """
    environment = {**environment, "HOME": str(folder), "CONNECTORS_LOG_FORMAT": "text"}
    program = Path(sys.executable).with_name("connectorctl")
    command: list[str | Path] = ["env", "-C", folder, program, *shlex.split(PROXY)[1:], *proxy_arguments]
    proxy = Process(command, log=folder / "proxy.log", environment=environment)
    if proxy_url:
        environment["CONNECTORCTL_PROXY"] = proxy_url
    steps = []
    try:
        for line in SESSION:
            output = _start(proxy) if line == PROXY else _run(line, folder, environment)
            steps.append(Step(line + (" &" if line == PROXY else ""), output))
    finally:
        proxy.stop()
    return steps


def _start(proxy: Process) -> list[str]:
    proxy.start()
    proxy.wait_until(lambda: _READY in proxy.log.read_text(), timeout=START_TIMEOUT)
    return [line for line in proxy.log.read_text().splitlines() if _READY in line]


def _run(line: str, folder: Path, environment: Mapping[str, str]) -> list[str]:
    result = subprocess.run(
        ["sh", "-c", line],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if (result.returncode != 0) != (line == REFUSED):
        raise subprocess.CalledProcessError(result.returncode, line, result.stdout)
    return result.stdout.splitlines()


def render_svg(steps: Sequence[Step]) -> str:
    """Return an SVG of a terminal in which the lines of the steps appear one after the other."""
    lines: list[str] = []
    number, seconds = 0, 0.0
    for step in steps:
        seconds += _READING_SECONDS
        for kind, text in (("command", f"$ {step.command}"), *(("output", line) for line in step.output)):
            appears = seconds + (_WORKING_SECONDS if kind == "output" else 0)
            for part in _wrap(text):
                y = _TOP + number * _LINE
                style = f'style="animation-delay: {appears:.1f}s"'
                lines.append(f'<text class="{kind}" {style} x="{_MARGIN}" y="{y}">{escape(part)}</text>')
                number += 1
        seconds += _WORKING_SECONDS
    width = round(COLUMNS * _CHARACTER) + 2 * _MARGIN
    height = _TOP + number * _LINE
    frame = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
        "<title>A session: import a kubeconfig, start the proxy, run kubectl through it, and be refused</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>',
        *(f'<circle cx="{20 + 18 * number}" cy="18" r="5" fill="{colour}"/>'
          for number, colour in enumerate(("#ff5f56", "#ffbd2e", "#27c93f"))),
        f'<text class="title" x="{width // 2}" y="23" text-anchor="middle">kubernetes-connector</text>',
    ]  # fmt: skip
    return "\n".join([*frame, *lines, "</svg>\n"])


def _wrap(line: str) -> list[str]:
    return textwrap.wrap(line, COLUMNS, subsequent_indent="    ", drop_whitespace=False) or [""]


def main(arguments: list[str]) -> int:
    if show_help(arguments, __doc__):
        return 0
    with scratch_folder() as folder, ControlPlane(folder / "cluster", programs=control_plane_programs()) as plane:
        home = folder / "home"
        (home / ".kube").mkdir(parents=True)
        (home / ".kube" / "config").write_bytes(plane.kubeconfig.read_bytes())
        paths = [str(Path(sys.executable).parent), str(plane.programs), os.environ.get("PATH", os.defpath)]
        IMAGE.write_text(render_svg(record(home, os.environ | {"PATH": os.pathsep.join(paths)})))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
