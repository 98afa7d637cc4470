"""A cluster with pods of proxies, and a runner of command lines against it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.connectorctl.cli_result import CliResult, RunCli, RunInCluster
from tests.connectorctl.fake_pods import FakePods


@pytest.fixture
async def pods(workdir: Path) -> AsyncIterator[FakePods]:
    async with FakePods() as running:
        running.write_kubeconfig(workdir / "config")
        yield running


@pytest.fixture
def run_in_cluster(run_cli: RunCli, pods: FakePods) -> RunInCluster:
    async def run(line: str) -> CliResult:
        return await asyncio.to_thread(run_cli, f"{line} --kubeconfig config")

    return run
