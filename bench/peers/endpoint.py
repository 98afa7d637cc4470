"""What the load generator needs to know to reach the target through a peer."""

from dataclasses import dataclass, field
from pathlib import Path

from bench.process import MeasuredProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """proxy: host:port for CONNECT, empty when target is a server to be spoken to directly; ca: who signs there.

    auth: of CONNECT; bearer: the token of each request; prefix: before its path.
    direct: the same process without CONNECT, where it can do that.
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
