"""Example values that a user has not replaced yet. `check`, `status` and the proxy's start judge them alike.

The proxy serves a Connector with such values, and its target cannot be reached or refuses the token.
"""

from connector_store.domain.credential.placeholder import is_example_host, is_placeholder
from connector_store.domain.objects.models import Target

_BEARER = b"Bearer "


def example_problem(target: Target) -> str | None:
    """Return what to replace, or None if neither the address nor the token is an example."""
    if is_example_host(target.address.host):
        return f"spec.address: {target.address.host} is an example; enter the address of the target"
    authorization = target.credential.authorization if target.credential is not None else None
    if authorization is not None and is_placeholder(authorization.removeprefix(_BEARER).decode("ascii")):
        return f"the token in Secret {target.secret_name} is a placeholder; enter a token of the target"
    return None
