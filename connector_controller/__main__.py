"""python -m connector_controller: run the controller. Of all running controllers, one leads."""

import argparse
import asyncio
import logging
import os
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from connector_controller.controller import WORKERS, ControllerOptions, Term
from connector_controller.metrics import ControllerMetrics
from connector_store import logs
from connector_store.admin import AdminServer, parse_listen_address
from connector_store.asyncio_private import reduce_tls_buffers
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.exposition import render
from connector_store.kube.client import KubeClient
from connector_store.kube.config_loader import in_pod, load_configuration
from connector_store.kube.lease import LeaderElector
from connector_store.kube.shared_settings import SharedSettings
from connector_store.version import VERSION

logger = logging.getLogger("connector_controller")

LEASE_NAME = "connectors-controller"


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="connector_controller", description=__doc__)
    parser.add_argument("--version", action="version", version=f"kubernetes-connector {VERSION}")
    parser.add_argument("--kubeconfig", help="file; default: the pod's ServiceAccount, else KUBECONFIG")
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument("--admin", default="127.0.0.1:9092", help="HOST:PORT of /healthz, /readyz and /metrics")
    parser.add_argument("--workers", type=int, default=WORKERS, help="Connectors worked on at a time")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a shared setting, as probe-interval=60"
    )
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    return parser.parse_args(arguments)


class ControllerProcess:
    """Candidate for the leadership. Its admin address serves from the start, whether it leads or not."""

    def __init__(self, client: KubeClient, arguments: argparse.Namespace) -> None:
        self._client = client
        self._explicit = dict(_parse_setting(each) for each in arguments.set)
        self._workers: int = arguments.workers
        self._metrics = ControllerMetrics()
        self._metrics.clock_offset.set_function(lambda: client.clock.node_offset)
        self._problem: str | None = "the settings are not read yet"
        self._term: Term | None = None
        self._election: LeaderElector | None = None
        self._admin = AdminServer(component="controller", not_ready_reason=self._not_ready_reason, metrics=self._scrape)
        self._listen_address = parse_listen_address(arguments.admin, "--admin")

    async def run(self) -> None:
        host, port = await self._admin.start(*self._listen_address)
        logger.info("health and metrics on %s:%d", host, port)
        try:
            await self._run_election()
        finally:
            await self._admin.stop()

    async def _run_election(self) -> None:
        """Take part in the election when the settings are read. If the API server is down, wait for it."""
        shared = SharedSettings(
            self._client, "connector_controller", explicit=self._explicit, environ=os.environ, in_cluster=in_pod()
        )
        settings = await shared.read(on_problem=self._set_problem)
        self._metrics.rejected_settings.set_function(lambda: float(shared.is_rejected))
        shared.subscribe(self._apply)
        self._apply(settings)
        identity = f"{socket.gethostname()}_{secrets.token_hex(4)}"
        options = ControllerOptions(instance=identity, ca_file=_read_file(settings.ca_file), workers=self._workers)
        self._election = LeaderElector(self._client, ObjectKey(settings.system_namespace, LEASE_NAME), identity)
        self._problem = None
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(shared.follow())
            await self._election.run(lambda: self._lead(shared, options))

    def _apply(self, settings: Settings) -> None:
        """Apply the live settings."""
        logs.set_format(settings.log_format)
        self._metrics.unknown_settings.set(len(settings.unknown_keys))
        if self._term is not None:
            self._term.follow(settings)

    def _set_problem(self, problem: str) -> None:
        self._problem = problem

    async def _lead(self, shared: SharedSettings, options: ControllerOptions) -> None:
        self._term = Term(self._client, shared.current, options, self._metrics)
        try:
            await self._term.run()
        finally:
            self._term = None

    def _not_ready_reason(self) -> str | None:
        return self._problem or (self._term.not_ready_reason() if self._term is not None else None)

    def _scrape(self) -> Iterator[bytes]:
        self._metrics.leading.set(self._election is not None and self._election.is_leading)
        if self._term is not None:
            self._term.update_gauges()
        return render(self._metrics.registry.collect())


async def main(arguments: argparse.Namespace) -> int:
    """Run until a signal. Return the exit code: 0 after a signal, 2 for unusable settings or kubeconfig."""
    task = asyncio.ensure_future(_serve(arguments))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        logger.info("stopped")
        return 0
    except (ParseError, ValueError, OSError) as error:
        logger.error("%s", error)
        return 2
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    configuration = await load_configuration(arguments.context, kubeconfig=arguments.kubeconfig)
    async with KubeClient(configuration, user_agent="connectors-controller") as client:
        await ControllerProcess(client, arguments).run()


def _read_file(path: str | None) -> bytes | None:
    return Path(path).read_bytes() if path else None


def _parse_setting(text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not separator:
        raise ParseError("--set", f"{text} is not KEY=VALUE")
    return key, value


if __name__ == "__main__":
    options = parse_arguments(sys.argv[1:])
    logs.configure(sys.stderr, level=options.log_level, environ=os.environ)
    reduce_tls_buffers()
    sys.exit(asyncio.run(main(options)))
