"""An API server with pods of proxies and port-forward, and servers of sessions pages behind it."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from aiohttp import WSMsgType, web

from connector_store.kube.port_forward import PROTOCOL
from connector_store.version import VERSION

HOSTILE = "\x1b]0;title\x07\u202e<script>\r\n" + "x" * 65536


def row(number: int, **values: object) -> dict[str, Any]:
    """Return the row of a live connection."""
    return {
        "id": f"id-{number}", "since": time.time() - 60 * number, "kind": "watch", "caller": f"ci:{number}",
        "connector": f"team-{number}/k8s", "sourceIP": "192.0.2.1", "verb": "watch", "resource": "pods",
        "namespace": "web", "name": "", "command": "", "role": "view", "accessRequest": "", "bytesIn": 0,
        "bytesOut": 2048 * number,
    } | values  # fmt: skip


def answer(*items: dict[str, Any], **values: object) -> dict[str, Any]:
    """Return the answer of a proxy of this release."""
    return {"version": VERSION, "proxy": "p", "time": time.time(), "total": len(items), "items": list(items)} | values


class FakePods:
    """Pods by name, with the port on this machine at which each serves its sessions page. None: it refuses."""

    def __init__(self) -> None:
        self.ports: dict[str, int | None] = {}
        self.phases: dict[str, str | None] = {}
        """Phases of pods that do not run. None: no status."""
        self.forbidden = False
        self.breaks_off = False
        """Whether the API server drops a connection after the first data of the pod."""
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> "FakePods":
        app = web.Application()
        base = "/api/v1/namespaces/connectors-system/pods"
        app.router.add_get(base, self._list)
        app.router.add_get(base + "/{pod}/portforward", self._forward)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    @property
    def url(self) -> str:
        assert self._runner is not None
        return "http://{}:{}".format(*self._runner.addresses[0][:2])

    def write_kubeconfig(self, path: Path) -> Path:
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "x", "cluster": {"server": self.url}}],
            "users": [{"name": "x", "user": {"token": "t"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "current-context": "x",
        }
        path.write_text(json.dumps(config))
        return path

    async def _list(self, request: web.Request) -> web.Response:
        assert request.query["labelSelector"] == "app.kubernetes.io/name=connectors-proxy"
        phases = {name: self.phases.get(name, "Running") for name in self.ports}
        items = [
            {"metadata": {"name": name}, "status": {"phase": phase} if phase else None}
            for name, phase in phases.items()
        ]
        return web.json_response({"kind": "PodList", "metadata": {}, "items": items})

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        if self.forbidden:
            return web.Response(status=403)
        assert request.query["ports"] == "9092"
        websocket = web.WebSocketResponse(protocols=[PROTOCOL])
        await websocket.prepare(request)
        start = (9092).to_bytes(2, "little")
        await websocket.send_bytes(b"\x00" + start)
        await websocket.send_bytes(b"\x01" + start)
        port = self.ports.get(request.match_info["pod"])
        if port is None:
            await websocket.send_bytes(b"\x01connection refused")
            await websocket.close()
            return websocket
        reader, writer = await asyncio.open_connection("127.0.0.1", port)

        async def copy_back() -> None:
            while data := await reader.read(1000):
                await websocket.send_bytes(b"\x00" + data)
                if self.breaks_off and request.transport is not None:
                    request.transport.abort()
            await websocket.close()

        copying = asyncio.ensure_future(copy_back())
        async for message in websocket:
            if message.type is WSMsgType.BINARY and message.data[0] == 0:
                writer.write(message.data[1:])
        copying.cancel()
        await asyncio.gather(copying, return_exceptions=True)
        writer.close()
        return websocket


class FakePage:
    """Server of one proxy's JSON. `answers` has the answers of single paths, by their names."""

    def __init__(self, answer: dict[str, Any], **answers: dict[str, Any]) -> None:
        self.answer = answer
        self.answers = answers
        self.authorizations: list[str] = []
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def __aenter__(self) -> "FakePage":
        app = web.Application()
        app.router.add_get("/{name}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def stop(self) -> None:
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        self.authorizations.append(request.headers.get("Authorization", ""))
        return web.json_response(self.answers.get(request.match_info["name"], self.answer))
