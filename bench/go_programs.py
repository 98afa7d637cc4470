"""The Go programs of the benchmark, built once per source into a cache outside the checkout."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class GoPrograms:
    load: Path
    target: Path


def build() -> GoPrograms:
    """Return the programs, and build them if they are not in the cache. Exit with a message if there is no Go."""
    sources = sorted([HERE / "go.mod", *HERE.rglob("*.go")])
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    out = cache / "kubernetes-connector" / "bench" / digest
    programs = GoPrograms(load=out / "load", target=out / "target")
    out.mkdir(parents=True, exist_ok=True)
    with (out / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (programs.load.exists() and programs.target.exists()):
            go = shutil.which("go") or sys.exit("bench needs Go 1.25 or later to build its load generator and target")
            _build(go, out)
    return programs


def _build(go: str, out: Path) -> None:
    """Build the programs in a temporary folder and rename them, so that a program in the cache is whole."""
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        subprocess.run([go, "build", "-o", f"{scratch}/", "./cmd/..."], cwd=HERE, check=True)
        for program in Path(scratch).iterdir():
            program.rename(out / program.name)
