"""Built-in ConnectorClass `k8s`, used by folders and by programs that start before the object exists."""

from types import MappingProxyType
from typing import Final

from connector_store.domain.objects.credential_kinds import KINDS
from connector_store.domain.objects.models import AuthType, ConnectorClass, HttpProbe

CONFIGURATIONS: Final = ("kubeconfig", "kubeconfig-rotating", "kubeconfig-direct", "in-cluster")
"""Configurations that the CSI driver renders. It ignores the class's templates for them."""

K8S: Final = ConnectorClass(
    name="k8s",
    auth_types=tuple(AuthType(name=kind.name, secret_type=kind.secret_types[0].name) for kind in KINDS),
    liveness=HttpProbe(path="/livez"),
    auth_probes=MappingProxyType({kind.name: HttpProbe(path="/api") for kind in KINDS}),
    configurations=CONFIGURATIONS,
)
