"""Reader of what running proxies say on loopback: of each pod by port-forward, or of those on this machine."""

import asyncio
import contextlib
import http.client
import io
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.connector_source import ClusterSource, FolderSource
from connector_store.kube import config_loader
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.port_forward import ForwardedStream, forward_port
from connector_store.kube.resources import PODS
from connector_store.sessions_file import read_urls
from connector_store.version import VERSION
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.proxy_ca import confdir_or_default
from connectorctl.source import resolve_source

PORT: Final = 9092
"""Port of the sessions page on the loopback of a proxy's pod."""
PROXY_LABEL: Final = "app.kubernetes.io/name=connectors-proxy"
TIMEOUT: Final = 10.0
"""Seconds for the answer of one proxy."""
LIST_INTERVAL: Final = 5.0
"""Seconds between two lists of the pods while a command keeps running."""
MAX_BODY: Final = 32 * 1024 * 1024
MAX_HEAD: Final = 64 * 1024

MAX_NUMBER: Final = 2**53
"""Maximum of a number: JSON keeps integers to here, and time.localtime accepts them as seconds."""

Item = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyAnswer:
    """Answer of one proxy. `problem` says why there is none, or what is special about it, or is empty."""

    proxy: str
    items: tuple[Item, ...] = ()
    total: int = 0
    version: str = ""
    time: float = 0.0
    """Time of the answer by the clock of the proxy, in Unix seconds."""
    problem: str = ""
    has_answered: bool = False


class Proxies(Protocol):
    """The running proxies of a source."""

    async def read(self, path: str) -> Sequence[ProxyAnswer]:
        """Read one of the lists from all proxies. A proxy without an answer is a problem, not an error."""


@asynccontextmanager
async def open_proxies(
    source_options: SourceOptions, invocation: Invocation, confdir: Path | None
) -> AsyncIterator[Proxies]:
    """Yield the proxies of the cluster, or those on this machine."""
    source = resolve_source(source_options, invocation)
    if isinstance(source, FolderSource):
        yield LoopbackProxies(confdir_or_default(confdir))
        return
    async with cluster_client(source_options, source) as client:
        yield ClusterProxies(client, invocation.settings.system_namespace)


@asynccontextmanager
async def cluster_client(source_options: SourceOptions, source: ClusterSource) -> AsyncIterator[KubeClient]:
    """Yield a client for the cluster with the proxies."""
    configuration = await config_loader.load_configuration(source.context, kubeconfig=source_options.kubeconfig)
    async with KubeClient(configuration, user_agent="connectorctl") as client:
        yield client


async def list_proxy_pods(client: KubeClient, namespace: str) -> list[str]:
    """Return the names of the running proxies' pods. Raises ParseError if there is none."""
    names = [
        str(pod["metadata"]["name"])
        for pod in await client.list_objects(PODS.path(namespace), {"labelSelector": PROXY_LABEL})
        if (pod.get("status") or {}).get("phase") == "Running"
    ]
    if not names:
        raise ParseError(
            "", f"no proxy runs in namespace {namespace}; see: kubectl get pods -n {namespace} -l {PROXY_LABEL}"
        )
    return sorted(names)


class ClusterProxies:
    """All proxies of an installation, each through a port-forward to its pod."""

    def __init__(self, client: KubeClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace
        self._pods: list[str] = []
        self._listed_at = float("-inf")

    async def read(self, path: str) -> Sequence[ProxyAnswer]:
        if time.monotonic() - self._listed_at >= LIST_INTERVAL:
            self._pods = await list_proxy_pods(self._client, self._namespace)
            self._listed_at = time.monotonic()
        return await asyncio.gather(*(self._read_one(pod, path) for pod in self._pods))

    async def _read_one(self, pod: str, path: str) -> ProxyAnswer:
        try:
            status, body = await get_from_pod(self._client, ObjectKey(self._namespace, pod), PORT, path)
            return parse_answer(pod, status, body)
        except ApiError as error:
            hint = "; you need the right to create pods/portforward" if error.status == 403 else ""
            problem = f"does not answer: {error.message}{hint}"
        except TimeoutError:
            problem = f"does not answer within {TIMEOUT:g} s"
        self._listed_at = float("-inf")
        return ProxyAnswer(proxy=pod, problem=problem)


class LoopbackProxies:
    """The proxies on this machine that were started with this confdir."""

    def __init__(self, confdir: Path) -> None:
        self._confdir = confdir

    async def read(self, path: str) -> Sequence[ProxyAnswer]:
        urls = await asyncio.to_thread(read_urls, self._confdir)
        if not urls:
            problem = f"has no address in {self._confdir}; start it, or start it again: connectorctl proxy"
            return [ProxyAnswer(proxy="local", problem=problem)]
        return await asyncio.gather(*(asyncio.to_thread(self._read_one, url, path) for url in urls))

    def _read_one(self, url: str, path: str) -> ProxyAnswer:
        name = url.partition("/#")[0].removeprefix("http://")
        try:
            parts = urlsplit(url)
            connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT)
            with contextlib.closing(connection):
                connection.request("GET", path, headers={"Authorization": f"Bearer {parts.fragment}"})
                response = connection.getresponse()
                return parse_answer(name, response.status, response.read(MAX_BODY))
        except (OSError, ValueError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            return ProxyAnswer(proxy=name, problem=f"does not answer: {reason}; start one: connectorctl proxy")


def parse_answer(proxy: str, status: int, body: bytes) -> ProxyAnswer:
    """Parse the response of a proxy, which can be of another release."""
    if status != 200:
        text = body[:200].decode("utf-8", "replace").strip()
        return ProxyAnswer(proxy=proxy, problem=f"answers with status {status}: {text}")
    try:
        document = json.loads(body)
        items = tuple(item for item in document["items"] if isinstance(item, dict))
        version, total = str(document.get("version", "")), int(document.get("total", len(items)))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return ProxyAnswer(
            proxy=proxy, problem="sent an answer that this program cannot read; it may be of another release"
        )
    problem = "" if version == VERSION else f"is of release {version or 'unknown'}, and this program of {VERSION}"
    if total > len(items):
        problem = f"shows {len(items)} of {total}"
    return ProxyAnswer(
        proxy=proxy,
        items=items,
        total=total,
        version=version,
        time=number(document, "time"),
        problem=problem,
        has_answered=True,
    )


def text(item: Item, name: str) -> str:
    """Return a text of an item, or "" if a proxy of another release has no such field."""
    value = item.get(name)
    return value if isinstance(value, str) else ""


def number(item: Item, name: str) -> float:
    """Return a number of an item, or 0 if a proxy of another release has no such field or a value out of range."""
    value = item.get(name)
    return value if isinstance(value, int | float) and abs(value) <= MAX_NUMBER else 0


def format_age(seconds: float) -> str:
    """Format a duration in one unit.

    >>> format_age(59), format_age(3600), format_age(200000), format_age(999999)
    ('59s', '60m', '55h', '11d')
    """
    for minimum, size, unit in ((4 * 86400, 86400, "d"), (2 * 3600, 3600, "h"), (120, 60, "m")):
        if seconds >= minimum:
            return f"{int(seconds) // size}{unit}"
    return f"{max(int(seconds), 0)}s"


async def get_from_pod(client: KubeClient, pod: ObjectKey, port: int, path: str) -> tuple[int, bytes]:
    """Send a GET to a port on the loopback of a pod. Return status and body. Raises ApiError or TimeoutError."""
    async with asyncio.timeout(TIMEOUT), forward_port(client, pod.namespace, pod.name, port) as stream:
        await stream.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        return await _read_response(stream)


async def _read_response(stream: ForwardedStream) -> tuple[int, bytes]:
    """Read a response that ends its connection, and return its status and body. Raises ApiError if it is incomplete."""
    data = bytearray()
    while b"\r\n\r\n" not in data and len(data) <= MAX_HEAD:
        if not (piece := await stream.read()):
            nothing = "nothing listens at the port; the option connector_sessions may be empty"
            raise ApiError(0, "the answer ended early" if data else nothing)
        data += piece
    head, _, body = bytes(data).partition(b"\r\n\r\n")
    status_line, _, fields = head.partition(b"\r\n")
    try:
        status = int(status_line.split(b" ")[1])
        length = int(http.client.parse_headers(io.BytesIO(fields + b"\r\n\r\n"))["Content-Length"])
    except (IndexError, ValueError, TypeError, http.client.HTTPException) as error:
        raise ApiError(0, "the answer is not HTTP with a length") from error
    pieces, size = [body], len(body)
    while size < min(length, MAX_BODY):
        pieces.append(piece := await stream.read())
        if not piece:
            raise ApiError(0, "the answer ended early")
        size += len(piece)
    return status, b"".join(pieces)
