"""The programs that tests run: from KUBEBUILDER_ASSETS, or built once from the pins in scripts/go."""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from lab.go_modules import BUILD_ENVIRONMENT, GoModule, ProgramsMissingError, cache_root, run_go, run_with_progress
from lab.progress import CommandProgress, report_progress

_KUBERNETES_VERSION_VARIABLE = "k8s.io/component-base/version.gitVersion"
KUBERNETES = GoModule(
    folder="kubernetes",
    upstream="k8s.io/kubernetes",
    release="v1.37.",
    version_variable=_KUBERNETES_VERSION_VARIABLE,
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
    upstream="k8s.io/kubernetes",
    release="v1.28.",
    version_variable=_KUBERNETES_VERSION_VARIABLE,
    packages={"kubectl": "k8s.io/kubernetes/cmd/kubectl"},
)
"""kubectl of a release that clusters and pipelines still have from years ago."""
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
        release=f"v{version}.",
        version_variable=_KUBERNETES_VERSION_VARIABLE,
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
CONTROL_PLANE_PROGRAMS = ("etcd", "kubectl", "kube-apiserver")


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
        options = [*module.build_flags(go, sources, Path(scratch)), module.packages[name]]
        # Packages in Go's cache are not compiled again.
        total = len(run_go([go, "list", "-deps", *options], sources).splitlines())
        command = [go, "build", "-v", "-o", str(target), *options]
        run_with_progress(command, sources, os.environ | BUILD_ENVIRONMENT, CommandProgress("packages", total))
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
