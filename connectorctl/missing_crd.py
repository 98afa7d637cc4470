"""Error of a cluster without the CustomResourceDefinitions of the product."""

from http import HTTPStatus

from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONNECTORS, Resource


def missing_crd_error(resource: Resource, error: ApiError) -> ApiError | None:
    """Return an error with the next step if a CustomResourceDefinition of the product is missing, or else None.

    The API server's message for a missing object has its name in quotes. That for a missing resource has no quotes.
    """
    if error.status != HTTPStatus.NOT_FOUND or resource.group != CONNECTORS.group or '"' in error.message:
        return None
    return ApiError(
        error.status,
        f"the CustomResourceDefinition {resource} is not installed in this cluster; install it: docs/quickstart.md",
    )
