"""Raw ConnectorClass -> what of it we run; what we do not run is named, never ignored in silence.

The schema is that of the Alauda product's CRD. Not run are Rego, Go templates, CEL responses, `probe.api`, parameters
and what is unknown; two templates that say what we do anyway are read as such.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields
from connector_store.domain.base.metadata import parse_metadata
from connector_store.domain.objects.models import AuthType, ConnectorClass, HttpProbe

RENDERED: Final = ("kubeconfig", "kubeconfig-rotating")
"""Configurations that the doors render themselves, whatever template the class has for them."""

_MARKED: Final = "{{"
# Probes are relative to the address's path, and an auth probe carries the token: both templates ask for just that.
_OWN_PREFIX = re.compile(r"\{\{-?\s*trimSuffix \"/\" \(urlParse \.Connector\.Spec\.Address\)\.path\s*-?\}\}")
_OWN_TOKEN = re.compile(r"Bearer \{\{-?\s*\.Secret\.StringData\.token\s*-?\}\}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HEADER_VALUE = re.compile(r"[\t -~]*")
_PATH = re.compile(r"/[!-~]*")
_KNOWN: Final = frozenset({"address", "auth", "authProbes", "livenessProbe", "configurations"})
_METHODS: Final = frozenset({"GET", "POST"})


class _Notes(list[str]):
    """Paths of fields that are not run."""

    def unrun(self, fields: Fields, *names: str) -> None:
        self.extend(fields.path_of(each) for each in names if fields.value(each) not in (None, {}, [], "", False))


def parse_class(raw: Mapping[str, object]) -> ConnectorClass:
    """Read a ConnectorClass; ParseError only without a usable name."""
    metadata = parse_metadata(raw, namespaced=False)
    notes = _Notes()
    try:
        spec = Fields(raw, "").child("spec")
    except ParseError as error:
        spec = Fields(None, "spec")
        notes.append(str(error))
    types = tuple(_auth_types(spec, notes))
    auth_probes = dict(_auth_probes(spec, notes))
    liveness = _probe(spec, "livenessProbe", notes)
    configurations = tuple(_configurations(spec, notes))
    notes.unrun(spec, *sorted(set(spec.names()) - _KNOWN))
    return ConnectorClass(
        name=metadata.key.name,
        auth_types=types,
        liveness=liveness,
        auth_probes=auth_probes,
        configurations=configurations,
        not_run=tuple(notes),
        uid=metadata.uid,
        generation=metadata.generation,
    )


def _auth_types(spec: Fields, notes: _Notes) -> Iterator[AuthType]:
    for each in _items(spec, ("auth", "types"), notes):
        try:
            name = each.text("name")
            if name is None:
                raise ParseError(each.path_of("name"), "is empty")
            yield AuthType(name=name, secret_type=each.text("secretType") or "", optional=each.flag("optional"))
            notes.unrun(each, "params", "generator")
        except ParseError as error:
            notes.append(str(error))


def _auth_probes(spec: Fields, notes: _Notes) -> Iterator[tuple[str, HttpProbe]]:
    for each in _items(spec, ("authProbes",), notes):
        try:
            name = each.text("authName")
        except ParseError as error:
            notes.append(str(error))
            continue
        probe = _probe(each, "probe", notes)
        if name is None:
            notes.append(f"{each.path_of('authName')}: is empty")
        elif probe is not None:
            yield name, probe
        notes.unrun(each, "params")


def _configurations(spec: Fields, notes: _Notes) -> Iterator[str]:
    for each in _items(spec, ("configurations",), notes):
        name = each.value("name")
        if name in RENDERED:
            yield str(name)
            notes.unrun(each, "data", "params")
        else:
            notes.append(each.path)


def _items(fields: Fields, path: tuple[str, ...], notes: _Notes) -> list[Fields]:
    try:
        for name in path[:-1]:
            fields = fields.child(name)
        return fields.items(path[-1])
    except ParseError as error:
        notes.append(str(error))
        return []


def _probe(parent: Fields, name: str, notes: _Notes) -> HttpProbe | None:
    try:
        probe = parent.child(name)
        notes.unrun(probe, "api")
        http = probe.child("http")
        return _http_probe(http, notes) if http else None
    except ParseError as error:
        notes.append(str(error))
        return None


def _http_probe(http: Fields, notes: _Notes) -> HttpProbe | None:
    path = _OWN_PREFIX.sub("", http.text("path") or "", count=1)
    method = http.text("method") or "GET"
    if _PATH.fullmatch(path) is None or _MARKED in path or method not in _METHODS or http.text("scheme") == "http":
        notes.append(http.path)
        return None
    notes.unrun(http, "host", "response")
    return HttpProbe(path=path, method=method, headers=tuple(_headers(http, notes)))


def _headers(http: Fields, notes: _Notes) -> Iterator[tuple[str, str]]:
    """`httpHeaders`, which the schema has as a list and the product's documents as a map."""
    for name, value, path in _pairs(http):
        if name.lower() == "authorization" and _OWN_TOKEN.fullmatch(value) is not None:
            continue
        if _HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value) and _MARKED not in value:
            yield name, value
        else:
            notes.append(path)


def _pairs(http: Fields) -> Iterator[tuple[str, str, str]]:
    if isinstance(http.value("httpHeaders"), Mapping):
        headers = http.child("httpHeaders")
        for name in headers.names():
            yield name, headers.text(name) or "", f"{headers.path}[{name}]"
        return
    for each in http.items("httpHeaders"):
        yield each.text("name") or "", each.text("value") or "", each.path
