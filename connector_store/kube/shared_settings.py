"""The settings that the doors share, read by all of them in one way: the ConfigMap `connectors-config`, once, at start.

They are never guessed. In a pod a ConfigMap that cannot be read is asked for again, whatever the answer was: an API
server that has just started answers 401 and 403 for a while, and defaults in place of `targets-deny`, `access` or
`ca-secret` would open what is closed. Only outside of a pod no right to the ConfigMap means that there is none.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.settings import CONFIG_MAP, Settings, parse_settings
from connector_store.kube.client import KubeClient
from connector_store.kube.config_loader import in_pod
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import CONFIG_MAPS

logger = logging.getLogger(__name__)

INITIAL_BACKOFF: Final = 0.5
MAX_BACKOFF: Final = 10.0
"""Seconds between two tries; the pause doubles, and is spread over half to all of that."""

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
    """The settings with what the ConfigMap says; `on_problem` is told at each try why they are not there yet.

    ParseError for what is wrong with them; with `until_valid` a wrong ConfigMap is waited for as well, not `explicit`
    and `environ`, which stay as they are.
    """

    def parse(config_map: Mapping[str, str]) -> Settings:
        return parse_settings(explicit=explicit, environ=environ, config_map=config_map, in_cluster=in_cluster)

    namespace = parse({}).system_namespace
    logged_problem, backoff = "", initial_backoff
    while True:
        try:
            return parse(await _read_config_map(client, namespace, default_if_forbidden=not in_pod(environ)))
        except ApiError as error:
            problem = f'configmaps "{CONFIG_MAP}" in namespace "{namespace}" cannot be read: {error}'
            delay = max(backoff, float(error.retry_after or 0))
        except ParseError as error:
            if not until_valid:
                raise
            problem, delay = str(error), backoff
        on_problem(problem)
        if problem != logged_problem:
            logger.warning("%s; it is tried again until it can be used", problem)
        logged_problem, backoff = problem, min(backoff * 2, MAX_BACKOFF)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreads processes, protects nothing


async def _read_config_map(client: KubeClient, namespace: str, *, default_if_forbidden: bool) -> Mapping[str, str]:
    """The ConfigMap's data, empty if there is none; the doors' roles have list for that name, and no get."""
    try:
        config_maps = await client.get(CONFIG_MAPS.path(namespace), {"fieldSelector": f"metadata.name={CONFIG_MAP}"})
    except ApiError as error:
        if not default_if_forbidden or error.status not in _FORBIDDEN_STATUSES:
            raise
        logger.warning(
            'configmaps "%s" in namespace "%s" may not be read: %s; without it defaults hold',
            CONFIG_MAP,
            namespace,
            error,
        )
        return {}
    items: list[dict[str, Any]] = config_maps.get("items") or []
    return (items[0].get("data") or {}) if items else {}
