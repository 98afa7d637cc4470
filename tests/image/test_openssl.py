"""The image's OpenSSL settings, as read by the OpenSSL in `cryptography`, which serves the clients."""

import subprocess
import sys

import pytest

from bench.checkout import ROOT, image_environment

SCRIPT = """
from lab.certificates import make_ca, make_leaf
from tests.addons.net.test_tls import begin, client, server
ca = make_ca()
near, far = client(ca), server(make_leaf(ca, ["127.0.0.1"]))
begin(near, far)
far.stream.receive(near.sink.take())
data, records = far.sink.take(), 0
while data:
    data, records = data[5 + int.from_bytes(data[3:5]):], records + 1
print(records)
"""
"""Print the number of records after the handshake. Each record is a session ticket."""


@pytest.mark.slow
def test_a_handshake_gives_one_session_ticket() -> None:
    environment = image_environment((ROOT / "Dockerfile").read_text(), ROOT)
    assert environment["OPENSSL_CONF"] == str(ROOT / "image" / "openssl.cnf")
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
