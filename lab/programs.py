"""The Kubernetes programs that tests run: from KUBEBUILDER_ASSETS, else built once from the pins in scripts/go.

Each folder there is a Go module whose go.mod and go.sum pin one upstream; the cache folder is named by their digest.
"""

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRESS = 10.0
"""Seconds between two lines of a build."""
PINS = Path(__file__).parents[1] / "scripts" / "go"


class ProgramsMissingError(Exception):
    """Neither the programs nor Go to build them; the message says what to install."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Module:
    """One pinned Go module and the programs that it builds: name -> package path."""

    folder: str
    packages: Mapping[str, str]
    upstream: str
    """The module whose version the folder pins."""
    version_variable: str | None = None
    tags: str = ""
    folders: tuple[str, ...] = ()
    """Of the upstream module, kept beside the programs under their last names."""

    @property
    def version(self) -> str:
        pinned = re.search(rf"^\s*(?:require )?{re.escape(self.upstream)} (v\S+)", self._mod.read_text(), re.MULTILINE)
        if pinned is None:
            raise ValueError(f"{self._mod}: does not pin {self.upstream}")
        return pinned[1]

    @property
    def _mod(self) -> Path:
        return PINS / self.folder / "go.mod"

    @property
    def flags(self) -> list[str]:
        version = f" -X {self.version_variable}={self.version}" if self.version_variable else ""
        # Nobody debugs them: neither written nor, in a tenth of a compiler's time, prepared.
        return ["-trimpath", "-tags", self.tags, "-gcflags", "all=-dwarf=false", "-ldflags", f"-s -w{version}"]

    @property
    def cache(self) -> Path:
        digest = hashlib.sha256(" ".join(self.flags).encode())
        for source in sorted((PINS / self.folder).iterdir()):
            digest.update(source.name.encode() + source.read_bytes())
        return cache_root() / f"{self.folder}-{digest.hexdigest()[:16]}"


KUBERNETES = Module(
    folder="kubernetes",
    upstream="k8s.io/kubernetes",
    version_variable="k8s.io/component-base/version.gitVersion",
    packages={"etcd": "go.etcd.io/etcd/server/v3"}
    | {
        name: f"k8s.io/kubernetes/cmd/{name}"
        for name in (
            "kubectl",
            "kube-apiserver",
            "kube-controller-manager",
            "kube-scheduler",
            "kube-proxy",
            "kubelet",
        )
    },
)
CONTAINERD = Module(
    folder="containerd",
    upstream="github.com/containerd/containerd/v2",
    version_variable="github.com/containerd/containerd/v2/version.Version",
    tags="no_btrfs,no_devmapper,no_zfs",
    packages={
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
)
COREDNS = Module(folder="coredns", upstream="github.com/coredns/coredns", packages={"coredns": "."})
CSI_TEST = Module(
    folder="csi-test",
    upstream="github.com/kubernetes-csi/csi-test/v5",
    packages={"csi-sanity": "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"},
)
CLIENTS = Module(
    folder="clients",
    upstream="helm.sh/helm/v4",
    version_variable="helm.sh/helm/v4/internal/version.version",
    packages={"helm": "helm.sh/helm/v4/cmd/helm", "client": "."},
)
OPERATOR = Module(folder="operator", upstream="sigs.k8s.io/controller-runtime", packages={"operator": "."})
OLD_KUBECTL = Module(
    folder="kubectl-old",
    upstream="k8s.io/kubectl",
    version_variable="k8s.io/component-base/version.gitVersion",
    packages={"kubectl": "."},
)
TEKTON = Module(
    folder="tekton",
    upstream="github.com/tektoncd/pipeline",
    packages={name: f"github.com/tektoncd/pipeline/cmd/{name}" for name in ("controller", "webhook", "entrypoint")},
    folders=("config",),
)
GATEWAY_API = Module(folder="gateway-api", upstream="sigs.k8s.io/gateway-api", packages={}, folders=("config",))
"""Its definitions alone."""
NODE = (KUBERNETES, CONTAINERD, COREDNS, CSI_TEST, CLIENTS, TEKTON, OLD_KUBECTL)
"""What tests on a node run: built before, as its namespaces have no network. kubectl on PATH is that of the first."""
_BUILDING = {"CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOGC": "400"}
"""With GOGC of 400 a compiler collects less often: a fifth of its time, for more memory."""
CONTROL_PLANE = ("etcd", "kubectl", "kube-apiserver")


def cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kubernetes-connector"


def control_plane_programs() -> Path:
    """A folder with etcd, kube-apiserver and kubectl; built now if they are not there yet."""
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        absent = [name for name in CONTROL_PLANE if not os.access(Path(assets) / name, os.X_OK)]
        if absent:
            raise ProgramsMissingError(
                f"KUBEBUILDER_ASSETS={assets} has no {', '.join(absent)}; unset it to build them"
            )
        return Path(assets)
    return built(KUBERNETES, CONTROL_PLANE)


def node_programs() -> list[Path]:
    """The folders of everything that a whole node runs, of csi-sanity, of clients for its pods, and of Tekton."""
    return [built(module, tuple(module.packages)) for module in NODE]


def prometheus_programs() -> Path:
    """The folder with prometheus and promtool: of PATH, else where scripts/install-node puts Debian's."""
    found = shutil.which(
        "promtool", path=os.pathsep.join([os.environ.get("PATH", ""), str(cache_root() / "prometheus")])
    )
    if found is None:
        raise ProgramsMissingError("no promtool on PATH: run scripts/install --node, or install Prometheus")
    return Path(found).parent


def built(module: Module, names: Sequence[str]) -> Path:
    """The module's cache folder, holding at least these programs."""
    cache = module.cache
    names = (*names, *module.folders)
    if _absent(cache, names):
        go = shutil.which("go")
        if go is None:
            raise ProgramsMissingError(
                f"{', '.join(names)} not built and no Go on PATH: install Go (https://go.dev/dl)"
                + (", or point KUBEBUILDER_ASSETS at a folder with them" if names == CONTROL_PLANE else "")
            )
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for name in _absent(cache, names):
                (_copy if name in module.folders else _build)(go, module, name)
    return cache


def _absent(cache: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if not (cache / name).exists()]


def _build(go: str, module: Module, name: str) -> None:
    """Compiles beside the cache's own files and renames, so that a program that exists is whole."""
    started = time.monotonic()
    say(f"building {name} for {module.upstream} {module.version} (once; it stays in {module.cache})")
    with tempfile.TemporaryDirectory(dir=module.cache) as scratch:
        target = Path(scratch) / name
        command = [go, "build", "-v", *module.flags, "-o", str(target), module.packages[name]]
        total = _packages(go, module, name)
        _compile(command, PINS / module.folder, os.environ | _BUILDING, total)
        target.rename(module.cache / name)
    say(f"built {name} in {time.monotonic() - started:.0f} s")


def _copy(go: str, module: Module, name: str) -> None:
    """A folder of the upstream module, checked by go.sum."""
    for command in (["mod", "download", module.upstream], ["list", "-m", "-f", "{{.Dir}}", module.upstream]):
        done = subprocess.run(
            [go, *command],
            cwd=PINS / module.folder,
            env=os.environ | _BUILDING,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ProgramsMissingError(f"go {' '.join(command)} failed:\n{done.stderr}")
    with tempfile.TemporaryDirectory(dir=module.cache) as scratch:
        target = Path(scratch) / name
        shutil.copytree(Path(done.stdout.strip()) / name, target)
        # Modules are read-only, their folders too.
        for each in (target, *target.rglob("*")):
            each.chmod(0o755 if each.is_dir() else 0o644)
        target.rename(module.cache / name)


def _packages(go: str, module: Module, name: str) -> int:
    """How many packages the program has; those in Go's cache are not compiled again."""
    command = [go, "list", "-deps", *module.flags, module.packages[name]]
    say("  downloading its modules")
    done = subprocess.run(
        command, cwd=PINS / module.folder, env=os.environ | _BUILDING, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise ProgramsMissingError(f"{' '.join(command)} failed:\n{_last(done.stderr.splitlines(keepends=True))}")
    return len(done.stdout.splitlines())


def _compile(command: list[str], folder: Path, environment: Mapping[str, str], total: int) -> None:
    follow(command, folder, environment, lambda count, line: f"{count} of at most {total} packages, now {line}")


def follow(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], tell: Callable[[int, str], str]
) -> None:
    """Run what says line by line what it does; now and then `tell` says how far it is, by their number and the last.

    ProgramsMissingError has the last lines, where it fails.
    """
    lines: list[str] = []
    shown = time.monotonic()
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
            if time.monotonic() - shown >= PROGRESS:
                shown = time.monotonic()
                say(f"  {tell(len(lines), line.strip())}")
    if process.returncode != 0:
        raise ProgramsMissingError(f"{' '.join(command)} failed:\n{_last(lines)}")


def _last(lines: Sequence[str]) -> str:
    return "".join(lines[-20:])


def say(message: str) -> None:
    """To whoever waits for a build, who reads stdout for what comes of it."""
    sys.stderr.write(message + "\n")
    sys.stderr.flush()
