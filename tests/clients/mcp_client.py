"""MCP client of the tests: it starts a server, and calls its tools with JSON-RPC over stdio.

https://modelcontextprotocol.io/specification/2025-06-18/basic/transports#stdio
"""

import json
import os
import select
import subprocess
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

TIMEOUT = 180.0
"""Seconds that a server may take for one response on a busy machine."""


class ToolResult(NamedTuple):
    """Result of a tool. `text` is everything that the server sent for the call."""

    is_error: bool
    text: str


class McpServer:
    """A running MCP server. Each message is a line of JSON."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self._request_id = 0
        self._unread = b""

    def __enter__(self) -> Self:
        client = {"name": "tests", "version": "0"}
        self._request("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        self._send({"method": "notifications/initialized"})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def tools(self) -> set[str]:
        return {tool["name"] for tool in self._request("tools/list", {})["result"]["tools"]}

    def call(self, tool: str, **arguments: Any) -> ToolResult:
        response = self._request("tools/call", {"name": tool, "arguments": arguments})
        text = json.dumps(response, ensure_ascii=False)
        content = response.get("result", {}).get("content", [])
        texts = [each.get("text", "") for each in content]
        return ToolResult("error" in response or bool(response["result"].get("isError")), "\n".join([*texts, text]))

    def _request(self, method: str, parameters: dict[str, Any]) -> dict[str, Any]:
        self._request_id += 1
        self._send({"id": self._request_id, "method": method, "params": parameters})
        while True:
            message: dict[str, Any] = json.loads(self._read_line())
            if message.get("id") == self._request_id:
                return message

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0"} | message).encode() + b"\n")
        self._process.stdin.flush()

    def _read_line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            ready, _, _ = select.select([self._process.stdout], [], [], TIMEOUT)
            piece = os.read(self._process.stdout.fileno(), 65536) if ready else b""
            assert piece, "the server has ended, or does not respond"
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line
