"""Where the API server is and who we are there: a pod's ServiceAccount, or a kubeconfig.

The `kubernetes` library reads both. What it leaves out is here: token files and exec plugins are asked again while
we run, a plugin that fails is an error, and trust is kubectl's.
"""

import math
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.exec_provider import ExecProvider
from kubernetes.aio.config.incluster_config import (
    SERVICE_CERT_FILENAME,
    SERVICE_HOST_ENV_NAME,
    SERVICE_TOKEN_FILENAME,
    InClusterConfigLoader,
)
from kubernetes.aio.config.kube_config import ConfigNode, FileOrData, KubeConfigLoader, KubeConfigMerger

_TOKEN_FILE_PERIOD: Final = 60.0
"""Seconds between looks at a token file, as client-go (transport/token_source.go)."""

_EXPIRY_LEEWAY: Final = 60.0
"""Seconds before its expiry that a plugin's credential is asked for again."""

Refresh = Callable[[Configuration], Awaitable[None]]


def in_pod(environ: Mapping[str, str] = os.environ) -> bool:
    """True where kubelet has started this process."""
    return bool(environ.get(SERVICE_HOST_ENV_NAME))


async def load(
    context: str | None = None,
    *,
    kubeconfig: str | None = None,
    environ: Mapping[str, str] = os.environ,
    service_account: tuple[str, str] = (SERVICE_TOKEN_FILENAME, SERVICE_CERT_FILENAME),
    now: Callable[[], float] = time.time,
) -> Configuration:
    """The API server of a pod's own ServiceAccount, else of the kubeconfig: `kubeconfig`, KUBECONFIG, ~/.kube/config.

    Naming a context or a kubeconfig passes over the pod's. ValueError says what is missing and where.
    """
    configuration = Configuration()
    # kubectl accepts CAs without key usage or authority key id, which OpenSSL's strict mode refuses (RFC 5280).
    configuration.disable_strict_ssl_verification = True
    # Unlimited: watches hold their connections, and what waits for one is bounded where it is asked for.
    configuration.connection_pool_maxsize = 0
    try:
        if context is None and kubeconfig is None and in_pod(environ):
            InClusterConfigLoader(*service_account, environ=environ).load_and_set(configuration)
        else:
            paths = kubeconfig or environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
            await _load_kubeconfig(configuration, paths, context, now)
    except (ConfigException, OSError, yaml.YAMLError, TypeError, AttributeError, ValueError) as e:
        # The library does not look at the shape of a file before it reads it.
        raise ValueError(f"no access to an API server: {e}") from e
    return configuration


async def _load_kubeconfig(
    configuration: Configuration, paths: str, context: str | None, now: Callable[[], float]
) -> None:
    merged = _merged(paths)
    user = _user(merged, context)
    # The library would run the plugin itself, and log and pass over what goes wrong with it.
    plugin = user.value.pop("exec", None)
    # A token file wins over an inline token (client-go), which the library reads the other way round.
    if "tokenFile" in user:
        user.value.pop("token", None)
    await KubeConfigLoader(merged, active_context=context, config_base_path=None).load_and_set(configuration)
    if plugin is not None:
        await _hook(configuration, _Plugin(ConfigNode("exec", plugin, user.path), now).refresh)
    elif "tokenFile" in user:
        base = Path(user.path or "").parent
        await _hook(configuration, _TokenFile(base / user["tokenFile"], now).refresh)


def _merged(paths: str) -> ConfigNode:
    if not any(Path(each).expanduser().is_file() for each in paths.split(os.pathsep) if each):
        raise ConfigException(f"kubeconfig {paths} not found; set KUBECONFIG or name another")
    merged: ConfigNode | None = KubeConfigMerger(paths).config
    if merged is None:
        raise ConfigException(f"kubeconfig {paths} is empty")
    return merged


async def _hook(configuration: Configuration, refresh: Refresh) -> None:
    await refresh(configuration)
    configuration.refresh_api_key_hook = refresh  # type: ignore[assignment]  # the library awaits it, typed None


def _user(merged: ConfigNode, context: str | None) -> ConfigNode:
    name = context if context is not None else merged["current-context"]
    chosen = merged["contexts"].get_with_name(name)["context"]
    user: ConfigNode = merged["users"].get_with_name(chosen["user"])["user"]
    return user


class _TokenFile:
    """`users[].user.tokenFile`, read again every minute: CSI drivers and kubelet replace its content."""

    def __init__(self, path: Path, now: Callable[[], float]) -> None:
        self._path = path
        self._now = now
        self._read_at = -math.inf

    async def refresh(self, configuration: Configuration) -> None:
        now = self._now()
        if now - self._read_at >= _TOKEN_FILE_PERIOD:
            self._read_at = now
            # A file of a kilobyte on tmpfs: a thread would cost more than the read.
            configuration.api_key["BearerToken"] = f"Bearer {self._path.read_text().strip()}"


class _Plugin:
    """`users[].user.exec`: client.authentication.k8s.io, run at start and when its token is about to expire.

    A certificate is taken at the start only: connections keep the TLS context that they were made with.
    """

    def __init__(self, config: ConfigNode, now: Callable[[], float]) -> None:
        self._config = config
        self._now = now
        self._until = 0.0

    async def refresh(self, configuration: Configuration) -> None:
        if self._now() < self._until:
            return
        # Set first: the requests that come meanwhile use what there is, instead of running the plugin too.
        self._until = self._now() + _EXPIRY_LEEWAY
        status = await ExecProvider(self._config).run()
        self._take(status, configuration)
        expires = status.get("expirationTimestamp")
        if expires:
            self._until = max(self._until, datetime.fromisoformat(expires).timestamp() - _EXPIRY_LEEWAY)
        else:
            self._until = math.inf

    def _take(self, status: Mapping[str, Any], configuration: Configuration) -> None:
        if status.get("token"):
            configuration.api_key["BearerToken"] = f"Bearer {status['token']}"
        elif status.get("clientCertificateData") and status.get("clientKeyData"):
            configuration.cert_file = _file(status, "clientCertificateData")
            configuration.key_file = _file(status, "clientKeyData")
        else:
            command = self._config["command"]
            raise ConfigException(f'exec plugin "{command}" gave neither token nor clientCertificateData with its key')


def _file(status: Mapping[str, Any], key: str) -> str:
    path: str = FileOrData(status, None, data_key_name=key, base64_file_content=False).as_file()
    return path
