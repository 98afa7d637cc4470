"""Count the calls of our Python functions that an event causes, and the files that contain these functions.

    python -m bench.trips [--files] [--json FILE]

The calls are counted in a running proxy in folder mode, as the mean of several events of a kind. A file counts if at
least every second event enters it. Writing audit records is included.
"""

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
from bench.output import make_parser, write_json
from bench.peers.connector_proxy import start_proxy
from bench.peers.endpoint import Endpoint
from bench.testbed import Testbed, open_testbed

CONNECTIONS: Final = 30
"""Number of connections; not more than the upstream pool holds for one Connector."""
TIMEOUT: Final = 30.0
PATH: Final = "/api/v1/namespaces/bench/pods/small"
GOALS: Final = {"CONNECT, warm": (70, 14), "GET, warm": (95, 16)}
"""Maximum number of calls and of files, by event."""


def main(arguments: list[str]) -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--files", action="store_true", help="print the files, with the calls in each")
    options = parser.parse_args(arguments)
    with open_testbed() as testbed:
        counts = measure(testbed)
    sys.stdout.writelines(format_counts(counts, files=options.files))
    write_json(counts, options.json)
    return 0 if meets_goals(counts) else 1


def measure(testbed: Testbed) -> dict[str, dict[str, float]]:
    """Return the calls per event, by event and file, for files that at least every second event enters."""
    counts_file = testbed.directory / "trips"
    script = Path(__file__).parent / "mitmproxy_scripts" / "call_counter.py"
    endpoint = start_proxy(testbed, scripts=(script,), env={"BENCH_TRIPS": str(counts_file)})
    try:
        events = ClientEvents(endpoint)
        events.warm_up()
        # Until the proxy has closed those connections, so that their end is not counted.
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
    return all(
        sum(counts[name].values()) <= calls and len(counts[name]) <= files for name, (calls, files) in GOALS.items()
    )


def format_counts(counts: dict[str, dict[str, float]], *, files: bool) -> list[str]:
    lines = [f"{'event':30}{'calls':>8}{'files':>8}\n"]
    for name, calls in counts.items():
        goal = "  goal: {} calls, {} files".format(*GOALS[name]) if name in GOALS else ""
        lines.append(f"{name:30}{sum(calls.values()):8.1f}{len(calls):8}{goal}\n")
        if files:
            ordered = sorted(calls.items(), key=lambda item: -item[1])
            lines += [f"  {count:6.1f}  {file}\n" for file, count in ordered]
    return lines


class ClientEvents:
    """The events of CONNECTIONS connections of a client. Each method causes one event on every connection."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.context = ssl.create_default_context(cafile=str(endpoint.ca))
        self.context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self.sockets: list[socket.socket] = []

    def warm_up(self) -> None:
        """Cause each event once, so that the proxy has cached the caller, the certificates and the target."""
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
        self.sockets = [self.context.wrap_socket(raw, server_hostname=host) for raw in self.sockets]

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
    """Reads the counts of the script in the proxy."""

    def __init__(self, endpoint: Endpoint, counts_file: Path) -> None:
        self.endpoint = endpoint
        self.counts_file = counts_file
        self.line_count = 0

    def count(self, event: Callable[[], None]) -> dict[str, float]:
        self._read_counts()
        event()
        # Until the last audit records have been written.
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
