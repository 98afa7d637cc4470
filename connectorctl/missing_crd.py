"""Error of a cluster without the CustomResourceDefinitions of the product."""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONNECTORS, Resource


@contextmanager
def explain_missing_crd(resource: Resource) -> Iterator[None]:
    """Raise an ApiError with the next step if a CustomResourceDefinition of the product is missing.

    The API server's message for a missing object has its name in quotes. That for a missing resource has no quotes.
    """
    try:
        yield
    except ApiError as error:
        if error.status != HTTPStatus.NOT_FOUND or resource.group != CONNECTORS.group or '"' in error.message:
            raise
        raise ApiError(
            error.status,
            f"the CustomResourceDefinition {resource} is not installed in this cluster; install it: docs/quickstart.md",
        ) from error
