"""Errors of a connection, in words. `test_kubeconfig_checks` has the connection itself."""

import asyncio
import errno
import socket
import ssl

import pytest

from connectorctl.proxy_route import describe_error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('::1', 1)"), "Connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
         "the name cannot be resolved: Name or service not known"),
        (TimeoutError(), "no answer in time"),
        (asyncio.IncompleteReadError(b"", None), "the connection was closed without an answer"),
        (ConnectionResetError(errno.ECONNRESET, "x"), "the connection was closed without an answer"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number"), "TLS failed: "),
        (OSError("no valid response: BadStatusLine"), "no valid response: BadStatusLine"),
        (ValueError("text"), "text"),
    ],
)  # fmt: skip
def test_an_error_is_described_without_numbers(error: Exception, text: str) -> None:
    assert describe_error(error).startswith(text)
