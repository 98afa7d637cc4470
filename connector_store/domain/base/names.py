"""Names of Kubernetes objects, and the key of a namespaced object.

>>> ObjectKey.parse("team-a/k8s")
ObjectKey(namespace='team-a', name='k8s')
>>> str(ObjectKey("team-a", "k8s"))
'team-a/k8s'
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple, Self

from connector_store.domain.base.errors import ParseError

API_GROUP: Final = "connectors.alauda.io"
CA_LABEL: Final = "connectors.cpaas.io/ca-cert"
"""Label of the Secrets with CAs for every Connector."""
PROXY_AUDIENCE: Final = "connectors-proxy"
"""Default audience of callers' tokens."""

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_SUBDOMAIN_LENGTH = 253


def is_dns_label(text: str) -> bool:
    """Return True for a DNS label, such as the name of a namespace (RFC 1123 section 2.1, at most 63 characters)."""
    return _DNS_LABEL.fullmatch(text) is not None


def is_dns_subdomain(text: str) -> bool:
    """Return True for a DNS subdomain, such as most objects' names (RFC 1123 section 2.1, at most 253 characters)."""
    return len(text) <= _MAX_SUBDOMAIN_LENGTH and _DNS_SUBDOMAIN.fullmatch(text) is not None


class ObjectKey(NamedTuple):
    """Namespace and name of an object. It is a tuple because the data path looks one up for every request."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    @classmethod
    @lru_cache(maxsize=1024)
    def parse(cls, text: str) -> Self:
        """Parse `NAMESPACE/NAME`. Raises ParseError for any other form."""
        namespace, slash, name = text.partition("/")
        if not slash or not is_dns_label(namespace) or not is_dns_subdomain(name):
            raise ParseError("", "not of the form NAMESPACE/NAME")
        return cls(namespace, name)
