"""The option `--help` of small scripts, which prints their docstring."""

import sys
from collections.abc import Sequence


def show_help(arguments: Sequence[str], text: str | None) -> bool:
    """Print the help and return True if the arguments contain `--help` or `-h`."""
    if not {"-h", "--help"} & set(arguments):
        return False
    sys.stdout.write(f"{(text or '').strip()}\n")
    return True
