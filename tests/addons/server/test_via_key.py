"""Secret for the Via of direct access."""

import base64

import pytest
from mitmproxy.certs import CertStore

from addons.server.ca_secret import parse_authority
from addons.server.via_key import VIA_KEY_SIZE, ViaKey
from connector_store.domain.status.rotation_plan import SIGNING_CA_KEY
from lab.certificates import KeyPair, make_ca


def signer(ca: KeyPair) -> CertStore:
    return parse_authority({"data": {SIGNING_CA_KEY: base64.b64encode(ca.combined_pem).decode()}}).signer


def test_proxies_with_the_same_ca_have_the_same_secret_and_it_changes_with_the_ca() -> None:
    ca = make_ca("ca")
    current = signer(ca)
    key = ViaKey(lambda: current)
    first = key()
    assert len(first) == VIA_KEY_SIZE
    assert first == key() == ViaKey(lambda: signer(ca))()
    current = signer(make_ca("ca"))
    assert key() != first


def test_the_secret_is_not_a_part_of_the_private_key() -> None:
    ca = make_ca("ca")
    number = ca.key.private_numbers().private_value
    assert ViaKey(lambda: signer(ca))() != number.to_bytes(32, "big")


def test_without_a_ca_there_is_no_secret() -> None:
    with pytest.raises(RuntimeError, match="the CA is not available"):
        ViaKey(lambda: None)()
