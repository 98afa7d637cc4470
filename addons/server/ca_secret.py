"""The CA of a cluster's proxies: follows the Secret that the controller keeps (`connector_store.ca_secret`).

A changed Secret is used by the next handshake; tunnels that are open have theirs behind them. One that cannot be used,
or that is gone, leaves the last good one in place.
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
    """What signs, and the PEM of what callers shall trust."""

    signer: CertStore
    published: bytes


class CaSecret:
    """Follows the Secret `key`; `on_change` is for whoever watches it."""

    def __init__(self, key: ObjectKey) -> None:
        self._key = key
        self._authority: SigningAuthority | None = None

    @property
    def signer(self) -> CertStore | None:
        """None until there is one."""
        return self._authority.signer if self._authority is not None else None

    @property
    def published(self) -> bytes | None:
        return self._authority.published if self._authority is not None else None

    def on_change(self, raw: Mapping[str, object] | None) -> None:
        """The Secret as the API server has it; None: there is none."""
        consequence = "; the CA stays the last one" if self._authority is not None else "; not ready until it is there"
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
    """Read the Secret; ParseError names the key and quotes nothing of it."""
    data = read_data(raw)
    published = to_pem(*trusted_certificates(data))
    source = read_signer(data, SIGNING_CA_KEY)
    chain = [Cert(each) for each in source.chain]
    signer = CertStore(source.key, chain[0], None, b"", DHParams(b""))
    signer.default_chain_certs = chain
    return SigningAuthority(signer=signer, published=published)
