"""Tables that are drawn again while a command runs."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from connectorctl.output import print_message, write

INTERVAL: Final = 0.5
"""Seconds between the end of one look and the next."""
_CLEAR: Final = "\x1b[H\x1b[2J"
"""Control sequence: cursor to the top left, clear the screen (ECMA-48 CUP and ED)."""


def is_terminal() -> bool:
    # sys.stdout is None if it was closed at start.
    return sys.stdout is not None and sys.stdout.isatty()


async def draw_until_interrupted(render: Callable[[], Awaitable[tuple[str, Sequence[str]]]]) -> None:
    """Draw what `render` returns, a document and notes, whenever it changes. A terminal is cleared before."""
    previous: tuple[str, Sequence[str]] | None = None
    while True:
        drawing = await render()
        if drawing != previous:
            document, notes = drawing
            write((_CLEAR if is_terminal() else "") + document)
            for note in notes:
                print_message(note)
        previous = drawing
        await asyncio.sleep(INTERVAL)
