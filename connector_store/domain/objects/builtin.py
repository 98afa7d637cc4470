"""The ConnectorClass `k8s`, which is built in: folders need no object for it, nor do doors that start first."""

from types import MappingProxyType
from typing import Final

from connector_store.domain.objects.credential_kinds import KINDS
from connector_store.domain.objects.models import AuthType, ConnectorClass, HttpProbe

K8S: Final = ConnectorClass(
    name="k8s",
    auth_types=tuple(AuthType(name=each.name, secret_type=each.secret_types[0].name) for each in KINDS),
    liveness=HttpProbe(path="/livez"),
    auth_probes=MappingProxyType({each.name: HttpProbe(path="/api") for each in KINDS}),
    configurations=("kubeconfig", "kubeconfig-rotating"),
)
