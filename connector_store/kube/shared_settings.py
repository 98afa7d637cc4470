"""Settings that all programs share: the ConfigMap `connectors-config`, read once at start.

They are never guessed. In a pod, a failed read of the ConfigMap is retried, whatever the status was. An API server that
has just started answers 401 and 403 for a while, and the defaults of `targets-deny`, `access` or `ca-secret` would open
what the ConfigMap closes. Outside of a pod, a missing right to read the ConfigMap means that the defaults apply.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.schema import suggest_name
from connector_store.domain.config.settings import CONFIG_MAP, SETTINGS, Settings, is_feature_flag, parse_settings
from connector_store.kube.client import KubeClient
from connector_store.kube.config_loader import in_pod
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONFIG_MAPS

logger = logging.getLogger(__name__)

INITIAL_BACKOFF: Final = 0.5
MAX_BACKOFF: Final = 10.0
"""Seconds between two attempts. They double with each failure, and a random half of them may be cut off."""

_FORBIDDEN_STATUSES: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


async def read_settings(
    client: KubeClient,
    *,
    explicit: Mapping[str, str],
    environ: Mapping[str, str],
    in_cluster: bool = True,
    until_valid: bool = False,
    on_problem: Callable[[str], None] = lambda problem: None,
    initial_backoff: float = INITIAL_BACKOFF,
) -> Settings:
    """Read the settings. At each failed attempt, `on_problem` gets the reason.

    Raises ParseError for invalid settings. With `until_valid`, an invalid ConfigMap is read again instead. `explicit`
    and `environ` do not change, so they must be valid.
    """

    def parse(config_map: Mapping[str, str]) -> Settings:
        return parse_settings(explicit=explicit, environ=environ, config_map=config_map, in_cluster=in_cluster)

    namespace = parse({}).system_namespace
    logged_problem, backoff = "", initial_backoff
    while True:
        try:
            config_map = await _read_config_map(client, namespace, default_if_forbidden=not in_pod(environ))
            settings = parse(config_map)
        except ApiError as error:
            problem = f'configmaps "{CONFIG_MAP}" in namespace "{namespace}" cannot be read: {error}'
            delay = max(backoff, float(error.retry_after or 0))
        except ParseError as error:
            if not until_valid:
                raise
            problem, delay = str(error), backoff
        else:
            _warn_of_unknown_keys(namespace, config_map, settings)
            return settings
        on_problem(problem)
        if problem != logged_problem:
            logger.warning("%s; retrying until it is usable", problem)
        logged_problem, backoff = problem, min(backoff * 2, MAX_BACKOFF)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not security


def _warn_of_unknown_keys(namespace: str, config_map: Mapping[str, str], settings: Settings) -> None:
    source = f'configmaps "{CONFIG_MAP}" in namespace "{namespace}"'
    for key in settings.unknown_keys:
        logger.warning("%s: key %s is not a setting and has no effect%s", source, key, suggest_name(key, SETTINGS))
    flags = ", ".join(sorted(filter(is_feature_flag, config_map)))
    if flags:
        logger.warning("%s: feature flags of the Alauda product have no effect: %s", source, flags)


async def _read_config_map(client: KubeClient, namespace: str, *, default_if_forbidden: bool) -> Mapping[str, str]:
    """Return the ConfigMap's data, empty if it does not exist. The programs' roles allow list for its name, not get."""
    try:
        config_maps = await client.get(CONFIG_MAPS.path(namespace), {"fieldSelector": f"metadata.name={CONFIG_MAP}"})
    except ApiError as error:
        if not default_if_forbidden or error.status not in _FORBIDDEN_STATUSES:
            raise
        logger.warning(
            'configmaps "%s" in namespace "%s" cannot be read: %s; the defaults apply',
            CONFIG_MAP,
            namespace,
            error,
        )
        return {}
    items: list[dict[str, Any]] = config_maps.get("items") or []
    return (items[0].get("data") or {}) if items else {}
