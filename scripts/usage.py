"""`--help` of the small scripts: their own docstring."""

import sys
from collections.abc import Sequence


def show_help(arguments: Sequence[str], text: str | None) -> bool:
    """True if help was asked for; it is printed then, and there is nothing else to do."""
    if not {"-h", "--help"} & set(arguments):
        return False
    sys.stdout.write(f"{(text or '').strip()}\n")
    return True
