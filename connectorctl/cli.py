"""The commands: arguments -> the document on stdout, messages on stderr, an exit code.

0: done, 1: refused, not found or wrong in a file, 2: usage.
"""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from connector_store.domain.errors import ParseError
from connector_store.domain.kubeconfig import TOKEN_FILE, Entry, render
from connector_store.domain.settings import Settings, parse_settings
from connector_store.domain.source import DEFAULT_FOLDER, Cluster, Folder
from connector_store.kube.errors import ApiError
from connectorctl.arguments import STDOUT, Arguments, parse_arguments
from connectorctl.origin import choose_origin

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130
_POD: Final = "KUBERNETES_SERVICE_HOST"


def run(arguments: Sequence[str], *, plugin: bool, environ: Mapping[str, str]) -> int:
    """Run one command; `plugin` when started as `kubectl connector`."""
    asked = parse_arguments(arguments, plugin=plugin)
    try:
        return _run(asked, plugin, environ)
    except OSError as error:
        _say(f"error: {error.filename}: {error.strerror}" if error.filename else f"error: {error}")
    except (ValueError, ApiError) as error:
        _say(f"error: {error}")
    except KeyboardInterrupt:
        return INTERRUPTED
    return FAILED


def _run(asked: Arguments, plugin: bool, environ: Mapping[str, str]) -> int:
    settings = parse_settings(explicit={}, environ=environ, config_map={}, in_cluster=False)
    folder = asked.folder or Path(DEFAULT_FOLDER)
    if asked.command == "init":
        return _init(folder)
    if asked.command == "check":
        return _check(folder, settings)
    try:
        origin = choose_origin(asked, plugin=plugin, in_pod=bool(environ.get(_POD)))
    except ParseError as error:
        _say(f"error: {error}")
        return USAGE
    match asked.command:
        case "token":
            _write(_token(asked, origin, settings) + "\n")
        case "status":
            _status(asked, origin, settings)
        case _:
            _kubeconfig(asked, _entries(asked, origin, settings))
    return OK


def _init(folder: Path) -> int:
    from connectorctl.example import write_example

    path = write_example(folder)
    _say(f"wrote {path}: put in address and token, then run: connectorctl check {folder}")
    return OK


def _check(folder: Path, settings: Settings) -> int:
    from connectorctl.check import check_folder

    text, fatal, summary = check_folder(folder, settings)
    _write(text)
    _say(summary)
    return FAILED if fatal else OK


def _token(asked: Arguments, origin: Folder | Cluster, settings: Settings) -> str:
    # Each source is imported when it is asked: a cluster's takes most of a second.
    if isinstance(origin, Folder):
        from connectorctl import folder

        return folder.token(asked, Path(origin.path), settings, time.time())
    from connectorctl import cluster

    return cluster.token(asked, origin, settings)


def _entries(asked: Arguments, origin: Folder | Cluster, settings: Settings) -> list[Entry]:
    if isinstance(origin, Folder):
        from connectorctl import folder

        return folder.entries(asked, Path(origin.path), settings, time.time())
    from connectorctl import cluster

    return cluster.entries(asked, origin, settings)


def _status(asked: Arguments, origin: Folder | Cluster, settings: Settings) -> None:
    from connectorctl.table import render_status

    if isinstance(origin, Folder):
        from connectorctl import folder

        store = folder.load(Path(origin.path), settings)
    else:
        from connectorctl import cluster

        store = cluster.load(asked, origin, settings)
    _write(render_status(store, asked.namespace))


def _kubeconfig(asked: Arguments, entries: list[Entry]) -> None:
    from connectorctl.files import write_private

    text = render(entries, rotating=asked.rotating)
    if asked.output in (None, STDOUT):
        _write(text)
        return
    if asked.rotating:
        write_private(asked.output.parent / TOKEN_FILE, entries[0].token)
    write_private(asked.output, text)
    _say(f"wrote {asked.output}")


def _write(document: str) -> None:
    sys.stdout.write(document)
    sys.stdout.flush()


def _say(message: str) -> None:
    sys.stderr.write(message + "\n")
