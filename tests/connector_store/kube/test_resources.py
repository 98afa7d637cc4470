"""Paths of the API, compared with the API server's own discovery."""

import pytest

from connector_store.kube.resources import CONNECTORS, SECRETS


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(CONNECTORS.path(), "/apis/connectors.alauda.io/v1alpha1/connectors", id="all namespaces"),
        pytest.param(
            CONNECTORS.path("a", "b", "status"),
            "/apis/connectors.alauda.io/v1alpha1/namespaces/a/connectors/b/status",
            id="a subresource",
        ),
        pytest.param(SECRETS.path("a"), "/api/v1/namespaces/a/secrets", id="the core group"),
        pytest.param(SECRETS.path("a", "../x"), "/api/v1/namespaces/a/secrets/..%2Fx", id="a name stays one segment"),
    ],
)
def test_path(path: str, expected: str) -> None:
    assert path == expected


def test_named_as_kubectl_does() -> None:
    assert (str(CONNECTORS), str(SECRETS)) == ("connectors.connectors.alauda.io", "secrets")


def test_the_api_version_is_that_of_manifests() -> None:
    assert (CONNECTORS.api_version, SECRETS.api_version) == ("connectors.alauda.io/v1alpha1", "v1")
