"""scripts/bench: compare the proxy's CPU, latency, throughput and memory with those of mitmdump, squid and nginx.

scripts/bench [--quick] [--json FILE] [--peers mitmdump,squid,nginx,ours,...] [--before FOLDER]
scripts/bench memory [--quick] [--size GB] [CASE ...]   growth of the resident memory during large transfers
scripts/bench soak [--seconds 600] [--json FILE]        faults on both sides: errors by cause, leaks, stalls
scripts/bench idle-memory [--tree FOLDER]               resident memory of proxy, controller and CSI driver
scripts/bench trips [--files] [--json FILE]             calls and files that a CONNECT and a request enter

A full comparison exits with 1 if it misses a goal of bench/goals.py, or if a figure is worse than that of --before by
more than its noise (bench/before.py). A quick comparison only prints this.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from bench import before, goals, idle_memory, memory, soak, trips
from bench.before import BEFORE
from bench.cases import make_cases
from bench.checkout import find_checkout
from bench.compare import NOT_QUICK, PEERS, compare, save_report, start_checkout
from bench.peers import stock
from bench.report import format_report


def _compare(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="one short round, for development")
    parser.add_argument("--rounds", type=int, help="number of rounds; default: 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to FILE")
    parser.add_argument("--peers", metavar="NAME,NAME",
                        help=f"peers: {', '.join(_option_name(name) for name in PEERS)}; default: all, in a quick run "
                             f"without {', '.join(_option_name(name) for name in NOT_QUICK)}")  # fmt: skip
    parser.add_argument("--before", type=Path, metavar="FOLDER",
                        help="compare with another checkout of the product, which has its own .venv")  # fmt: skip
    options = parser.parse_args(arguments)
    names = [name for name in PEERS if not (options.quick and name in NOT_QUICK)]
    if options.peers:
        names = [name.replace("+", ", ") for name in options.peers.split(",")]
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        parser.error(f"no such peer: {', '.join(unknown)}")
    peers = {name: PEERS[name] for name in names}
    versions = {}
    if options.before:
        try:
            checkout = find_checkout(options.before)
        except ValueError as error:
            parser.error(str(error))
        peers[BEFORE] = start_checkout(checkout)
        versions[BEFORE] = checkout.version
    if ({"squid", "tuned squid", "nginx"} & set(names)) and (error_message := stock.missing_packages()):
        parser.error(error_message)
    if options.quick:
        cases, rounds = make_cases(seconds=1, size=100 << 20, streams=100), 1
    else:
        cases, rounds = make_cases(seconds=4, size=1 << 30, streams=500), 5
    report = compare(peers, cases, options.rounds or rounds)
    report["versions"] |= versions
    results = goals.evaluate(report["results"])
    changes = before.compute_changes(report["raw"])
    report["goals"] = [result.to_json() for result in results]
    report["worse"] = [change.to_json() for change in changes if change.is_worse]
    sys.stdout.write(format_report(report))
    sys.stdout.writelines(["\ngoals\n", *goals.format_results(results)] if results else [])
    sys.stdout.writelines(["\ncompared with before\n", *before.format_changes(changes)] if changes else [])
    if options.json:
        save_report(report, options.json)
    return exit_code(report, quick=options.quick)


def _option_name(name: str) -> str:
    return name.replace(", ", "+")


def exit_code(report: dict[str, Any], *, quick: bool) -> int:
    """Return 1 if a figure is missing, or if a full run missed a goal or got worse. A quick run says too little."""
    complete = all(all(by_peer.values()) for by_peer in report["results"].values())
    missed = not quick and (report["worse"] or not all(goal["met"] for goal in report["goals"]))
    return 0 if complete and not missed else 1


def main(arguments: list[str]) -> int:
    subcommands = {
        "memory": memory.main,
        "soak": soak.main,
        "idle-memory": idle_memory.main,
        "trips": trips.main,
    }
    if arguments and arguments[0] in subcommands:
        return subcommands[arguments[0]](arguments[1:])
    return _compare(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
