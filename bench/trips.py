"""How many calls an event costs: Python functions of ours that are entered, and the files that they stand in.

    python -m bench.trips [--files] [--json FILE]

Counted on the running proxy, in folder mode, as the mean of some events of a kind. A file counts where at least every
second event enters it. Audit lines are part of it, up to their write.
"""

import argparse
import json
import signal
import socket
import ssl
import sys
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from addons.net.sockets import CLOSE_TIMEOUTS
from bench.peers.connector_proxy import start_proxy
from bench.peers.endpoint import Endpoint
from bench.testbed import Testbed, open_testbed

CONNECTIONS: Final = 30
"""No more than are kept of one Connector."""
TIMEOUT: Final = 30.0
PATH: Final = "/api/v1/namespaces/bench/pods/small"
GOALS: Final = {"CONNECT, warm": (70, 14), "GET, warm": (95, 16)}
"""Calls and files at most."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", action="store_true", help="name the files, with the calls in each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there")
    options = parser.parse_args(arguments)
    with open_testbed() as scene:
        counts = measure(scene)
    sys.stdout.writelines(format_counts(counts, files=options.files))
    if options.json:
        options.json.write_text(json.dumps(counts, indent=2) + "\n")
    return 0 if meets_goals(counts) else 1


def measure(scene: Testbed) -> dict[str, dict[str, float]]:
    """Event -> file -> calls an event, of files that at least every second event enters."""
    counts_file = scene.directory / "trips"
    script = Path(__file__).parent / "inside" / "trips.py"
    endpoint = start_proxy(scene, scripts=(script,), env={"BENCH_TRIPS": str(counts_file)})
    try:
        events = ClientEvents(endpoint)
        events.warm_up()
        # Until what is left of those connections is forgotten, which is no part of what comes now.
        time.sleep(2 * CLOSE_TIMEOUTS.flush)
        counter = CallCounter(endpoint, counts_file)
        return {
            "a connection": counter.count(events.open),
            "CONNECT, warm": counter.count(events.connect),
            "TLS handshake of the client": counter.count(events.handshake),
            "GET, first": counter.count(events.get),
            "GET, warm": counter.count(events.get),
            "its end": counter.count(events.close),
        }
    finally:
        endpoint.process.stop()


def meets_goals(counts: dict[str, dict[str, float]]) -> bool:
    """True if no goal is missed."""
    return all(
        sum(counts[name].values()) <= calls and len(counts[name]) <= files for name, (calls, files) in GOALS.items()
    )


def format_counts(counts: dict[str, dict[str, float]], *, files: bool) -> list[str]:
    lines = [f"{'event':30}{'calls':>8}{'files':>8}\n"]
    for name, calls in counts.items():
        goal = "  goal: {} calls, {} files".format(*GOALS[name]) if name in GOALS else ""
        lines.append(f"{name:30}{sum(calls.values()):8.1f}{len(calls):8}{goal}\n")
        if files:
            ordered = sorted(calls.items(), key=lambda each: -each[1])
            lines += [f"  {count:6.1f}  {file}\n" for file, count in ordered]
    return lines


class ClientEvents:
    """TIMES connections of a client, and what they do in turn."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.context = ssl.create_default_context(cafile=str(endpoint.ca))
        self.context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self.sockets: list[socket.socket] = []

    def warm_up(self) -> None:
        """So that what is remembered of callers, certificates and targets is."""
        for event in (self.open, self.connect, self.handshake, self.get, self.close):
            event()

    def open(self) -> None:
        host, _, port = self.endpoint.proxy.rpartition(":")
        self.sockets = [socket.create_connection((host, int(port)), TIMEOUT) for _ in range(CONNECTIONS)]

    def connect(self) -> None:
        target, credentials = self.endpoint.target, b64encode(self.endpoint.auth.encode()).decode()
        fields = f"Host: {target}\r\nUser-Agent: trips\r\nProxy-Authorization: Basic {credentials}\r\n"
        for connection in self.sockets:
            connection.sendall(f"CONNECT {target} HTTP/1.1\r\n{fields}\r\n".encode())
            _read_head(connection)

    def handshake(self) -> None:
        host = self.endpoint.target.rpartition(":")[0]
        self.sockets = [self.context.wrap_socket(each, server_hostname=host) for each in self.sockets]

    def get(self) -> None:
        for connection in self.sockets:
            connection.sendall(
                f"GET {PATH} HTTP/1.1\r\nHost: {self.endpoint.target}\r\nUser-Agent: trips\r\n\r\n".encode()
            )
            _read_response(connection)

    def close(self) -> None:
        for connection in self.sockets:
            connection.close()


class CallCounter:
    """Asks the script in the proxy."""

    def __init__(self, endpoint: Endpoint, counts_file: Path) -> None:
        self.endpoint = endpoint
        self.counts_file = counts_file
        self.line_count = 0

    def count(self, event: Callable[[], None]) -> dict[str, float]:
        self._read_counts()
        event()
        # The last of the audit lines are written.
        time.sleep(0.2)
        calls = self._read_counts()
        return {file: count / CONNECTIONS for file, count in sorted(calls.items()) if count >= CONNECTIONS / 2}

    def _read_counts(self) -> Counter[str]:
        self.endpoint.process.popen.send_signal(signal.SIGUSR1)
        self.line_count += 1
        deadline = time.monotonic() + TIMEOUT
        while time.monotonic() < deadline:
            lines = self.counts_file.read_text().splitlines(keepends=True) if self.counts_file.exists() else []
            if len(lines) >= self.line_count and lines[self.line_count - 1].endswith("\n"):
                counts: dict[str, Any] = json.loads(lines[self.line_count - 1])
                return Counter(counts)
            time.sleep(0.01)
        raise RuntimeError("the proxy does not tell its calls")


def _read_head(connection: socket.socket) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        piece = connection.recv(65536)
        if not piece:
            raise RuntimeError("the proxy closed the connection")
        head += piece
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise RuntimeError(f"the proxy refused: {head!r}")
    return head


def _read_response(connection: socket.socket) -> None:
    head, _, body = _read_head(connection).partition(b"\r\n\r\n")
    size = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:"))
    while len(body) < size:
        body += connection.recv(65536)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
