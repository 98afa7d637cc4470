"""`scripts/cluster build` builds the programs; `scripts/cluster run CMD…` runs CMD beside a control plane."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from tests.cluster.control_plane import ControlPlane
from tests.cluster.process import tied
from tests.cluster.programs import ProgramsMissingError, control_plane_programs
from tests.cluster.scratch import scratch

GRACE = 20.0
"""Seconds that CMD has to end after a signal."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("build", help="build etcd, kube-apiserver and kubectl, or do nothing if they are there")
    run = verbs.add_parser("run", help="run a command with KUBECONFIG set to a fresh control plane's admin")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    options = parser.parse_args(arguments)
    try:
        programs = control_plane_programs()
    except ProgramsMissingError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    if options.verb == "build":
        return 0
    if not options.command:
        run.error("CMD is missing")
    return run_beside(programs, options.command)


def run_beside(programs: Path, command: Sequence[str]) -> int:
    """The exit code of the command; the control plane and its folder are gone afterwards, also after a signal."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with (
            scratch() as folder,
            ControlPlane(folder, programs=programs) as plane,
        ):
            path = f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
            return _run(command, os.environ | {"KUBECONFIG": str(plane.kubeconfig), "PATH": path})
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    if shutil.which(command[0], path=environment["PATH"]) is None:
        sys.stderr.write(f"error: cannot run {command[0]}: no such program\n")
        return 127
    child = subprocess.Popen(tied(command), env=environment)
    try:
        code = child.wait()
        return code if code >= 0 else 128 - code
    except KeyboardInterrupt:
        child.terminate()
        try:
            child.wait(GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        raise


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
