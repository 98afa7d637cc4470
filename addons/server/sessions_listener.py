"""Listener of the sessions page: on loopback of the pod, or of a laptop, where it needs a secret."""

import asyncio
import logging
import secrets
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from addons.access.live_connections import LiveConnections
from addons.records.recent_use import RecentUse
from addons.server.options import Config, listen_error
from addons.sessions.server import SessionsServer
from addons.sessions.state import State
from connector_store.sessions_file import remove_url, write_url
from connector_store.store import Store

logger = logging.getLogger(__name__)

SECRET_BYTES: Final = 24


async def serve(
    config: Config,
    recent_use: RecentUse,
    get_parts: Callable[[], tuple[Store, LiveConnections]],
    *,
    in_pod: bool,
) -> None:
    """Serve until cancelled. Raises ParseError if the address cannot be used."""
    if config.sessions is None:
        return
    secret = None if in_pod else secrets.token_urlsafe(SECRET_BYTES)
    server = SessionsServer(State(get_parts, recent_use, commands=config.audit_commands), secret=secret)
    try:
        host, port = await server.start(*config.sessions)
    except OSError as error:
        raise listen_error("connector_sessions", config.sessions, error) from error
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    try:
        if secret is None:
            logger.info("sessions at %s", url)
            await asyncio.Event().wait()
        else:
            await _publish_secret(url, secret, config.confdir)
    finally:
        await server.stop()


async def _publish_secret(url: str, secret: str, confdir: Path) -> None:
    """Keep the URL with the secret in a file, until cancelled. Only a terminal shows it, because logs are stored."""
    full_url = f"{url}#{secret}"
    # sys.stdout is None if it was closed at start.
    is_terminal = sys.stdout is not None and sys.stdout.isatty()
    path: Path | None = None
    try:
        path = write_url(confdir, full_url)
    except OSError as error:
        # A confdir can be read-only. The proxy serves its clients without the page.
        logger.warning("connectorctl sessions does not work, because %s cannot be written: %s", confdir, error.strerror)
        if not is_terminal:
            return
    logger.info("sessions at %s", full_url if is_terminal else f"{url} (the URL with its secret is in {path})")
    try:
        await asyncio.Event().wait()
    finally:
        if path is not None:
            remove_url(confdir, full_url)
