"""Command line of the driver. The shared settings come from the environment and the ConfigMap connectors-config."""

import argparse
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from connector_csi.identity_service import DRIVER_NAME
from connector_store.admin import parse_listen_address
from connector_store.domain.base.errors import ParseError
from connector_store.version import VERSION

_SELINUX_CONTEXT = re.compile(r"([A-Za-z0-9_.]+:[A-Za-z0-9_.]+:[A-Za-z0-9_.]+:[A-Za-z0-9_.:,-]+)?")
"""Label or nothing. The mount option has it in quotes, because the level may contain a comma. So no quotes here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverOptions:
    """Options of the driver. `kubelet_root` must be the same path on the node and in the container, for mounts."""

    node_name: str
    kubelet_root: Path
    plugins_registry: Path
    admin: tuple[str, int]
    """Host and port of /healthz, /readyz and /metrics."""
    sysfs: Path
    selinux_context: str
    kubeconfig: str | None
    context: str | None
    log_level: str

    @property
    def pods_folder(self) -> Path:
        return self.kubelet_root / "pods"

    @property
    def endpoint(self) -> Path:
        return self.kubelet_root / "plugins" / DRIVER_NAME / "csi.sock"

    @property
    def records_folder(self) -> Path:
        return self.kubelet_root / "plugins" / DRIVER_NAME / "volumes"

    @property
    def registration_socket(self) -> Path:
        return self.plugins_registry / f"{DRIVER_NAME}-reg.sock"


def parse_options(arguments: Sequence[str], environ: Mapping[str, str]) -> DriverOptions:
    """Parse the command line. Exits with a usage message if it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m connector_csi", description="CSI driver connectors-csi")
    parser.add_argument("--version", action="version", version=f"kubernetes-connector {VERSION}")
    parser.add_argument(
        "--node-name", default=environ.get("NODE_NAME"), help="name of this Node; default: environment NODE_NAME"
    )
    parser.add_argument("--kubelet-root", type=Path, default=Path("/var/lib/kubelet"), help="kubelet's --root-dir")
    parser.add_argument("--admin", default="127.0.0.1:9093", help="HOST:PORT of /healthz, /readyz and /metrics")
    parser.add_argument(
        "--sys", type=Path, default=Path("/sys"), help="the node's /sys, which says whether SELinux is enforced"
    )
    parser.add_argument(
        "--selinux-context",
        default=environ.get("SELINUX_CONTEXT", ""),
        help="label of volumes on nodes that enforce SELinux; empty: the node's policy labels them. "
        "Default: environment SELINUX_CONTEXT",
    )
    parser.add_argument("--kubeconfig", help="default: the pod's ServiceAccount, else KUBECONFIG")
    parser.add_argument("--context", help="context of the kubeconfig")
    parser.add_argument("--log-level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR"])
    namespace = parser.parse_args(arguments)
    if not namespace.node_name:
        parser.error("--node-name: give the name of this Node, or set NODE_NAME (fieldRef spec.nodeName)")
    if not namespace.kubelet_root.is_absolute():
        parser.error(f"--kubelet-root: {namespace.kubelet_root} is not an absolute path")
    if _SELINUX_CONTEXT.fullmatch(namespace.selinux_context) is None:
        parser.error("--selinux-context: write USER:ROLE:TYPE:LEVEL, as system_u:object_r:container_file_t:s0")
    try:
        admin = parse_listen_address(namespace.admin, "--admin")
    except ParseError as error:
        parser.error(str(error))
    return DriverOptions(
        node_name=namespace.node_name,
        kubelet_root=namespace.kubelet_root,
        plugins_registry=namespace.kubelet_root / "plugins_registry",
        admin=admin,
        sysfs=namespace.sys,
        selinux_context=namespace.selinux_context,
        kubeconfig=namespace.kubeconfig,
        context=namespace.context,
        log_level=namespace.log_level,
    )
