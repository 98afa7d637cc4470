"""The error of a cluster without the CustomResourceDefinitions."""

import pytest

from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONNECTORS, SECRETS, Resource
from connectorctl.missing_crd import explain_missing_crd


@pytest.mark.parametrize(
    ("resource", "error", "is_missing"),
    [
        pytest.param(CONNECTORS, ApiError(404, "Not Found"), True, id="an unknown API group"),
        pytest.param(
            CONNECTORS, ApiError(404, "the server could not find the requested resource", reason="NotFound"), True,
            id="an unknown resource",
        ),
        pytest.param(CONNECTORS, ApiError(404, 'connectors "x" not found', reason="NotFound"), False, id="no object"),
        pytest.param(CONNECTORS, ApiError(403, "no", reason="Forbidden"), False, id="no right"),
        pytest.param(SECRETS, ApiError(404, "Not Found"), False, id="a resource of another group"),
    ],
)  # fmt: skip
def test_a_missing_definition_has_its_own_error(resource: Resource, error: ApiError, is_missing: bool) -> None:
    with pytest.raises(ApiError) as reported, explain_missing_crd(resource):
        raise error
    assert (reported.value is not error) == is_missing
    text = "connectors.connectors.alauda.io is not installed in this cluster"
    assert (text in str(reported.value)) == is_missing
