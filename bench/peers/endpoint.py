"""Address and credentials with which the load generator reaches the target through a peer."""

from dataclasses import dataclass, field
from pathlib import Path

from bench.process import MeasuredProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A running peer.

    `proxy` is host:port for CONNECT, or empty if the client connects to `target` directly. `ca` signs the certificate
    that the client sees. `auth` is for CONNECT, `bearer` is the token of each request, `prefix` precedes its path.
    `direct` is the same process without CONNECT, or None if it does not support this.
    """

    name: str
    process: MeasuredProcess
    proxy: str
    target: str
    ca: Path
    auth: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    prefix: str = ""
    admin: str = ""
    direct: "Endpoint | None" = None
