"""Parsed metadata of an object."""

from collections.abc import Mapping
from typing import NamedTuple

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.names import ObjectKey, is_dns_label, is_dns_subdomain
from connector_store.domain.base.rfc3339 import parse_time


class Metadata(NamedTuple):
    """Metadata of an object. `key.namespace` is empty for cluster-scoped objects."""

    key: ObjectKey
    uid: str
    generation: int
    resource_version: str
    fields: Fields

    def annotation(self, name: str) -> str | None:
        """Return an annotation, or None. Raises ParseError if it is not a string."""
        return self.fields.child("annotations").text(name)

    def label(self, name: str) -> str | None:
        return self.fields.child("labels").text(name)

    @property
    def labels(self) -> dict[str, str]:
        """All labels. Those that are not strings are left out."""
        labels = self.fields.value("labels")
        if not isinstance(labels, Mapping):
            return {}
        return {str(name): value for name, value in labels.items() if isinstance(value, str)}

    @property
    def created_at(self) -> float | None:
        """Time of creation in Unix seconds of the API server's clock, or None in a folder."""
        return parse_time(self.fields.value("creationTimestamp"))


def parse_metadata(raw: Mapping[str, object], *, namespaced: bool, default_namespace: str = "") -> Metadata:
    """Parse the metadata of an object.

    Raises ParseError without a valid name, because the name identifies the object.
    """
    fields = Fields(raw, "").child("metadata")
    name = fields.text("name")
    if name is None or not is_dns_subdomain(name):
        raise ParseError("metadata.name", "is not a DNS subdomain: lower case letters, digits, '-' and '.'")
    namespace = (fields.text("namespace") or default_namespace) if namespaced else ""
    if namespaced and not is_dns_label(namespace):
        raise ParseError("metadata.namespace", "is not a DNS label: lower case letters, digits and '-'")
    return Metadata(
        key=ObjectKey(namespace, name),
        uid=fields.text("uid") or "",
        generation=fields.number("generation"),
        resource_version=fields.text("resourceVersion") or "",
        fields=fields,
    )
