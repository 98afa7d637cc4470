"""Go modules whose programs tests run, and their sources.

A program of another project is built in that project's own module, with its go.mod and go.sum. scripts/go/upstream.sum
pins these modules, in the format of go.sum: one digest for all files of a module. Kubernetes publishes its components,
such as k8s.io/api, as modules of their own; a second digest pins these. Each folder in scripts/go is a Go module with
programs of this project.
"""

import base64
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

from lab.progress import CommandProgress

PINS = Path(__file__).parents[1] / "scripts" / "go"
UPSTREAM_SUMS = "upstream.sum"
BUILD_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOWORK": "off",
    "GOFLAGS": "-mod=readonly -buildvcs=false",
    "GOSUMDB": "off",
    "GOGC": "400",
}
"""Environment of the compiler. go.sum and upstream.sum have the digests. With GOGC=400 it collects garbage less often:
a fifth of its time, for more memory.
"""


class ProgramsMissingError(Exception):
    """The programs are missing and cannot be built; the message says what to install."""


@dataclass(frozen=True, slots=True)
class _Pin:
    """A line of scripts/go/upstream.sum."""

    module: str
    version: str
    digest: str
    component_digest: str = ""
    """Only Kubernetes has components."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoModule:
    """One pinned Go module, and the package paths of the programs that it builds, by name."""

    folder: str
    """Name in scripts/go, or of the cache folder if scripts/go/upstream.sum pins the upstream module."""
    packages: Mapping[str, str]
    upstream: str
    """Module whose version is pinned."""
    release: str = ""
    """How the version begins, if scripts/go/upstream.sum pins several."""
    version_variable: str | None = None
    kubernetes_packages: tuple[str, ...] = ()
    """Packages whose variables k8sVersionMajor and k8sVersionMinor are the Kubernetes version of client-go."""
    tags: str = ""
    extra_folders: tuple[str, ...] = ()
    """Folders of the upstream module that are copied to the cache folder."""

    @property
    def _own(self) -> Path:
        return PINS / self.folder

    @property
    def _pin(self) -> _Pin:
        for line in (PINS / UPSTREAM_SUMS).read_text().splitlines():
            pin = _Pin(*line.split())
            if pin.module == self.upstream and pin.version.startswith(self.release):
                return pin
        raise ValueError(f"{PINS / UPSTREAM_SUMS}: does not pin {self.upstream} {self.release}")

    @property
    def version(self) -> str:
        return _read_version(self._own / "go.mod", self.upstream) if self._own.is_dir() else self._pin.version

    def flags(self, kubernetes_minor: str = "") -> list[str]:
        variables = {self.version_variable: self.version} if self.version_variable else {}
        for package in self.kubernetes_packages:
            variables |= {f"{package}.k8sVersionMajor": "1", f"{package}.k8sVersionMinor": kubernetes_minor}
        # Without debug information: preparing it takes a tenth of the compiler's time.
        linker = "-s -w" + "".join(f" -X {name}={value}" for name, value in variables.items())
        return ["-trimpath", "-tags", self.tags, "-gcflags", "all=-dwarf=false", "-ldflags", linker]

    @property
    def cache(self) -> Path:
        digest = hashlib.sha256(" ".join(self.flags()).encode())
        if self._own.is_dir():
            for source in sorted(path for path in self._own.rglob("*") if path.is_file()):
                digest.update(str(source.relative_to(self._own)).encode() + source.read_bytes())
        else:
            digest.update(" ".join(astuple(self._pin)[1:]).rstrip().encode())
        return cache_root() / f"{self.folder}-{digest.hexdigest()[:16]}"

    def find_sources(self, go: str, scratch: Path) -> Path:
        """Return the folder with go.mod. Download the upstream module, unless the folder is in scripts/go."""
        if self._own.is_dir():
            return self._own
        pin = self._pin
        answer = _download(go, scratch, pin.module, pin.version)
        _check_digest(pin, pin.digest, answer["Sum"])
        return Path(answer["Dir"])

    def build_flags(self, go: str, sources: Path, scratch: Path) -> list[str]:
        if not self._own.is_dir() and self._pin.component_digest:
            return [f"-modfile={_write_go_mod(go, self._pin, sources, scratch)}", *self.flags()]
        if not self.kubernetes_packages:
            return self.flags()
        return self.flags(_read_version(sources / "go.mod", "k8s.io/client-go").split(".")[1])


def _write_go_mod(go: str, pin: _Pin, sources: Path, scratch: Path) -> Path:
    """Write the go.mod of Kubernetes with the versions of its components, and go.sum. Return go.mod.

    In its repository a component is a folder, and its version v0.0.0. Kubernetes v1.X.Y publishes it as v0.X.Y. The
    components k8s.io/sample-… are for tests of Kubernetes, and left out.
    """
    folders_and_samples = r"^\s*(\S+ => \./|k8s\.io/sample-).*\n"
    go_mod = re.sub(folders_and_samples, "", (sources / "go.mod").read_text(), flags=re.MULTILINE)
    version = "v0" + pin.version.removeprefix("v1")
    component = re.compile(r"^(\s*)(\S+) v0\.0\.0(?=\s)", re.MULTILINE)
    sums = []
    for _, name in component.findall(go_mod):
        answer = _download(go, scratch, name, version)
        sums += [f"{name} {version} {answer['Sum']}\n", f"{name} {version}/go.mod {answer['GoModSum']}\n"]
    digest = base64.b64encode(hashlib.sha256("".join(sums).encode()).digest()).decode()
    _check_digest(pin, pin.component_digest, f"h1:{digest}")
    (scratch / "go.sum").write_text((sources / "go.sum").read_text() + "".join(sums))
    target = scratch / "go.mod"
    target.write_text(component.sub(rf"\1\2 {version}", go_mod))
    return target


def _check_digest(pin: _Pin, expected: str, actual: str) -> None:
    if actual != expected:
        raise ProgramsMissingError(
            f"{PINS / UPSTREAM_SUMS}: {pin.module} {pin.version} has {actual}, not {expected}; "
            "after a change of the version, replace the digest"
        )


def _download(go: str, folder: Path, module: str, version: str) -> dict[str, str]:
    """Download a module to Go's cache. The folder is outside of any module, so that no go.sum has to know it."""
    answer: dict[str, str] = json.loads(run_go([go, "mod", "download", "-json", f"{module}@{version}"], folder))
    return answer


def _read_version(go_mod: Path, module: str) -> str:
    match = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", go_mod.read_text(), re.MULTILINE)
    if match is None:
        raise ValueError(f"{go_mod}: does not pin {module}")
    return match[1]


def cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kubernetes-connector"


def run_go(command: Sequence[str], folder: Path) -> str:
    environment = os.environ | BUILD_ENVIRONMENT
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        output = _last_lines((result.stdout + result.stderr).splitlines(keepends=True))
        raise ProgramsMissingError(f"{' '.join(command)} failed:\n{output}")
    return result.stdout


def run_with_progress(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], progress: CommandProgress
) -> None:
    """Run a command. Raise ProgramsMissingError with the last lines of its output if it fails."""
    lines: list[str] = []
    with subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            progress.add_line(line.strip())
    progress.end()
    if process.returncode != 0:
        raise ProgramsMissingError(f"{' '.join(command)} failed:\n{_last_lines(lines)}")


def _last_lines(lines: Sequence[str]) -> str:
    return "".join(lines[-20:])
