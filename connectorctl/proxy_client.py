"""Requests to the proxy itself, over TLS that is verified by the proxy's own CA. Standard library only."""

import base64
import http.client
import json
import ssl
from typing import Final, NamedTuple

TIMEOUT: Final = 10.0
"""Seconds for a connection, and for each read."""
MAX_BODY: Final = 256 * 1024
"""Maximum bytes of a response to read."""


class Answer(NamedTuple):
    """Response of the proxy. `message` is the sentence of a refusal, or else the body.

    `retry_after` is the header Retry-After of a refusal that ends by itself.
    """

    status: int
    message: str
    retry_after: str | None


def make_context(ca: bytes) -> ssl.SSLContext:
    """Return a TLS context that trusts `ca` (PEM) only. Raises ssl.SSLError if there is no certificate in it."""
    # Unlike create_default_context, SSLContext neither reads SSLKEYLOGFILE nor refuses a CA without key identifiers.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca.decode("ascii", "replace"))
    return context


def basic_credentials(key: str, token: str) -> str:
    """Return the value of Authorization or Proxy-Authorization for a caller of the Connector `key`."""
    return "Basic " + base64.b64encode(f"{key}:{token}".encode()).decode("ascii")


def get_page(host: str, port: int, path: str, *, context: ssl.SSLContext, headers: dict[str, str]) -> Answer:
    """Send a GET to the proxy. Raises OSError or http.client.HTTPException if there is no complete response."""
    connection = http.client.HTTPSConnection(host, port, timeout=TIMEOUT, context=context)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return Answer(response.status, read_message(response.read(MAX_BODY)), response.headers["Retry-After"])
    finally:
        connection.close()


def read_message(body: bytes) -> str:
    """Return the message of a Kubernetes Status, or the text itself if it is not one."""
    text = body.decode("utf-8", "replace")
    try:
        message = json.loads(text)["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return text.strip()
    return message if isinstance(message, str) else text.strip()
