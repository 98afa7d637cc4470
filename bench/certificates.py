"""Temporary certificate authorities for one run of the benchmark."""

from pathlib import Path
from typing import Final

from lab.certificates import make_ca, make_leaf
from lab.pki import write_private_file

DAYS: Final = 2


class CertificateAuthority:
    """A CA. `cert` is the PEM file of its certificate; `cert_and_key` also has the key, as squid needs it."""

    def __init__(self, directory: Path, name: str) -> None:
        self._ca = make_ca(f"bench {name}", days=DAYS)
        self.cert = directory / f"{name}-ca.pem"
        self.cert.write_bytes(self._ca.pem)
        self.cert_and_key = write_private_file(directory / f"{name}-ca-and-key.pem", self._ca.combined_pem)

    def issue(self, file: Path) -> Path:
        """Write a server certificate for localhost and 127.0.0.1 with its key to `file`, and return the path."""
        leaf = make_leaf(self._ca, ["localhost", "127.0.0.1"], send_chain=False, days=DAYS)
        return write_private_file(file, leaf.combined_pem)
