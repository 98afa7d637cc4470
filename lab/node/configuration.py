"""The configuration files of a node's programs. Files that a program reads as YAML are JSON."""

import json
from pathlib import Path
from typing import Any

from lab.node.isolation import ADDRESS
from lab.node.oci_image import BOX_IMAGE
from lab.node.requirements import CNI_PLUGINS, find_program

NODE = "node"
"""Name of the Node object."""
CLUSTER_DOMAIN = "cluster.local"
POD_CIDR = "10.88.0.0/16"
SYNC_FREQUENCY = "10s"
"""Interval in which kubelet checks the volumes of each pod; its default is 1m."""


def kubelet(*, ca: Path, socket: Path, cgroup: str, sync_frequency: str) -> dict[str, Any]:
    """Return a KubeletConfiguration: https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/"""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "failCgroupV1": False,
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroup}",
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "clusterDNS": [ADDRESS],
        "clusterDomain": CLUSTER_DOMAIN,
        "resolvConf": "/etc/resolv.conf",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(ca)},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": f"unix://{socket}",
        "evictionHard": {"nodefs.available": "1%"},
        # It never removes an unused image, however full the disk is: a node has no registry to pull it from again.
        "imageGCHighThresholdPercent": 100,
        "syncFrequency": sync_frequency,
        "shutdownGracePeriod": "0s",
    }


def kube_proxy(kubeconfig: Path) -> dict[str, Any]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "iptables",
        "bindAddress": ADDRESS,
        "healthzBindAddress": "127.0.0.1:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        "clusterCIDR": POD_CIDR,
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpCloseWaitTimeout": "0s", "tcpEstablishedTimeout": "0s"},
        "hostnameOverride": NODE,
    }


def cni() -> dict[str, Any]:
    bridge = {
        "type": "bridge",
        "bridge": "pods0",
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": POD_CIDR}]], "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}


def corefile(kubeconfig: Path, server: str) -> str:
    return f"""\
.:53 {{
  bind {ADDRESS}
  errors
  ready 127.0.0.1:8181
  kubernetes {CLUSTER_DOMAIN} in-addr.arpa {{
    endpoint {server}
    kubeconfig {kubeconfig} test
    ttl 0
  }}
}}
"""


def containerd(folder: Path, *, socket: Path) -> str:
    """Return config.toml. It has restrict_oom_score_adj, because the tests may run without CAP_SYS_RESOURCE."""
    return f"""\
version = 3
root = "{folder}/root"
state = "/run/containerd"
[grpc]
  address = "{socket}"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{BOX_IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
  SystemdCgroup = false
  BinaryName = "{find_program("runc")}"
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = ["{CNI_PLUGINS}"]
  conf_dir = "{folder}/cni"
"""


def write_json(path: Path, value: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1))
    return path
