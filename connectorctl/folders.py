"""Errors about folders of manifests."""

import shlex
from pathlib import Path

from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.connector_source import DEFAULT_FOLDER


def missing_folder_error(folder: Path) -> ParseError:
    """Return the error for a folder that does not exist, with the command that creates it."""
    step = f"create it with: connectorctl init {shlex.quote(str(folder))}"
    if folder == Path(DEFAULT_FOLDER):
        step += ", or from a kubeconfig with: connectorctl import"
    return ParseError("", f'folder "{folder}" does not exist; {step}')
