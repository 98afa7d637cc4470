"""Result of a command line."""

from typing import NamedTuple, Protocol


class CliResult(NamedTuple):
    code: int
    out: str
    err: str


class RunCli(Protocol):
    def __call__(self, line: str, *, plugin: bool = False) -> CliResult: ...


class RunInCluster(Protocol):
    async def __call__(self, line: str) -> CliResult: ...
