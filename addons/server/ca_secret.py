"""CA of the proxies in a cluster, from the Secret that the controller manages (see `connector_store.ca_secret`).

After a change of the Secret, new TLS handshakes use the new CA. If the Secret is invalid or deleted, the last valid CA
stays in use.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from mitmproxy.certs import Cert, CertStore, DHParams

from connector_store.ca_secret import read_data, read_signer, to_pem, trusted_certificates
from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.status.rotation_plan import SIGNING_CA_KEY

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningAuthority:
    """CA that signs certificates, and the PEM of the CA certificates that clients must trust."""

    signer: CertStore
    published: bytes


class CaSecret:
    """Current CA in the Secret `key`. The watch of the Secret must call `on_change`."""

    def __init__(self, key: ObjectKey) -> None:
        self._key = key
        self._authority: SigningAuthority | None = None

    @property
    def signer(self) -> CertStore | None:
        """CA that signs certificates. None before the first valid Secret."""
        return self._authority.signer if self._authority is not None else None

    @property
    def published(self) -> bytes | None:
        """PEM of the CA certificates that clients must trust. None before the first valid Secret."""
        return self._authority.published if self._authority is not None else None

    def on_change(self, raw: Mapping[str, object] | None) -> None:
        """Use the Secret from the API server. `raw` is None if it does not exist."""
        consequence = "; the last CA stays in use" if self._authority is not None else "; not ready until it is valid"
        if raw is None:
            logger.warning(
                'secrets "%s" not found in namespace "%s"%s', self._key.name, self._key.namespace, consequence
            )
            return
        try:
            self._authority = parse_authority(raw)
        except ParseError as error:
            logger.warning('secrets "%s": %s%s', self._key.name, error, consequence)


def parse_authority(raw: Mapping[str, object]) -> SigningAuthority:
    """Parse the Secret. Raises ParseError, which names the key and does not quote its value."""
    data = read_data(raw)
    published = to_pem(*trusted_certificates(data))
    source = read_signer(data, SIGNING_CA_KEY)
    chain = [Cert(certificate) for certificate in source.chain]
    signer = CertStore(source.key, chain[0], None, b"", DHParams(b""))
    signer.default_chain_certs = chain
    return SigningAuthority(signer=signer, published=published)
