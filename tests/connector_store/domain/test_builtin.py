"""The built-in class k8s."""

from connector_store.domain.builtin import K8S
from connector_store.domain.models import BEARER_TOKEN_SECRET


def test_the_class_k8s_uses_a_bearer_token_and_two_probes() -> None:
    auth = K8S.auth_type("bearerTokenAuth")
    assert auth is not None
    assert (auth.secret_type, auth.optional) == (BEARER_TOKEN_SECRET, False)
    assert K8S.liveness is not None
    assert (K8S.liveness.path, K8S.auth_probes["bearerTokenAuth"].path) == ("/livez", "/api")
    assert K8S.configurations == ("kubeconfig", "kubeconfig-rotating")
