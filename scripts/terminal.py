"""A demonstration in a terminal: it prints each command, runs it, and prints its output."""

import subprocess
import sys
from pathlib import Path


class StepFailedError(Exception):
    """A command failed that should have succeeded, or the other way round."""


class Terminal:
    """Runs commands in one folder with one environment, and prints them with their output."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def print_heading(self, text: str) -> None:
        sys.stdout.write(f"\n\033[1m{text}\033[0m\n" if sys.stdout.isatty() else f"\n{text}\n")
        sys.stdout.flush()

    def print_command(self, command: str) -> None:
        sys.stdout.write(f"  $ {command}\n".replace("\n", "\n    ").rstrip() + "\n")
        sys.stdout.flush()

    def run(self, command: str, *, expect_failure: bool = False) -> str:
        """Run a command and return its output. With `expect_failure` it must fail, to show its message."""
        self.print_command(command)
        result = subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        for line in result.stdout.splitlines():
            sys.stdout.write(f"    {line[:160]}\n")
        if (result.returncode != 0) != expect_failure:
            raise StepFailedError(f"exit code {result.returncode}: {command}")
        return result.stdout
