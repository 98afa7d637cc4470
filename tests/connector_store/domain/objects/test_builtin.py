"""The built-in class k8s."""

from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET
from connector_store.domain.objects.builtin import CONFIGURATIONS, K8S
from connector_store.domain.objects.credential_kinds import choose_auth_type


def test_the_class_k8s_uses_a_bearer_token_and_two_probes() -> None:
    auth_type = choose_auth_type(K8S, None)
    assert auth_type is not None
    assert auth_type.name == "bearerTokenAuth"
    assert (auth_type.secret_type, auth_type.optional) == (BEARER_TOKEN_SECRET, False)
    assert K8S.liveness is not None
    assert (K8S.liveness.path, K8S.auth_probes["bearerTokenAuth"].path) == ("/livez", "/api")
    assert K8S.configurations == CONFIGURATIONS
