"""Testbed of one run: a temporary directory, the certificates, the credential and the target."""

import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.certificates import CertificateAuthority
from bench.go_programs import GoPrograms, build
from bench.process import MeasuredProcess


@dataclass(frozen=True, slots=True, kw_only=True)
class Testbed:
    """A target and its files. `target`, `blackhole` and `faulty` are host:port of one process.

    `target` is a TLS server, `blackhole` accepts TCP connections and sends nothing, `faulty` breaks every handshake.
    """

    __test__ = False
    """Tells pytest that this class has no tests."""

    directory: Path
    programs: GoPrograms
    target_ca: CertificateAuthority
    proxy_ca: CertificateAuthority
    token: str
    target_process: MeasuredProcess
    target: str
    blackhole: str
    faulty: str

    def make_folder(self, name: str) -> Path:
        """Create a directory for one peer, writable for the user that the peer may change to."""
        path = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.directory))
        path.chmod(0o777)
        return path


@contextmanager
def open_testbed() -> Iterator[Testbed]:
    """Run a target, and remove all files at the end."""
    programs = build()
    with tempfile.TemporaryDirectory(prefix="connector-bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        target_ca, proxy_ca = CertificateAuthority(directory, "target"), CertificateAuthority(directory, "proxy")
        token = secrets.token_urlsafe(600)
        cert = target_ca.issue(directory / "target.pem")
        env = {"BENCH_TOKEN": token, "GOMAXPROCS": os.environ.get("GOMAXPROCS", "2")}
        process = MeasuredProcess([programs.target, "-cert", cert], directory / "target.log", env=env, pipes=True)
        try:
            _, target, blackhole, faulty = process.read_line().split()
            yield Testbed(
                directory=directory, programs=programs, target_ca=target_ca, proxy_ca=proxy_ca, token=token,
                target_process=process, target=target, blackhole=blackhole, faulty=faulty,
            )  # fmt: skip
        finally:
            process.stop()
