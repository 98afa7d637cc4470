"""The scene of one run: a temporary directory, the certificates, the credential and the target."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.certificates import Authority, authority
from bench.process import Process
from bench.programs import Programs, build


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """target: a TLS server; blackhole accepts TCP and says nothing; faulty breaks every handshake (all host:port)."""

    directory: Path
    programs: Programs
    target_ca: Authority
    proxy_ca: Authority
    token: str
    target_process: Process
    target: str
    blackhole: str
    faulty: str

    def room(self, name: str) -> Path:
        """A directory of its own for one peer, open to the user that it may change to."""
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))
        path.chmod(0o777)
        return path


@contextmanager
def place() -> Iterator[Place]:
    """A target that runs while the block does; nothing is left behind."""
    programs = build()
    with tempfile.TemporaryDirectory(prefix="connector-bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        target_ca, proxy_ca = authority(directory, "target"), authority(directory, "proxy")
        token = secrets.token_urlsafe(600)
        cert = target_ca.issue(directory / "target.pem")
        env = {"BENCH_TOKEN": token, "GOMAXPROCS": os.environ.get("GOMAXPROCS", "2")}
        process = Process([programs.target, "-cert", cert], directory / "target.log", env=env, pipes=True)
        try:
            _, target, blackhole, faulty = process.hear().split()
            yield Place(
                directory=directory, programs=programs, target_ca=target_ca, proxy_ca=proxy_ca, token=token,
                target_process=process, target=target, blackhole=blackhole, faulty=faulty,
            )  # fmt: skip
        finally:
            process.stop()
