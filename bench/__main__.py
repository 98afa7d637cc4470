"""scripts/bench: how fast and how hungry, beside mitmdump, squid and nginx.

scripts/bench [--quick] [--json FILE] [--peers mitmdump,squid,nginx,ours,...] [--before FOLDER]
scripts/bench memory [--quick] [--size GB] [CASE ...]   resident memory while much passes
scripts/bench soak [--seconds 600] [--json FILE]        faults on both sides: errors by cause, leaks, stalls
scripts/bench curves [--quick] [--json FILE]            more connections, Connectors, bytes and idle streams
scripts/bench doors [--tree FOLDER]                     resident memory of proxy, controller and CSI driver
scripts/bench trips [--files] [--json FILE]             calls and files entered by a CONNECT and a request
scripts/bench picture FILE.json OUT.svg                 the picture of a report

A comparison in full fails when it misses a goal of bench/goals.py, or when a figure is worse than --before's by more
than its noise (bench/before.py); a quick one only says so. Where a goal is missed, but one about memory, a profile says
where the time goes.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from bench import before, curves, goals, idle_memory, memory, picture, soak, trips, where
from bench.before import BEFORE
from bench.cases import make_cases
from bench.checkout import find_checkout
from bench.compare import NOT_QUICK, PEERS, compare, save_report, start_checkout
from bench.peers import stock
from bench.table import format_report


def _compare(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="one short round, for development")
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--peers", metavar="NAME,NAME",
                        help=f"of {', '.join(_option_name(name) for name in PEERS)}; default: all, but "
                             f"{', '.join(_option_name(name) for name in NOT_QUICK)} not in a quick run")  # fmt: skip
    parser.add_argument("--before", type=Path, metavar="FOLDER",
                        help="another checkout of the product, with its .venv: is ours worse?")  # fmt: skip
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
            product = find_checkout(options.before)
        except ValueError as error:
            parser.error(str(error))
        peers[BEFORE] = start_checkout(product)
        versions[BEFORE] = product.version
    if ({"squid", "nginx"} & set(names)) and (what := stock.missing_packages()):
        parser.error(what)
    if options.quick:
        chosen, rounds = make_cases(seconds=1, size=100 << 20, streams=100), 1
    else:
        chosen, rounds = make_cases(seconds=4, size=1 << 30, streams=500), 5
    report = compare(peers, chosen, options.rounds or rounds)
    report["versions"] |= versions
    verdicts = goals.evaluate(report["results"], cores=goals.cores())
    changes = before.compute_changes(report["raw"])
    report["goals"] = [verdict.to_json() for verdict in verdicts]
    report["worse"] = [change.to_json() for change in changes if change.is_worse]
    sys.stdout.write(format_report(report))
    sys.stdout.writelines(["\ngoals\n", *goals.format_results(verdicts)] if verdicts else [])
    sys.stdout.writelines(["\nbeside before\n", *before.format_changes(changes)] if changes else [])
    if options.json:
        save_report(report, options.json)
    if "ours" in names and (costly := where.missed(verdicts, chosen)):
        sys.stdout.writelines(where.lines(costly))
    return exit_code(report, quick=options.quick)


def _option_name(name: str) -> str:
    return name.replace(", ", "+")


def exit_code(report: dict[str, Any], *, quick: bool) -> int:
    """1 if a figure is missing, and but for a short round, which says too little, if a goal is or one is worse."""
    complete = all(all(by_peer.values()) for by_peer in report["results"].values())
    missed = not quick and (report["worse"] or not all(goal["met"] for goal in report["goals"]))
    return 0 if complete and not missed else 1


def main(arguments: list[str]) -> int:
    others = {
        "curves": curves.main,
        "memory": memory.main,
        "soak": soak.main,
        "doors": idle_memory.main,
        "trips": trips.main,
        "picture": picture.main,
    }
    if arguments and arguments[0] in others:
        return others[arguments[0]](arguments[1:])
    return _compare(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
