"""CA certificate of a proxy that creates its own, in mitmproxy's confdir."""

from pathlib import Path
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.pem import parse_certificates

CA_FILE: Final = "mitmproxy-ca-cert.pem"
DEFAULT_CONFDIR: Final = Path("~/.mitmproxy")


def confdir_or_default(confdir: Path | None) -> Path:
    return (confdir or DEFAULT_CONFDIR).expanduser()


def read_proxy_ca(confdir: Path | None) -> bytes:
    """Return the CA certificate (PEM). Raises ParseError if it does not exist."""
    path = confdir_or_default(confdir) / CA_FILE
    try:
        return b"".join(parse_certificates(path.read_bytes()))
    except FileNotFoundError:
        raise ParseError(
            str(path), "not found; start the proxy once with: connectorctl proxy, or name its --confdir"
        ) from None
    except ParseError as error:
        raise ParseError(str(path), error.reason) from error
