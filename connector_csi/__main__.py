"""Entry point of the CSI driver connectors-csi: `python -m connector_csi`, one process on each node."""

import asyncio
import logging
import os
import signal
import sys

from connector_csi.driver import run
from connector_csi.mounts import KernelMounts
from connector_csi.options import DriverOptions, parse_options
from connector_store import logs
from connector_store.asyncio_private import reduce_tls_buffers
from connector_store.kube import config_loader
from connector_store.kube.client import KubeClient


async def _run(options: DriverOptions) -> int:
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    mounts = KernelMounts(sys=options.sysfs, selinux_context=options.selinux_context)
    try:
        configuration = await config_loader.load_configuration(options.context, kubeconfig=options.kubeconfig)
        async with KubeClient(configuration, user_agent="connectors-csi") as client:
            return await run(options, client, mounts, os.environ, stop)
    except (OSError, ValueError) as e:
        logging.getLogger("connector_csi").error("%s", e)
        return 1


def main() -> int:
    options = parse_options(sys.argv[1:], os.environ)
    logs.configure(sys.stderr, level=options.log_level, environ=os.environ)
    # Set before any socket is created, so that only root can connect even before the socket's mode is set.
    os.umask(0o077)
    reduce_tls_buffers()
    return asyncio.run(_run(options))


if __name__ == "__main__":
    sys.exit(main())
