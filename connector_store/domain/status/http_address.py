"""Parser of `status.proxy.httpAddress`, which the controller publishes for programs that write kubeconfigs."""

import base64
from collections.abc import Mapping
from typing import NamedTuple

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields


class HttpAddress(NamedTuple):
    """Proxy of one Connector: base URL, PEM of its CAs, and the audience that callers' tokens must have."""

    url: str
    ca: bytes
    audience: str = ""


def parse_http_address(raw: Mapping[str, object]) -> HttpAddress | None:
    """Parse it from a raw Connector. Return None before the controller has published it."""
    address = Fields(raw, "").child("status").child("proxy").child("httpAddress")
    url, certificates = address.text("url"), address.text("CACerts")
    if url is None or certificates is None:
        return None
    try:
        ca = base64.b64decode(certificates, validate=True)
    except ValueError:
        raise ParseError(address.path_of("CACerts"), "is not base64; the controller writes it again") from None
    return HttpAddress(url=url, ca=ca, audience=address.text("audience") or "")
