"""Parser of a raw ConnectorClass. It reports each field that is set but not supported.

The schema is that of the Alauda product's CRD. Rego, Go templates, CEL responses, `probe.api`, parameters and unknown
fields are not supported. Two templates are supported, because they describe what the probes do anyway.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.metadata import parse_metadata
from connector_store.domain.objects.builtin import CONFIGURATIONS
from connector_store.domain.objects.models import AuthType, ConnectorClass, HttpProbe

_TEMPLATE_MARK: Final = "{{"
# Probes are relative to the address's path, and an auth probe sends the token. These templates ask for the same.
_ADDRESS_PATH_TEMPLATE = re.compile(r"\{\{-?\s*trimSuffix \"/\" \(urlParse \.Connector\.Spec\.Address\)\.path\s*-?\}\}")
_TOKEN_TEMPLATE = re.compile(r"Bearer \{\{-?\s*\.Secret\.StringData\.token\s*-?\}\}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")
_PATH = re.compile(r"/[!-~]*")
_SUPPORTED_FIELDS: Final = frozenset({"address", "auth", "authProbes", "livenessProbe", "configurations"})
_METHODS: Final = frozenset({"GET", "POST"})


class _UnsupportedFields(list[str]):
    """Paths of fields that are set but not supported, and errors of fields that cannot be parsed."""

    def add_if_set(self, fields: Fields, *names: str) -> None:
        self.extend(fields.path_of(name) for name in names if fields.value(name) not in (None, {}, [], "", False))


def parse_class(raw: Mapping[str, object]) -> ConnectorClass:
    """Parse a ConnectorClass. A ParseError is raised only if it has no usable name."""
    metadata = parse_metadata(raw, namespaced=False)
    unsupported = _UnsupportedFields()
    try:
        spec = Fields(raw, "").child("spec")
    except ParseError as error:
        spec = Fields(None, "spec")
        unsupported.append(str(error))
    types = tuple(_auth_types(spec, unsupported))
    auth_probes = dict(_auth_probes(spec, unsupported))
    liveness = _probe(spec, "livenessProbe", unsupported)
    configurations = tuple(_configurations(spec, unsupported))
    unsupported.add_if_set(spec, *sorted(set(spec.names()) - _SUPPORTED_FIELDS))
    return ConnectorClass(
        name=metadata.key.name,
        auth_types=types,
        liveness=liveness,
        auth_probes=auth_probes,
        configurations=configurations,
        unsupported_fields=tuple(unsupported),
        uid=metadata.uid,
        generation=metadata.generation,
    )


def _auth_types(spec: Fields, unsupported: _UnsupportedFields) -> Iterator[AuthType]:
    for auth_type in _items(spec, ("auth", "types"), unsupported):
        try:
            name = auth_type.text("name")
            if name is None:
                raise ParseError(auth_type.path_of("name"), "is empty")
            yield AuthType(
                name=name, secret_type=auth_type.text("secretType") or "", optional=auth_type.flag("optional")
            )
            unsupported.add_if_set(auth_type, "params", "generator")
        except ParseError as error:
            unsupported.append(str(error))


def _auth_probes(spec: Fields, unsupported: _UnsupportedFields) -> Iterator[tuple[str, HttpProbe]]:
    for auth_probe in _items(spec, ("authProbes",), unsupported):
        try:
            name = auth_probe.text("authName")
        except ParseError as error:
            unsupported.append(str(error))
            continue
        probe = _probe(auth_probe, "probe", unsupported)
        if name is None:
            unsupported.append(f"{auth_probe.path_of('authName')}: is empty")
        elif probe is not None:
            yield name, probe
        unsupported.add_if_set(auth_probe, "params")


def _configurations(spec: Fields, unsupported: _UnsupportedFields) -> Iterator[str]:
    for configuration in _items(spec, ("configurations",), unsupported):
        name = configuration.value("name")
        if name in CONFIGURATIONS:
            yield str(name)
            unsupported.add_if_set(configuration, "data", "params")
        else:
            unsupported.append(configuration.path)


def _items(fields: Fields, path: tuple[str, ...], unsupported: _UnsupportedFields) -> list[Fields]:
    try:
        for name in path[:-1]:
            fields = fields.child(name)
        return fields.items(path[-1])
    except ParseError as error:
        unsupported.append(str(error))
        return []


def _probe(parent: Fields, name: str, unsupported: _UnsupportedFields) -> HttpProbe | None:
    try:
        probe = parent.child(name)
        unsupported.add_if_set(probe, "api")
        http = probe.child("http")
        return _http_probe(http, unsupported) if http else None
    except ParseError as error:
        unsupported.append(str(error))
        return None


def _http_probe(http: Fields, unsupported: _UnsupportedFields) -> HttpProbe | None:
    path = _ADDRESS_PATH_TEMPLATE.sub("", http.text("path") or "", count=1)
    method = http.text("method") or "GET"
    if (
        _PATH.fullmatch(path) is None
        or _TEMPLATE_MARK in path
        or method not in _METHODS
        or http.text("scheme") == "http"
    ):
        unsupported.append(http.path)
        return None
    unsupported.add_if_set(http, "host", "response")
    return HttpProbe(path=path, method=method, headers=tuple(_headers(http, unsupported)))


def _headers(http: Fields, unsupported: _UnsupportedFields) -> Iterator[tuple[str, str]]:
    """Parse `httpHeaders`. They are a list in the schema, and a map in the product's documentation."""
    for name, value, path in _header_pairs(http):
        if name.lower() == "authorization" and _TOKEN_TEMPLATE.fullmatch(value) is not None:
            continue
        if _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value) and _TEMPLATE_MARK not in value:
            yield name, value
        else:
            unsupported.append(path)


def _header_pairs(http: Fields) -> Iterator[tuple[str, str, str]]:
    if isinstance(http.value("httpHeaders"), Mapping):
        headers = http.child("httpHeaders")
        for name in headers.names():
            yield name, headers.text(name) or "", f"{headers.path}[{name}]"
        return
    for header in http.items("httpHeaders"):
        yield header.text("name") or "", header.text("value") or "", header.path
