"""A kubeconfig in a file of the user's: what is theirs in it stays, unless they say otherwise.

An entry is ours if it leads to a Connector as `connectorctl kubeconfig` writes it: its cluster's proxy-url has one for
a user name, or its server names one by path or by host.
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
from connectorctl.private_files import write_private

MAX_FILE_SIZE: Final = 8 * 1024 * 1024
"""Bytes of a kubeconfig that is read."""
_SECTIONS: Final = ("clusters", "contexts", "users")
_MAX_LISTED: Final = 5
"""Contexts of others that a refusal names."""

Config = dict[str, Any]


def default_file(environ: Mapping[str, str]) -> Path:
    """Where kubectl would write: the first file of KUBECONFIG, else ~/.kube/config."""
    first = next((each for each in environ.get("KUBECONFIG", "").split(os.pathsep) if each), None)
    return Path(first) if first else Path.home() / ".kube" / "config"


def check_replaceable(path: Path) -> None:
    """ParseError if `path` holds something that is not ours: replacing it would lose that."""
    if not path.is_file():
        return
    config = _read(path)
    foreign_contexts = [name for name in _names(config, "contexts") if name not in _connector_contexts(config)]
    if foreign_contexts:
        listing = ", ".join(foreign_contexts[:_MAX_LISTED]) + (", …" if len(foreign_contexts) > _MAX_LISTED else "")
        raise ParseError(
            str(path), f"holds contexts that are not of Connectors ({listing}); add to it with --merge, or --force"
        )
    if config and config.get("kind") != "Config":
        raise ParseError(str(path), "is no kubeconfig; name another file, or --force")


def merge_into(path: Path, new_config: Config, *, force: bool) -> str | None:
    """Put the entries of `made` into the file, and make its context the current one; returns which it was before.

    ParseError if an entry of one of their names is not ours, unless `force`.
    """
    path = Path(os.path.realpath(path))  # Path.resolve() makes a RuntimeError of a loop of links before Python 3.13
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _lock(path):
        config = _read(path) if path.exists() else {}
        conflicts = [name for name in _names(new_config, "contexts") if _is_foreign(config, name)]
        if conflicts and not force:
            raise ParseError(
                str(path), f"has an entry {conflicts[0]} that is not of a Connector; --context-name, or --force"
            )
        previous_context = config.get("current-context") or None
        write_private(path, yaml.safe_dump(_merge(config, new_config), sort_keys=False, width=1_000_000))
    return previous_context if isinstance(previous_context, str) else None


def _merge(config: Config, new_config: Config) -> Config:
    merged = {"apiVersion": "v1", "kind": "Config", **config, "current-context": new_config["current-context"]}
    for each in _SECTIONS:
        new_names = {entry["name"] for entry in new_config[each]}
        other_entries = [entry for entry in _entries(config, each) if entry.get("name") not in new_names]
        merged[each] = [*other_entries, *new_config[each]]
    return merged


def _is_foreign(config: Config, name: str) -> bool:
    return any(name in _names(config, each) for each in _SECTIONS) and name not in _connector_contexts(config)


def _connector_contexts(config: Config) -> set[str]:
    """Names of contexts, and of their clusters and users, that lead through a proxy as we write them."""
    clusters = {each.get("name") for each in _entries(config, "clusters") if _leads_to_connector(each.get("cluster"))}
    contexts = [each for each in _entries(config, "contexts") if isinstance(each.get("context"), Mapping)]
    return {str(each.get("name")) for each in contexts if each["context"].get("cluster") in clusters}


def _leads_to_connector(cluster: object) -> bool:
    if not isinstance(cluster, Mapping):
        return False
    proxy, server = _parse_url(cluster.get("proxy-url")), _parse_url(cluster.get("server"))
    if proxy is not None:
        return _is_key(unquote(proxy.username or ""))
    return server is not None and _is_direct_access(server)


def _is_direct_access(server: SplitResult) -> bool:
    service, namespace, *rest = [*(server.hostname or "").split("."), "", ""]
    if service.startswith(ALIAS_PREFIX) and rest[0] == "svc":
        return _is_key(f"{namespace}/{service.removeprefix(ALIAS_PREFIX)}")
    return parse_direct_path(server.path.encode()) is not None


def _parse_url(value: object) -> SplitResult | None:
    try:
        return urlsplit(value) if isinstance(value, str) else None
    except ValueError:
        return None


def _is_key(text: str) -> bool:
    try:
        ObjectKey.parse(text)
    except ParseError:
        return False
    return True


def _names(config: Config, key: str) -> list[str]:
    return [str(each.get("name")) for each in _entries(config, key)]


def _entries(config: Config, key: str) -> list[Config]:
    return [each for each in config.get(key) or [] if isinstance(each, dict)]


def _read(path: Path) -> Config:
    with path.open("rb") as file:
        text = file.read(MAX_FILE_SIZE + 1)
    if len(text) > MAX_FILE_SIZE:
        raise ParseError(
            str(path), f"is longer than {MAX_FILE_SIZE} bytes, no kubeconfig; name another file, or --force"
        )
    try:
        config = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        raise ParseError(str(path), "is no YAML; name another file, or --force") from error
    if config is None:
        return {}
    if not isinstance(config, dict) or any(not isinstance(config.get(each) or [], list) for each in _SECTIONS):
        raise ParseError(str(path), "is no kubeconfig; name another file, or --force")
    return config


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    """The lock that kubectl takes before it changes a kubeconfig (clientcmd/loader.go): a file FILE.lock."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        os.close(os.open(lock, os.O_CREAT | os.O_EXCL, 0))
    except FileExistsError as error:
        raise ParseError(str(lock), "is there: another program changes that file; if none does, remove it") from error
    try:
        yield
    finally:
        lock.unlink()
