"""Command line and output of a measurement."""

import argparse
import json
import sys
from pathlib import Path


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option --json."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    return parser


def write_figures(figures: object, file: Path | None) -> None:
    """Print the figures as JSON, and write them to `file`."""
    sys.stdout.write(_to_json(figures))
    write_json(figures, file)


def write_json(figures: object, file: Path | None) -> None:
    """Write JSON to `file`, unless it is None."""
    if file is not None:
        file.parent.mkdir(exist_ok=True)
        file.write_text(_to_json(figures))


def _to_json(figures: object) -> str:
    return json.dumps(figures, indent=2, ensure_ascii=False) + "\n"
