"""Types of the options of the access commands. They refuse what the API server, or a folder's proxy, would not accept.

A value that is empty, as that of an unset shell variable, is a usage error: without it, the command would do more.
"""

from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import is_dns_label, is_dns_subdomain
from connector_store.domain.callers.access import SERVICE_ACCOUNT_PREFIX
from connectorctl.options import ParsedParam

MAX_REASON: Final = 1024
"""Characters of a reason or comment, as in the CustomResourceDefinitions."""
MAX_NAME: Final = 512
"""Characters of the name of a user or group, as in the CustomResourceDefinitions."""
MAX_ROLE: Final = 253
"""Characters of the name of a ClusterRole, as in the CustomResourceDefinition of AccessRequests."""


def parse_text(text: str, max_length: int) -> str:
    """Return a text of one line with printable characters."""
    if not text.strip():
        raise ParseError("", "is empty; write a text")
    if len(text) > max_length:
        raise ParseError("", f"has more than {max_length} characters")
    if not text.isprintable():
        raise ParseError("", "has line breaks, control characters or invisible characters; leave them out")
    return text


def parse_user(text: str) -> str:
    """Return the name of a user. That of a ServiceAccount has a namespace and a name."""
    if text.startswith(SERVICE_ACCOUNT_PREFIX):
        namespace, _, name = text.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
        if not is_dns_label(namespace) or not is_dns_subdomain(name):
            raise ParseError(
                "", f"is not the name of a ServiceAccount; write it as {SERVICE_ACCOUNT_PREFIX}NAMESPACE:NAME"
            )
    return parse_text(text, MAX_NAME)


def parse_namespace(text: str) -> str:
    if not is_dns_label(text):
        raise ParseError("", "is not the name of a namespace")
    return text


def parse_object_name(text: str) -> str:
    if not is_dns_subdomain(text):
        raise ParseError("", "is not the name of an object")
    return text


REASON_PARAM: Final = ParsedParam("TEXT", str, lambda text: parse_text(text, MAX_REASON))
GROUP_PARAM: Final = ParsedParam("TEXT", str, lambda text: parse_text(text, MAX_NAME))
ROLE_PARAM: Final = ParsedParam("TEXT", str, lambda text: parse_text(text, MAX_ROLE))
USER_PARAM: Final = ParsedParam("TEXT", str, parse_user)
NAMESPACE_PARAM: Final = ParsedParam("TEXT", str, parse_namespace)
NAME_PARAM: Final = ParsedParam("TEXT", str, parse_object_name)
