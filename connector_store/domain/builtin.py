"""The ConnectorClass `k8s`, which is built in: folders need no object for it, nor do doors that start first."""

from types import MappingProxyType
from typing import Final

from connector_store.domain.bearer_token import BEARER_TOKEN_SECRET
from connector_store.domain.models import AuthType, ConnectorClass, HttpProbe

K8S: Final = ConnectorClass(
    name="k8s",
    auth_types=(AuthType(name="bearerTokenAuth", secret_type=BEARER_TOKEN_SECRET),),
    liveness=HttpProbe(path="/livez"),
    auth_probes=MappingProxyType({"bearerTokenAuth": HttpProbe(path="/api")}),
    configurations=("kubeconfig", "kubeconfig-rotating"),
)
