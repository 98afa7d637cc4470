"""The CA of a cluster's proxies: a Secret that the controller keeps, in the shape that mitmproxy reads from its folder.

    mitmproxy-ca.pem   private key, CA certificate, and what else to send with the certificates that it signs
    ca.crt             the CA certificates to trust, more than one during a rotation; absent: that CA certificate

A changed Secret is used by the next handshake; tunnels that are open have theirs behind them. One that cannot be used,
or that is gone, leaves the last good one in place.
"""

import base64
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from mitmproxy.certs import Cert, CertStore, DHParams

from connector_store.domain.errors import ParseError
from connector_store.domain.fields import Fields
from connector_store.domain.names import ObjectKey
from connector_store.trust import load_certificates

SIGNING: Final = "mitmproxy-ca.pem"
PUBLISHED: Final = "ca.crt"

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """What signs, and the PEM of what callers shall trust."""

    signer: CertStore
    published: bytes


class SecretAuthority:
    """Follows the Secret `key`; `on_change` is for whoever watches it."""

    def __init__(self, key: ObjectKey) -> None:
        self._key = key
        self._found: Authority | None = None

    @property
    def signer(self) -> CertStore | None:
        """None until there is one."""
        return self._found.signer if self._found is not None else None

    @property
    def published(self) -> bytes | None:
        return self._found.published if self._found is not None else None

    def on_change(self, raw: Mapping[str, object] | None) -> None:
        """The Secret as the API server has it; None: there is none."""
        kept = "; the CA stays the last one" if self._found is not None else "; not ready until it is there"
        if raw is None:
            logger.warning('secrets "%s" not found in namespace "%s"%s', self._key.name, self._key.namespace, kept)
            return
        try:
            self._found = parse_authority(raw)
        except ParseError as error:
            logger.warning('secrets "%s": %s%s', self._key.name, error, kept)


def parse_authority(raw: Mapping[str, object]) -> Authority:
    """Read the Secret; ParseError names the key and quotes nothing of it."""
    data = Fields(raw, "").child("data")
    pem = _decoded(data, SIGNING)
    if pem is None:
        raise ParseError(f"data[{SIGNING}]", "is missing; it holds the private key and the certificate of the CA")
    try:
        chain = [Cert(each) for each in load_certificates(pem)]
        key = load_pem_private_key(pem, None)
    except ParseError as error:
        raise ParseError(f"data[{SIGNING}]", error.reason) from None
    except (ValueError, TypeError):
        raise ParseError(f"data[{SIGNING}]", "has no private key that can be read, PEM without a password") from None
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise ParseError(f"data[{SIGNING}]", "has a private key that is neither RSA nor EC")
    if key.public_key() != chain[0].to_cryptography().public_key():
        raise ParseError(f"data[{SIGNING}]", "has a private key of another certificate than its first")
    signer = CertStore(key, chain[0], None, b"", DHParams(b""))
    signer.default_chain_certs = chain
    return Authority(signer=signer, published=_published(data) or chain[0].to_pem())


def _published(data: Fields) -> bytes | None:
    pem = _decoded(data, PUBLISHED)
    if pem is None:
        return None
    try:
        return b"".join(each.public_bytes(Encoding.PEM) for each in load_certificates(pem))
    except ParseError as error:
        raise ParseError(f"data[{PUBLISHED}]", error.reason) from None


def _decoded(data: Fields, key: str) -> bytes | None:
    text = data.text(key)
    try:
        return base64.b64decode(text, validate=True) if text is not None else None
    except ValueError:
        raise ParseError(f"data[{key}]", "is not base64") from None
