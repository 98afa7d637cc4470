"""Text streams: one that records each write, and one that is a terminal."""

import io


class RecordingStream(io.StringIO):
    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return len(text)


class TerminalStream(io.StringIO):
    def isatty(self) -> bool:
        return True
