"""Reads of a kubeconfig and of the files that it names, with a bound on their size. Standard library and yaml only."""

import base64
import binascii
from pathlib import Path
from typing import Final

import yaml

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.fields import Fields

CURRENT_CONTEXT: Final = "current-context"
"""Field with the name of the context that clients use."""
MAX_FILE_SIZE: Final = 8 * 1024 * 1024
"""Maximum bytes of a kubeconfig, and of a file that it names."""

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The loader in C, if there is one, takes a tenth of the time."""


def load_kubeconfig(path: Path) -> Fields:
    """Return the fields of a kubeconfig. Raises ParseError or OSError."""
    with path.open("rb") as stream:
        text = stream.read(MAX_FILE_SIZE + 1)
    if len(text) > MAX_FILE_SIZE:
        raise ParseError("", f"{path} is longer than {MAX_FILE_SIZE} bytes")
    try:
        value = yaml.load(text, Loader=_LOADER)  # noqa: S506 - a safe loader
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ParseError("", f"{path} is not a kubeconfig: it is not YAML") from None
    return Fields(value, "")


def find_context(config: Fields, context: str | None) -> tuple[str, Fields]:
    """Return the name and the object of a context, by default of the current one. Raises ParseError."""
    name = context or config.text(CURRENT_CONTEXT)
    if name is None:
        raise ParseError(CURRENT_CONTEXT, "is empty; name a context with --context")
    return name, find_entry(config, "contexts", name, "context", path="--context" if context else CURRENT_CONTEXT)


def find_entry(config: Fields, section: str, name: str, child: str, *, path: str | None = None) -> Fields:
    """Return the object of an entry of clusters, contexts or users. Raises ParseError that lists the names.

    `path` is the field or the option with `name`, for the error. Default: `section`.
    """
    for item in config.items(section):
        if item.text("name") == name:
            return item.child(child)
    names = ", ".join(item.text("name") or "" for item in config.items(section)) or "none"
    raise ParseError(path or section, f'{child} "{name}" does not exist; the kubeconfig has: {names}')


def read_data(fields: Fields, name: str, folder: Path) -> bytes | None:
    """Return NAME-data, or else the content of the file NAME, relative to the kubeconfig's folder, as kubectl does."""
    data, file = fields.text(f"{name}-data"), fields.text(name)
    if data is not None:
        try:
            return base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            raise ParseError(fields.path_of(f"{name}-data"), "is not base64") from None
    return read_file(fields.path_of(name), folder / file) if file is not None else None


def read_file(path: str, file: Path) -> bytes:
    """Return at most MAX_FILE_SIZE + 1 bytes of the file that the field `path` names. Raises ParseError."""
    try:
        with file.open("rb") as stream:
            return stream.read(MAX_FILE_SIZE + 1)
    except OSError as error:
        raise ParseError(path, f"{file}: {error.strerror}") from None
