"""Run a command beside a Kubernetes control plane, or with --node beside a whole node (root, Linux)."""

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from lab.control_plane import ControlPlane
from lab.go_modules import ProgramsMissingError
from lab.node.isolation import is_isolated, run_isolated
from lab.node.node import Node
from lab.node.requirements import find_missing
from lab.process import ProcessFailedError, tie_to_parent
from lab.programs import control_plane_programs, node_programs
from lab.scratch import scratch_folder

GRACE = 20.0
"""Seconds between SIGTERM and SIGKILL for CMD."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/cluster", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    build = verbs.add_parser("build", help="build the programs if they are not in the cache")
    run = verbs.add_parser("run", help="run CMD with KUBECONFIG set to the admin of a new cluster")
    isolate = verbs.add_parser("isolate", help="run CMD in the private namespaces that a node needs, without a node")
    for verb in (build, run):
        verb.add_argument("--node", action="store_true", help="run a whole node, with kubelet, pods, Services and DNS")
    for verb in (run, isolate):
        verb.add_argument("command", nargs=argparse.REMAINDER, metavar="CMD")
    options = parser.parse_args(arguments)
    if options.verb != "build" and not options.command:
        parser.error("CMD is missing")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _on_signal)
    try:
        return _run_verb(options)
    except (ProgramsMissingError, ProcessFailedError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _run_verb(options: argparse.Namespace) -> int:
    if options.verb == "isolate":
        return _run_isolated(options.command)
    programs = node_programs() if options.node else [control_plane_programs()]
    if options.verb == "build":
        return 0
    if options.node and not is_isolated():
        return _run_isolated([sys.executable, "-P", "-m", "lab", "run", "--node", *options.command])
    path = os.pathsep.join([*map(str, programs), os.environ.get("PATH", os.defpath)])
    if shutil.which(options.command[0], path=path) is None:
        sys.stderr.write(f"error: cannot run {options.command[0]}: no such program\n")
        return 127
    with (
        scratch_folder() as folder,
        Node(folder) if options.node else ControlPlane(folder, programs=programs[0]) as cluster,
    ):
        return _run_command(options.command, os.environ | {"KUBECONFIG": str(cluster.kubectl.kubeconfig), "PATH": path})


def _run_isolated(command: Sequence[str]) -> int:
    if reason := find_missing():
        raise ProgramsMissingError(reason)
    return run_isolated(command)


def _run_command(command: Sequence[str], environment: dict[str, str]) -> int:
    child = subprocess.Popen(tie_to_parent(command), env=environment)
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


def _on_signal(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
