"""Client of a proxy, as a program, so that its wall clock can be moved.

`python aged_client.py CA_FILE` reads the arguments as JSON from stdin, sends a request by each route, and prints the
status of the responses, or the errors, as JSON. `call_each_route` runs it.
"""

import base64
import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

TIMEOUT = 90.0
ROUTES = ("tunnel", "path", "alias")
ALL_SERVED = dict.fromkeys(ROUTES, 200)


def call_each_route(
    ca_file: Path, *, port: int, target: str, key: object, token: str, environment: Mapping[str, str]
) -> dict[str, object]:
    """Return the status of the response by each route, or the error. `target` is HOST:PORT."""
    output = subprocess.run(
        [sys.executable, __file__, str(ca_file)],
        input=json.dumps({"port": port, "target": target, "key": str(key), "token": token}),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=2 * TIMEOUT,
    )
    results: dict[str, object] = json.loads(output.stdout)
    return results


def request(context: ssl.SSLContext, connection: socket.socket, host: str, path: str, *fields: str) -> int:
    """Return the status of the response. Raises OSError if the handshake or the verification of the name fails."""
    with context.wrap_socket(connection, server_hostname=host.partition(":")[0]) as tls:
        tls.sendall("\r\n".join((f"GET {path} HTTP/1.1", f"Host: {host}", *fields, "", "")).encode())
        return status(tls)


def status(connection: socket.socket) -> int:
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        if not data:
            raise ConnectionError("the connection was closed before a response")
        head += data
    return int(head.split()[1])


def tunnel(port: int, target: str, key: str, token: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    credentials = base64.b64encode(f"{key}:{token}".encode()).decode()
    connection.sendall(
        f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Authorization: Basic {credentials}\r\n\r\n".encode()
    )
    if (code := status(connection)) != 200:
        raise ConnectionError(f"CONNECT: {code}")
    return connection


def main() -> None:
    context = ssl.create_default_context(cafile=sys.argv[1])
    arguments = json.load(sys.stdin)
    port, target, key, token = (arguments[name] for name in ("port", "target", "key", "token"))
    namespace, name = key.split("/")

    def call(route: str) -> int | str:
        try:
            if route == "tunnel":
                return request(context, tunnel(port, target, key, token), target, "/version")
            connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
            field = f"Authorization: Bearer {token}"
            if route == "path":
                return request(context, connection, "127.0.0.1", f"/connectors/{key}/version", field)
            return request(context, connection, f"c-{name}.{namespace}.svc.cluster.local", "/version", field)
        except OSError as error:
            return str(error)

    print(json.dumps({route: call(route) for route in ROUTES}))  # noqa: T201 - the output


if __name__ == "__main__":
    main()
