"""Clients of other languages than Go, built once from the pins in scripts/clients into the cache folder.

Each folder there has the sources of a language and what its package manager needs to get the same bytes again; none
names the host of a registry. The cache folder is named by their digest.
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

from lab.process import tied
from lab.programs import CLIENTS, OPERATOR, ProgramsMissingError, built, cache_root, follow, say

PINS = Path(__file__).parents[1] / "scripts" / "clients"
COLLECTION = "ansible_collections/kubernetes/core/"
_WHOLE = "whole"
"""A file that is there once everything else is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ecosystem:
    """`build` makes what clients of a language need, from the folder of its pins, in the cache folder.

    `tool` has to be on PATH; `hint` says how it is installed. `pinned` are the files of the folder that `build` reads.
    """

    folder: str
    tool: str
    hint: str
    build: Callable[[Path, Path], None]
    pinned: str = "**/*"

    @property
    def pins(self) -> Path:
        return PINS / self.folder

    @property
    def cache(self) -> Path:
        digest = hashlib.sha256(self.tool.encode())
        for source in sorted(path for path in self.pins.glob(self.pinned) if path.is_file()):
            digest.update(str(source.relative_to(self.pins)).encode() + source.read_bytes())
        return cache_root() / f"client-{self.folder}-{digest.hexdigest()[:16]}"


def ready(ecosystem: Ecosystem) -> Path:
    """Its cache folder, whole; built now if it is not there yet."""
    cache = ecosystem.cache
    if not (cache / _WHOLE).exists():
        if shutil.which(ecosystem.tool) is None:
            raise ProgramsMissingError(
                f"no {ecosystem.tool} on PATH for the client in {ecosystem.folder}: {ecosystem.hint}"
            )
        cache.mkdir(parents=True, exist_ok=True)
        with (cache.parent / f"{cache.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (cache / _WHOLE).exists():
                _build(ecosystem, cache)
    return cache


def build() -> None:
    """All of them, and what Go builds."""
    built(CLIENTS, ["client"])
    built(OPERATOR, ["operator"])
    for ecosystem in ECOSYSTEMS:
        ready(ecosystem)


def _build(ecosystem: Ecosystem, cache: Path) -> None:
    started = time.monotonic()
    say(f"building the client in {ecosystem.folder} (once; it stays in {cache})")
    for each in cache.iterdir():
        shutil.rmtree(each) if each.is_dir() else each.unlink()
    ecosystem.build(ecosystem.pins, cache)
    (cache / _WHOLE).touch()
    say(f"built the client in {ecosystem.folder} in {time.monotonic() - started:.0f} s")


def _python(pins: Path, cache: Path) -> None:
    """A venv, because Ansible starts programs of its own; beside it one collection of the package that has them all."""
    run([sys.executable, "-m", "venv", str(cache / "venv")], cache)
    pip = [str(cache / "venv/bin/python"), "-m", "pip", "--disable-pip-version-check"]
    locked = ["--only-binary=:all:", "--require-hashes", "-r"]
    run([*pip, "install", *locked, str(pins / "requirements.lock")], cache)
    run([*pip, "download", "--no-deps", "-d", str(cache), *locked, str(pins / "collection.lock")], cache)
    [wheel] = cache.glob("ansible-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(cache, [name for name in archive.namelist() if name.startswith(COLLECTION)])
    wheel.unlink()


def _javascript(pins: Path, cache: Path) -> None:
    shutil.copytree(pins, cache, dirs_exist_ok=True)
    run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=http"], cache)


def _java(pins: Path, cache: Path) -> None:
    maven = ["mvn", "--batch-mode", "--strict-checksums", "-f", str(pins / "pom.xml"), f"-Dcache={cache}"]
    run([*maven, "package"], cache)


def _rust(pins: Path, cache: Path) -> None:
    source = cache / "source"
    shutil.copytree(pins, source)
    run(["cargo", "generate-lockfile"], source)
    lock = source / "Cargo.lock"
    lock.write_text(with_registry((pins / "crates.lock").read_text(), lock.read_text()))
    run(["cargo", "build", "--locked"], source)
    (source / "target" / "debug" / "with-kube-rs").rename(cache / "with-kube-rs")
    shutil.rmtree(source)


def with_registry(pinned: str, resolved: str) -> str:
    """Cargo.lock of crates.lock, which is the same without `source`: the registry that Cargo itself has just named."""
    [registry] = set(re.findall(r"^source = .*$", resolved, re.MULTILINE))
    return re.sub(r"^checksum = ", f"{registry}\nchecksum = ", pinned, flags=re.MULTILINE)


PYTHON = Ecosystem(folder="python", tool="python3", hint="install Python", build=_python, pinned="*.lock")
JAVASCRIPT = Ecosystem(folder="javascript", tool="npm", hint="install Node.js", build=_javascript)
JAVA = Ecosystem(folder="java", tool="mvn", hint="install a JDK and Maven", build=_java)
RUST = Ecosystem(folder="rust", tool="cargo", hint="install Rust (rustup)", build=_rust)
ECOSYSTEMS = (PYTHON, JAVASCRIPT, JAVA, RUST)


def run(command: Sequence[str], folder: Path) -> None:
    """One that says what it does line by line, of which some are shown."""
    environment = os.environ | {"NO_COLOR": "1"}
    follow(tied(command), folder, environment, lambda count, line: f"{count} lines, now {line[:100]}")


if __name__ == "__main__":
    try:
        build()
    except ProgramsMissingError as error:
        sys.exit(f"error: {error}")
