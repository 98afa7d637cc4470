"""The Kubernetes programs that tests run: from KUBEBUILDER_ASSETS, or built once from the pins in scripts/go.

A program of another project is built in that project's own module, with its go.mod and go.sum. scripts/go/upstream.sum
pins these modules, in the format of go.sum: one digest for all files of a module. Each folder in scripts/go is a Go
module with a program of this project, or with the modules of Kubernetes, which have no complete go.mod. The name of the
cache folder has the digest of these files.
"""

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.progress import CommandProgress, report_progress

PINS = Path(__file__).parents[1] / "scripts" / "go"
UPSTREAM_SUMS = "upstream.sum"


class ProgramsMissingError(Exception):
    """The programs are missing and cannot be built; the message says what to install."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GoModule:
    """One pinned Go module, and the package paths of the programs that it builds, by name."""

    folder: str
    """Name in scripts/go, or of the cache folder if scripts/go/upstream.sum pins the upstream module."""
    packages: Mapping[str, str]
    upstream: str
    """Module whose version is pinned."""
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
    def _pin(self) -> tuple[str, str]:
        """Version and digest in scripts/go/upstream.sum."""
        for line in (PINS / UPSTREAM_SUMS).read_text().splitlines():
            name, version, digest = line.split()
            if name == self.upstream:
                return version, digest
        raise ValueError(f"{PINS / UPSTREAM_SUMS}: does not pin {self.upstream}")

    @property
    def version(self) -> str:
        return _read_version(self._own / "go.mod", self.upstream) if self._own.is_dir() else self._pin[0]

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
            digest.update(" ".join(self._pin).encode())
        return cache_root() / f"{self.folder}-{digest.hexdigest()[:16]}"

    def find_sources(self, go: str, scratch: Path) -> Path:
        """Return the folder with go.mod. Download the upstream module, unless the folder is in scripts/go."""
        if self._own.is_dir():
            return self._own
        version, digest = self._pin
        # In a folder outside of any module, so that no go.sum has to know it.
        answer = json.loads(_run_go([go, "mod", "download", "-json", f"{self.upstream}@{version}"], scratch))
        if answer["Sum"] != digest:
            raise ProgramsMissingError(f"{PINS / UPSTREAM_SUMS}: {self.upstream} {version} has {answer['Sum']}")
        return Path(answer["Dir"])

    def build_flags(self, sources: Path) -> list[str]:
        if not self.kubernetes_packages:
            return self.flags()
        return self.flags(_read_version(sources / "go.mod", "k8s.io/client-go").split(".")[1])


def _read_version(go_mod: Path, module: str) -> str:
    match = re.search(rf"^\s*(?:require )?{re.escape(module)} (v\S+)", go_mod.read_text(), re.MULTILINE)
    if match is None:
        raise ValueError(f"{go_mod}: does not pin {module}")
    return match[1]


KUBERNETES = GoModule(
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
CONTAINERD = GoModule(
    folder="containerd",
    upstream="github.com/containerd/containerd/v2",
    version_variable="github.com/containerd/containerd/v2/version.Version",
    tags="no_btrfs,no_devmapper,no_zfs",
    packages={
        name: f"github.com/containerd/containerd/v2/cmd/{name}"
        for name in ("containerd", "containerd-shim-runc-v2", "ctr")
    },
)
COREDNS = GoModule(folder="coredns", upstream="github.com/coredns/coredns", packages={"coredns": "."})
CSI_TEST = GoModule(
    folder="csi-test",
    upstream="github.com/kubernetes-csi/csi-test/v5",
    packages={"csi-sanity": "github.com/kubernetes-csi/csi-test/v5/cmd/csi-sanity"},
)
CLIENTS = GoModule(folder="clients", upstream="k8s.io/client-go", packages={"client": "."})
HELM = GoModule(
    folder="helm",
    upstream="helm.sh/helm/v4",
    version_variable="helm.sh/helm/v4/internal/version.version",
    packages={"helm": "helm.sh/helm/v4/cmd/helm"},
)
OPERATOR = GoModule(folder="operator", upstream="sigs.k8s.io/controller-runtime", packages={"operator": "."})
OLD_KUBECTL = GoModule(
    folder="kubectl-old",
    upstream="k8s.io/kubectl",
    version_variable="k8s.io/component-base/version.gitVersion",
    packages={"kubectl": "."},
)
TEKTON = GoModule(
    folder="tekton",
    upstream="github.com/tektoncd/pipeline",
    packages={name: f"github.com/tektoncd/pipeline/cmd/{name}" for name in ("controller", "webhook", "entrypoint")},
    extra_folders=("config",),
)
REQUEST_INFO = GoModule(folder="request-info", upstream="k8s.io/apiserver", packages={"request-info": "."})
"""The API server's own parser of requests."""
LUA = GoModule(folder="lua", upstream="github.com/yuin/gopher-lua", packages={"lua": "."})
"""A program that runs a health check of Argo CD, in Argo CD's own interpreter."""
GATEWAY = GoModule(
    folder="gateway",
    upstream="k8s.io/cri-streaming",
    packages={"gateway": "./gateway", "exec-kubelet": "./kubelet"},
)
"""A gateway that serves an API server below a path, and a kubelet that only serves exec."""
GATEWAY_API = GoModule(folder="gateway-api", upstream="sigs.k8s.io/gateway-api", packages={}, extra_folders=("config",))
"""The definitions of the Gateway API, without programs."""
OTHER_API_SERVERS = {
    version: GoModule(
        folder=f"kube-apiserver-{version}",
        upstream="k8s.io/kubernetes",
        version_variable="k8s.io/component-base/version.gitVersion",
        packages={"kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver"},
    )
    for version in ("1.33", "1.34", "1.35", "1.36")
}
"""Other versions of the API server, for scripts/test versions."""
HELM_3 = GoModule(
    folder="helm-3",
    upstream="helm.sh/helm/v3",
    version_variable="helm.sh/helm/v3/internal/version.version",
    # As in its Makefile. Without them, `helm template` renders for Kubernetes 1.20.
    kubernetes_packages=("helm.sh/helm/v3/pkg/chartutil", "helm.sh/helm/v3/pkg/lint/rules"),
    packages={"helm": "helm.sh/helm/v3/cmd/helm"},
)
K9S = GoModule(
    folder="k9s",
    upstream="github.com/derailed/k9s",
    version_variable="github.com/derailed/k9s/cmd.version",
    packages={"k9s": "github.com/derailed/k9s"},
)
"""Terminal UI for clusters, for scripts/test versions."""
NODE_MODULES = (KUBERNETES, CONTAINERD, COREDNS, CSI_TEST, CLIENTS, HELM, TEKTON, OLD_KUBECTL)
"""Programs of tests on a node. They are built before, because its namespaces have no network. kubectl on PATH is that
of the first module.
"""
_BUILD_ENVIRONMENT = {
    "CGO_ENABLED": "0",
    "GOWORK": "off",
    "GOFLAGS": "-mod=readonly -buildvcs=false",
    "GOSUMDB": "off",
    "GOGC": "400",
}
"""Environment of the compiler. go.sum and upstream.sum have the digests. With GOGC=400 it collects garbage less often:
a fifth of its time, for more memory.
"""
CONTROL_PLANE_PROGRAMS = ("etcd", "kubectl", "kube-apiserver")


def cache_root() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "kubernetes-connector"


def control_plane_programs() -> Path:
    """Return a folder with etcd, kube-apiserver and kubectl. Build them if they are not in the cache."""
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        missing = [name for name in CONTROL_PLANE_PROGRAMS if not os.access(Path(assets) / name, os.X_OK)]
        if missing:
            raise ProgramsMissingError(
                f"KUBEBUILDER_ASSETS={assets} has no {', '.join(missing)}; unset it to build them"
            )
        return Path(assets)
    return ensure_programs(KUBERNETES, CONTROL_PLANE_PROGRAMS)


def node_programs() -> list[Path]:
    """Return the folders of all programs of a node, of csi-sanity, of clients for its pods, and of Tekton."""
    return [ensure_programs(module, tuple(module.packages)) for module in NODE_MODULES]


def prometheus_programs() -> Path:
    """Return the folder of prometheus and promtool: from PATH, or the Debian package of scripts/install-node."""
    promtool = shutil.which(
        "promtool", path=os.pathsep.join([os.environ.get("PATH", ""), str(cache_root() / "prometheus")])
    )
    if promtool is None:
        raise ProgramsMissingError("no promtool on PATH: run scripts/install --node, or install Prometheus")
    return Path(promtool).parent


def ensure_programs(module: GoModule, names: Sequence[str]) -> Path:
    """Return the cache folder of the module. Build those of the programs that it does not have."""
    cache = module.cache
    names = (*names, *module.extra_folders)
    if _missing_programs(cache, names):
        go = shutil.which("go")
        if go is None:
            raise ProgramsMissingError(
                f"{', '.join(names)} not built and no Go on PATH: install Go (https://go.dev/dl)"
                + (", or point KUBEBUILDER_ASSETS at a folder with them" if names == CONTROL_PLANE_PROGRAMS else "")
            )
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for name in _missing_programs(cache, names):
                (_copy_folder if name in module.extra_folders else _build)(go, module, name)
    return cache


def _missing_programs(cache: Path, names: Sequence[str]) -> list[str]:
    return [name for name in names if not (cache / name).exists()]


def _build(go: str, module: GoModule, name: str) -> None:
    """Build a program in a temporary folder and rename it, so that a program in the cache is whole."""
    started_at = time.monotonic()
    report_progress(f"building {name} for {module.upstream} {module.version} (once; it stays in {module.cache})")
    with tempfile.TemporaryDirectory(dir=module.cache) as scratch:
        target = Path(scratch) / name
        report_progress("  downloading its modules")
        sources = module.find_sources(go, Path(scratch))
        options = [*module.build_flags(sources), module.packages[name]]
        # Packages in Go's cache are not compiled again.
        total = len(_run_go([go, "list", "-deps", *options], sources).splitlines())
        command = [go, "build", "-v", "-o", str(target), *options]
        run_with_progress(command, sources, os.environ | _BUILD_ENVIRONMENT, CommandProgress("packages", total))
        target.rename(module.cache / name)
    report_progress(f"built {name} in {time.monotonic() - started_at:.0f} s")


def _copy_folder(go: str, module: GoModule, name: str) -> None:
    """Copy a folder of the upstream module."""
    with tempfile.TemporaryDirectory(dir=module.cache) as scratch:
        target = Path(scratch) / name
        shutil.copytree(module.find_sources(go, Path(scratch)) / name, target)
        # The files and folders of a module are read-only.
        for path in (target, *target.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        target.rename(module.cache / name)


def _run_go(command: Sequence[str], folder: Path) -> str:
    environment = os.environ | _BUILD_ENVIRONMENT
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
