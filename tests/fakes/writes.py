"""A stream that tells in which pieces it was written."""

import io


class Writes(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []

    def write(self, text: str) -> int:
        self.made.append(text)
        return len(text)
