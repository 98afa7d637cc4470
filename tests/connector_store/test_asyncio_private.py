"""Each private name of asyncio that the product uses is there."""

from asyncio.sslproto import SSLProtocol

import pytest

from connector_store.asyncio_private import TLS_BUFFER_SIZE, reduce_tls_buffers


def test_tls_buffers_become_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    # `test_an_idle_connection_uses_little_memory` of the Kubernetes client sees the effect.
    monkeypatch.setattr(SSLProtocol, "max_size", SSLProtocol.max_size)
    before = SSLProtocol.max_size
    reduce_tls_buffers()
    assert SSLProtocol.max_size == TLS_BUFFER_SIZE
    assert before in (256 * 1024, TLS_BUFFER_SIZE)
