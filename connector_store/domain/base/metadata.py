"""An object's metadata, as far as the doors need it."""

from collections.abc import Mapping
from typing import NamedTuple

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.names import ObjectKey, is_dns_label, is_dns_subdomain


class Metadata(NamedTuple):
    """`key.namespace` is empty for objects of cluster scope."""

    key: ObjectKey
    uid: str
    generation: int
    resource_version: str
    fields: Fields

    def annotation(self, name: str) -> str | None:
        """ParseError if it is not a string."""
        return self.fields.child("annotations").text(name)

    def label(self, name: str) -> str | None:
        return self.fields.child("labels").text(name)


def parse_metadata(raw: Mapping[str, object], *, namespaced: bool, default_namespace: str = "") -> Metadata:
    """ParseError if there is no usable name: such an object cannot be told from others."""
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
