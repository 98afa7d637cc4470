"""Updates of a user's kubeconfig file. Entries that do not lead to a Connector stay, unless the user forces it.

An entry leads to a Connector if `connectorctl kubeconfig` could have written it: the proxy-url of its cluster has a
Connector as user name, or its server names one by path or by host.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

import yaml

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.direct_access import parse_direct_path
from connector_store.domain.kubeconfig.proxy_service import ALIAS_PREFIX
from connector_store.private_files import write_private
from connectorctl.kubeconfig_fields import MAX_FILE_SIZE

_SECTIONS: Final = ("clusters", "contexts", "users")
_MAX_LISTED: Final = 5
"""Maximum number of contexts that an error lists."""
_REPLACE_STEP: Final = "name another file, or replace it with -o FILE --force"
"""Next step for a file that is not a kubeconfig. A merge cannot replace it."""

Config = dict[str, Any]


def default_file(environ: Mapping[str, str]) -> Path:
    """Return the file that kubectl writes: the first of KUBECONFIG, or ~/.kube/config."""
    first = next((name for name in environ.get("KUBECONFIG", "").split(os.pathsep) if name), None)
    return Path(first) if first else Path.home() / ".kube" / "config"


def check_replaceable(path: Path) -> None:
    """Raise ParseError if `path` has content that does not lead to a Connector, and that a replacement would lose."""
    if not path.is_file():
        return
    config = _read(path)
    foreign_contexts = [name for name in _names(config, "contexts") if name not in _connector_contexts(config)]
    if foreign_contexts:
        listing = ", ".join(foreign_contexts[:_MAX_LISTED]) + (", …" if len(foreign_contexts) > _MAX_LISTED else "")
        raise ParseError(
            "",
            f"{path} has contexts that are not of Connectors ({listing}); "
            "keep them with --merge, or replace the file with --force",
        )
    if config and config.get("kind") != "Config":
        raise ParseError("", f"{path} is not a kubeconfig; {_REPLACE_STEP}")


def merge_into(path: Path, new_config: Config, *, force: bool) -> str | None:
    """Merge `new_config` into the file, with its current context. Return the previous current context.

    Raises ParseError if an entry to replace does not lead to a Connector, unless `force`.
    """
    path = Path(os.path.realpath(path))  # Path.resolve() raises RuntimeError for a loop of links before Python 3.13
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _lock(path):
        config = _read(path) if path.exists() else {}
        conflicts = [name for name in _names(new_config, "contexts") if _is_foreign(config, name)]
        if conflicts and not force:
            raise ParseError(
                "",
                f"{path} has an entry {conflicts[0]} that is not of a Connector; "
                "write another name with --context-name, or replace it with --force",
            )
        previous_context = config.get("current-context") or None
        write_private(path, yaml.safe_dump(_merge(config, new_config), sort_keys=False, width=1_000_000))
    return previous_context if isinstance(previous_context, str) else None


def _merge(config: Config, new_config: Config) -> Config:
    merged = {"apiVersion": "v1", "kind": "Config", **config, "current-context": new_config["current-context"]}
    for section in _SECTIONS:
        new_names = {entry["name"] for entry in new_config[section]}
        other_entries = [entry for entry in _entries(config, section) if entry.get("name") not in new_names]
        merged[section] = [*other_entries, *new_config[section]]
    return merged


def _is_foreign(config: Config, name: str) -> bool:
    return any(name in _names(config, section) for section in _SECTIONS) and name not in _connector_contexts(config)


def _connector_contexts(config: Config) -> set[str]:
    """Return the names of contexts that lead to a Connector. Their clusters and users have the same names."""
    clusters = {
        entry.get("name") for entry in _entries(config, "clusters") if connector_key(entry.get("cluster")) is not None
    }
    contexts = [entry for entry in _entries(config, "contexts") if isinstance(entry.get("context"), Mapping)]
    return {str(entry.get("name")) for entry in contexts if entry["context"].get("cluster") in clusters}


def connector_key(cluster: object) -> ObjectKey | None:
    """Return the Connector to which a cluster of a kubeconfig leads, or None."""
    if not isinstance(cluster, Mapping):
        return None
    proxy, server = _parse_url(cluster.get("proxy-url")), _parse_url(cluster.get("server"))
    if proxy is not None:
        return _parse_key(unquote(proxy.username or ""))
    return _direct_key(server) if server is not None else None


def _direct_key(server: SplitResult) -> ObjectKey | None:
    service, namespace, *domain = [*(server.hostname or "").split("."), "", ""]
    if service.startswith(ALIAS_PREFIX) and domain[0] == "svc":
        return _parse_key(f"{namespace}/{service.removeprefix(ALIAS_PREFIX)}")
    request = parse_direct_path(server.path.encode())
    return request.key if request is not None else None


def _parse_url(value: object) -> SplitResult | None:
    try:
        return urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _parse_key(text: str) -> ObjectKey | None:
    try:
        return ObjectKey.parse(text)
    except ParseError:
        return None


def _names(config: Config, key: str) -> list[str]:
    return [str(entry.get("name")) for entry in _entries(config, key)]


def _entries(config: Config, key: str) -> list[Config]:
    return [entry for entry in config.get(key) or [] if isinstance(entry, dict)]


def _read(path: Path) -> Config:
    with path.open("rb") as file:
        text = file.read(MAX_FILE_SIZE + 1)
    if len(text) > MAX_FILE_SIZE:
        raise ParseError(
            "",
            f"{path} is longer than {MAX_FILE_SIZE} bytes, not a kubeconfig; {_REPLACE_STEP}",
        )
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ParseError("", f"{path} is not YAML; {_REPLACE_STEP}") from error
    if config is None:
        return {}
    if not isinstance(config, dict) or any(not isinstance(config.get(section) or [], list) for section in _SECTIONS):
        raise ParseError("", f"{path} is not a kubeconfig; {_REPLACE_STEP}")
    return config


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold kubectl's lock on a kubeconfig, the file FILE.lock (client-go tools/clientcmd/loader.go)."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0))
    except FileExistsError as error:
        raise ParseError(
            "", f"{lock} exists, because another program changes the kubeconfig; if none does, remove this file"
        ) from error
    try:
        yield
    finally:
        lock.unlink()
