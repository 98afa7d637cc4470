"""Run every case on every peer in turn, round after round, so that a busy moment affects all peers alike."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench.access_decision import measure_access
from bench.cases import Case, Figures, median_figures
from bench.checkout import Checkout
from bench.decision import DECISION, measure_decision
from bench.measure import measure
from bench.peers import stock
from bench.peers.connector_proxy import start_proxy
from bench.peers.endpoint import Endpoint
from bench.testbed import Testbed, open_testbed
from connector_store.version import VERSION

ATTEMPTS = 3
StartPeer = Callable[[Testbed], Endpoint]
PEERS: dict[str, StartPeer] = {
    "mitmdump": stock.mitmdump,
    "squid": stock.squid,
    "tuned squid": lambda testbed: stock.squid(testbed, is_tuned=True),
    "nginx": stock.nginx,
    "no proxy": stock.no_proxy,
    "ours": start_proxy,
    "ours, mitmdump": lambda testbed: start_proxy(testbed, name="ours-mitmdump", with_mitmdump=True),
    "ours, watched": lambda testbed: start_proxy(testbed, name="ours-watched", flows="on"),
}
NOT_QUICK = ("ours, mitmdump", "tuned squid")
"""Peers that a quick run leaves out, unless --peers names them."""


def start_checkout(checkout: Checkout) -> StartPeer:
    """Return a peer that runs another checkout as its image runs it."""
    return lambda testbed: start_proxy(testbed, name="before", checkout=checkout)


def compare(peers: dict[str, StartPeer], cases: Sequence[Case], rounds: int) -> dict[str, Any]:
    """Return the report: {machine, versions, rounds, results: {case: {peer: {figure: median}}}, raw, failures}."""
    raw: dict[str, dict[str, list[Figures]]] = {case.name: {} for case in cases}
    failures: list[str] = []
    with open_testbed() as testbed, ExitStack() as stack:
        running = {name: stack.enter_context(_running(start, testbed)) for name, start in peers.items()}
        for number in range(rounds):
            for case in cases:
                for name in peers:
                    if case.direct and running[name].direct is None:
                        continue
                    _progress(f"round {number + 1}/{rounds}: {case.name}: {name}")
                    figures, errors = _attempt(testbed, running[name], peers[name], case)
                    raw[case.name].setdefault(name, []).extend(figures)
                    failures += [f"{case.name}: {name}: {error}" for error in errors]
    _progress("")
    results = {case: {name: median_figures(figures) for name, figures in by.items()} for case, by in raw.items() if by}
    results |= {DECISION: {"ours": measure_decision() | measure_access()}} if "ours" in peers else {}
    about = {"machine": describe_machine(), "versions": _read_versions(peers), "rounds": rounds}
    return {**about, "results": results, "raw": raw, "failures": failures}


def _attempt(testbed: Testbed, running: Endpoint, start: StartPeer, case: Case) -> tuple[list[Figures], list[str]]:
    """Return the figures of one round, and the errors of failed attempts: squid 5.7 sometimes resets an upload."""
    errors: list[str] = []
    while len(errors) < ATTEMPTS:
        try:
            with _running(start, testbed) if case.in_fresh_process else nullcontext(running) as peer:
                endpoint = peer.direct if case.direct and peer.direct is not None else peer
                return [case.figures(measure(testbed, endpoint, case.mode, peak=False, **case.flags))], errors
        except (RuntimeError, OSError, ValueError) as error:
            errors.append(str(error))
    return [], errors


@contextmanager
def _running(start: StartPeer, testbed: Testbed) -> Iterator[Endpoint]:
    peer = start(testbed)
    try:
        yield peer
    finally:
        peer.process.stop()


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")


def describe_machine() -> dict[str, Any]:
    model = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return {"cpu": (model or ["unknown"])[0], "cores": os.cpu_count(), "kernel": platform.release().partition("-")[0],
            "load": os.getloadavg()[0], "product": VERSION}  # fmt: skip


def _read_versions(peers: Collection[str]) -> dict[str, str]:
    """Return the versions of Python, mitmproxy, and those peers of Debian that take part."""

    def read_version(program: str) -> str:
        result = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
        return (result.stdout + result.stderr).splitlines()[0].split("ersion")[-1].strip(" :/").removeprefix("nginx/")

    ours = {"python": platform.python_version(), "mitmproxy": version("mitmproxy")}
    return ours | {name: read_version(name) for name in ("squid", "nginx") if name in peers}


def save_report(report: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
