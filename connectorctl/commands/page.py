"""Command `page`: open the sessions page of each proxy."""

import asyncio
import contextlib
import webbrowser
from functools import partial
from pathlib import Path

import click

from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.connector_source import FolderSource
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.port_forward import ForwardedStream, forward_port
from connector_store.sessions_file import read_urls
from connectorctl.command import make_command
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.options import add_folder_argument, add_source_options, confdir_option
from connectorctl.output import print_message, write
from connectorctl.proxy_ca import confdir_or_default
from connectorctl.proxy_sessions import PORT, cluster_client, list_proxy_pods
from connectorctl.source import resolve_source

_CHUNK: int = 64 * 1024


@make_command(
    "page",
    examples=("connectorctl page", "connectorctl page --source kubernetes", "connectorctl page --no-browser"),
)
@click.option("--no-browser", is_flag=True, help="Print the URLs, and open no browser.")
@confdir_option
@add_folder_argument
@add_source_options
@click.pass_obj
def command(invocation: Invocation, source_options: SourceOptions, confdir: Path | None, no_browser: bool) -> None:
    """Open the sessions page of each proxy, which shows who is connected.

    In a cluster, it forwards a port of this machine to each proxy until you stop it. While it runs, other users of this
    machine can connect to these ports.
    """
    source = resolve_source(source_options, invocation)
    if isinstance(source, FolderSource):
        folder = confdir_or_default(confdir)
        urls = read_urls(folder)
        if not urls:
            raise ParseError("", f"no proxy runs with the confdir {folder}; start one: connectorctl proxy")
        for url in urls:
            write(f"{url}\n")
            if not no_browser:
                webbrowser.open(url)
        return

    async def serve() -> None:
        async with cluster_client(source_options, source) as client, contextlib.AsyncExitStack() as stack:
            namespace = invocation.settings.system_namespace
            for pod in await list_proxy_pods(client, namespace):
                server = await asyncio.start_server(partial(_forward, client, namespace, pod), "127.0.0.1", 0)
                await stack.enter_async_context(server)
                print_message(f"proxy {pod}:")
                url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
                write(f"{url}\n")
                if not no_browser:
                    # In a thread, because a browser of the terminal returns at its end, and needs the port until then.
                    await asyncio.to_thread(webbrowser.open, url)
            print_message("forwarding until you stop this command")
            await asyncio.Event().wait()

    asyncio.run(serve())


async def _forward(
    client: KubeClient, namespace: str, pod: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Forward one connection to a pod until either side ends it. Say why if the pod does not answer.

    What ends a connection later is not said: browsers drop connections, proxies close idle ones, and the browser opens
    another.
    """
    try:
        async with forward_port(client, namespace, pod, PORT) as stream:
            tasks = [asyncio.ensure_future(copy) for copy in (_copy_in(reader, stream), _copy_out(stream, writer))]
            done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for task in done:
                task.result()
    except ApiError as error:
        print_message(f"proxy {pod}: {error}")
    finally:
        writer.close()


async def _copy_in(reader: asyncio.StreamReader, stream: ForwardedStream) -> None:
    with contextlib.suppress(ApiError, OSError):
        while data := await reader.read(_CHUNK):
            await stream.write(data)


async def _copy_out(stream: ForwardedStream, writer: asyncio.StreamWriter) -> None:
    """Copy what the pod sends. Raises ApiError if it sends nothing."""
    data = await stream.read()
    with contextlib.suppress(ApiError, OSError):
        while data:
            writer.write(data)
            await writer.drain()
            data = await stream.read()
