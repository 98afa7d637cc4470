"""Clients in other languages than Go, built once from the pins in scripts/clients into the cache folder.

Each folder in scripts/clients has the sources and the lock files of one language. The lock files do not name the host
of a registry. The name of the cache folder has the digest of these files.
"""

import fcntl
import hashlib
import os
import re
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.go_modules import ProgramsMissingError, cache_root, run_with_progress
from lab.process import tie_to_parent
from lab.programs import CLIENTS, OPERATOR, ensure_programs
from lab.progress import CommandProgress, report_progress

PINS = Path(__file__).parents[1] / "scripts" / "clients"
COLLECTION = "ansible_collections/kubernetes/core/"
_COMPLETE_MARKER = "whole"
"""Name of a file that is created after all other files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ecosystem:
    """The clients of one language. `build` builds them from the folder of the pins into the cache folder.

    `tool` must be on PATH; `hint` says how to install it. `pinned_files` matches the files that `build` reads.
    """

    folder: str
    tool: str
    hint: str
    build: Callable[[Path, Path], None]
    pinned_files: str = "**/*"

    @property
    def pins(self) -> Path:
        return PINS / self.folder

    @property
    def cache(self) -> Path:
        digest = hashlib.sha256(self.tool.encode())
        for source in sorted(path for path in self.pins.glob(self.pinned_files) if path.is_file()):
            digest.update(str(source.relative_to(self.pins)).encode() + source.read_bytes())
        return cache_root() / f"client-{self.folder}-{digest.hexdigest()[:16]}"


def ensure_clients(ecosystem: Ecosystem) -> Path:
    """Return the cache folder of the clients. Build them if they are not complete."""
    cache = ecosystem.cache
    if not (cache / _COMPLETE_MARKER).exists():
        if shutil.which(ecosystem.tool) is None:
            raise ProgramsMissingError(
                f"no {ecosystem.tool} on PATH for the client in {ecosystem.folder}: {ecosystem.hint}"
            )
        cache.mkdir(parents=True, exist_ok=True)
        with (cache.parent / f"{cache.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (cache / _COMPLETE_MARKER).exists():
                _build(ecosystem, cache)
    return cache


def build_all() -> None:
    """Build the clients of all languages, including Go."""
    ensure_programs(CLIENTS, ["client"])
    ensure_programs(OPERATOR, ["operator"])
    for ecosystem in ECOSYSTEMS:
        ensure_clients(ecosystem)


def _build(ecosystem: Ecosystem, cache: Path) -> None:
    started_at = time.monotonic()
    report_progress(f"building the client in {ecosystem.folder} (once; it stays in {cache})")
    for path in cache.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    ecosystem.build(ecosystem.pins, cache)
    (cache / _COMPLETE_MARKER).touch()
    report_progress(f"built the client in {ecosystem.folder} in {time.monotonic() - started_at:.0f} s")


def _python(pins: Path, cache: Path) -> None:
    """Create a venv, because Ansible starts other programs, and unpack one collection of the package `ansible`."""
    run_with_output([sys.executable, "-m", "venv", str(cache / "venv")], cache)
    run_with_output(_pip(cache, "install", pins=pins / "requirements.lock"), cache)
    run_with_output(_pip(cache, "download", "--no-deps", "-d", str(cache), pins=pins / "collection.lock"), cache)
    [wheel] = cache.glob("ansible-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(cache, [name for name in archive.namelist() if name.startswith(COLLECTION)])
    wheel.unlink()


def _pip(cache: Path, *arguments: str, pins: Path) -> list[str]:
    pip = [str(cache / "venv/bin/python"), "-m", "pip", "--disable-pip-version-check"]
    return [*pip, *arguments, "--only-binary=:all:", "--require-hashes", "-r", str(pins)]


def _javascript(pins: Path, cache: Path) -> None:
    shutil.copytree(pins, cache, dirs_exist_ok=True)
    run_with_output(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=http"], cache)


def _java(pins: Path, cache: Path) -> None:
    maven = ["mvn", "--batch-mode", "--strict-checksums", "-f", str(pins / "pom.xml"), f"-Dcache={cache}"]
    run_with_output([*maven, "package"], cache)


def _rust(pins: Path, cache: Path) -> None:
    source = cache / "source"
    shutil.copytree(pins, source)
    run_with_output(["cargo", "generate-lockfile"], source)
    lock = source / "Cargo.lock"
    lock.write_text(add_registry((pins / "crates.lock").read_text(), lock.read_text()))
    run_with_output(["cargo", "build", "--locked"], source)
    (source / "target" / "debug" / "with-kube-rs").rename(cache / "with-kube-rs")
    shutil.rmtree(source)


def add_registry(pinned: str, resolved: str) -> str:
    """Return crates.lock as a Cargo.lock: with the lines `source`, which name the registry in Cargo's own lock file."""
    [registry] = set(re.findall(r"^source = .*$", resolved, re.MULTILINE))
    return re.sub(r"^checksum = ", f"{registry}\nchecksum = ", pinned, flags=re.MULTILINE)


PYTHON = Ecosystem(folder="python", tool="python3", hint="install Python", build=_python, pinned_files="*.lock")
JAVASCRIPT = Ecosystem(folder="javascript", tool="npm", hint="install Node.js", build=_javascript)
MCP = Ecosystem(folder="mcp", tool="npm", hint="install Node.js", build=_javascript)
"""MCP servers for Kubernetes. They are not clients of a pod: their tests start them as an agent does."""
AXE = Ecosystem(folder="axe", tool="npm", hint="install Node.js", build=_javascript)
"""axe-core, which finds barriers on a page. It runs in the Chromium of its test."""
JAVA = Ecosystem(folder="java", tool="mvn", hint="install a JDK and Maven", build=_java)
RUST = Ecosystem(folder="rust", tool="cargo", hint="install Rust (rustup)", build=_rust)
ECOSYSTEMS = (PYTHON, JAVASCRIPT, MCP, AXE, JAVA, RUST)


def run_with_output(command: Sequence[str], folder: Path) -> None:
    """Run a command, and print a line of its output now and then."""
    environment = os.environ | {"NO_COLOR": "1"}
    run_with_progress(tie_to_parent(command), folder, environment, CommandProgress("lines"))


if __name__ == "__main__":
    try:
        build_all()
    except ProgramsMissingError as error:
        sys.exit(f"error: {error}")
