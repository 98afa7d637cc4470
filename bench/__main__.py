"""scripts/bench: how fast and how hungry, beside mitmdump, squid and nginx.

scripts/bench [--quick] [--json FILE] [--peers mitmdump,squid,nginx,ours,...]
scripts/bench memory [--quick] [--size GB] [CASE ...]   resident memory while much passes
scripts/bench soak [--seconds 600] [--json FILE]        faults on both sides: errors by cause, leaks, stalls
scripts/bench curves [--quick] [--json FILE]            more connections, Connectors, bytes and idle streams
scripts/bench doors [--tree FOLDER]                     resident memory of proxy, controller and CSI driver
scripts/bench trips [--files] [--json FILE]             calls and files entered by a CONNECT and a request
scripts/bench picture FILE.json OUT.svg                 the picture of a report

A comparison in full fails when it misses a goal of bench/goals.py; a quick one only says so. Where a goal about CPU is
missed, a profile says where the time goes.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from bench import curves, doors, goals, memory, picture, soak, trips, where
from bench.cases import cases
from bench.compare import PEERS, compare, save
from bench.peers import stock
from bench.table import table


def _compare(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="one short round, for development")
    parser.add_argument("--rounds", type=int, help="default 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there")
    parser.add_argument("--peers", default=",".join(PEERS).replace(", ", "+"), help="default: %(default)s")
    options = parser.parse_args(arguments)
    names = [name.replace("+", ", ") for name in options.peers.split(",")]
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        parser.error(f"no such peer: {', '.join(unknown)}")
    if ({"squid", "nginx"} & set(names)) and (what := stock.missing()):
        parser.error(what)
    if options.quick:
        chosen, rounds = cases(seconds=1, size=100 << 20, streams=100), 1
    else:
        chosen, rounds = cases(seconds=4, size=1 << 30, streams=500), 5
    report = compare({name: PEERS[name] for name in names}, chosen, options.rounds or rounds)
    verdicts = goals.judge(report["results"])
    report["goals"] = [verdict.plain() for verdict in verdicts]
    sys.stdout.write(table(report))
    sys.stdout.writelines(["\ngoals\n", *goals.lines(verdicts)] if verdicts else [])
    if options.json:
        save(report, options.json)
    if "ours" in names and (costly := where.missed(verdicts, chosen)):
        sys.stdout.writelines(where.lines(costly))
    return exit_code(report, quick=options.quick)


def exit_code(report: dict[str, Any], *, quick: bool) -> int:
    """1 if a figure is missing, or a goal is missed; one short round says too little about goals."""
    complete = all(all(by_peer.values()) for by_peer in report["results"].values())
    missed = not quick and not all(goal["met"] for goal in report["goals"])
    return 0 if complete and not missed else 1


def main(arguments: list[str]) -> int:
    others = {
        "curves": curves.main,
        "memory": memory.main,
        "soak": soak.main,
        "doors": doors.main,
        "trips": trips.main,
        "picture": picture.main,
    }
    if arguments and arguments[0] in others:
        return others[arguments[0]](arguments[1:])
    return _compare(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
