"""Reader for a kubeconfig, based on the `kubernetes` library.

It adds what the library lacks: token files are read again and exec plugins run again while the program runs, and a
failing plugin is an error.
"""

import math
import os
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import yaml
from kubernetes.aio.client.configuration import Configuration as Loaded
from kubernetes.aio.config.config_exception import ConfigException
from kubernetes.aio.config.exec_provider import ExecProvider
from kubernetes.aio.config.kube_config import ConfigNode, FileOrData, KubeConfigLoader, KubeConfigMerger

from connector_store.kube.configuration import Configuration, CredentialError, TokenFile

_EXPIRY_LEEWAY: Final = 60.0
"""Seconds before its expiry that a plugin's credential is replaced."""
_IMPERSONATION_FIELDS: Final = ("as", "as-uid", "as-groups", "as-user-extra")
"""Fields of a user that the library ignores, so that the request would have the rights of another user."""


async def read_kubeconfig(
    paths: str, context: str | None, now: Callable[[], float], clock: Callable[[], float]
) -> Configuration:
    """Read the files in `paths`, separated as in KUBECONFIG. The ValueError says what is missing and where.

    `now` is in unix seconds. `clock` is monotonic.
    """
    try:
        return await _read(paths, context, now, clock)
    except (ConfigException, CredentialError, OSError, yaml.YAMLError) as e:
        # YAML errors have several lines.
        raise ValueError(f"no access to an API server: {' '.join(str(e).split())}") from e
    except (TypeError, AttributeError, ValueError) as e:
        # The library does not check the structure of a file before it reads it.
        raise ValueError(f"no access to an API server: {paths}: is no kubeconfig: {e}") from e


async def _read(paths: str, context: str | None, now: Callable[[], float], clock: Callable[[], float]) -> Configuration:
    merged = _merge_files(paths)
    user = _find_user(merged, context)
    _check_impersonation(user)
    # The library would run the plugin itself, and would log its failure and continue.
    plugin = user.value.pop("exec", None)
    # A token file has precedence over an inline token (client-go). The library does the opposite.
    token_file = user.value.pop("tokenFile", None)
    if token_file is not None:
        user.value.pop("token", None)
    library_configuration = Loaded()
    await KubeConfigLoader(merged, active_context=context, config_base_path=None).load_and_set(library_configuration)
    certificate = (library_configuration.cert_file, library_configuration.key_file)
    authorization = _static_authorization(library_configuration.api_key.get("BearerToken"))
    if plugin is not None:
        location = f"{user.name}/exec"
        _check_plugin(plugin, location)
        exec_plugin = _ExecPlugin(ConfigNode(location, plugin, user.path), now)
        certificate = await exec_plugin.start() or certificate
        authorization = exec_plugin.authorization
    elif token_file is not None:
        authorization = TokenFile(Path(user.path or "").parent / token_file, clock).authorization
    return Configuration(
        host=str(library_configuration.host),
        ssl_ca_cert=library_configuration.ssl_ca_cert,
        cert_file=certificate[0],
        key_file=certificate[1],
        verify_ssl=library_configuration.verify_ssl,
        tls_server_name=library_configuration.tls_server_name,
        proxy=library_configuration.proxy,
        authorization=authorization,
    )


def _merge_files(paths: str) -> ConfigNode:
    if not any(Path(each).expanduser().is_file() for each in paths.split(os.pathsep) if each):
        raise ConfigException(f"kubeconfig {paths} not found; set KUBECONFIG or name another")
    try:
        merged: ConfigNode | None = KubeConfigMerger(paths).config
        if merged is None:
            raise CredentialError(f"kubeconfig {paths} is empty")
        for kind in ("clusters", "contexts", "users"):
            for each in merged.value[kind]:
                each.name = f"{each.path}: {kind}[{each['name']}]"
    except (ConfigException, KeyError):
        # The library names an entry by its whole content, with its credential. So its message must not be shown, and
        # each entry gets another name for later messages.
        raise ConfigException(f"{paths}: an entry of clusters, contexts or users has no name") from None
    return merged


def _find_user(merged: ConfigNode, context: str | None) -> ConfigNode:
    name = context if context is not None else merged["current-context"]
    contexts = merged["contexts"]
    if all(each["name"] != name for each in contexts.value):
        raise ConfigException(f'the kubeconfig has no context "{name}"; kubectl config get-contexts lists those it has')
    context_entry = contexts.get_with_name(name)["context"]
    user: ConfigNode = merged["users"].get_with_name(context_entry["user"])["user"]
    return user


def _check_impersonation(user: ConfigNode) -> None:
    for name in _IMPERSONATION_FIELDS:
        if name in user.value:
            raise CredentialError(f"{user.name}/{name}: is not supported; use a credential of that user")


def _check_plugin(plugin: object, location: str) -> None:
    """Raise CredentialError if `users[].user.exec` has types that the library does not expect."""
    _check_strings(plugin, ("apiVersion", "command"), location)
    assert isinstance(plugin, dict)  # noqa: S101 - _check_strings refuses all else
    for name in ("args", "env"):
        if not isinstance(plugin.get(name) or [], list):
            raise CredentialError(f"{location}/{name}: is not a list")
    for number, each in enumerate(plugin.get("args") or []):
        if not isinstance(each, str):
            raise CredentialError(f"{location}/args[{number}]: is not a string; write it in quotes")
    for number, each in enumerate(plugin.get("env") or []):
        _check_strings(each, ("name", "value"), f"{location}/env[{number}]")


def _check_strings(value: object, names: tuple[str, ...], location: str) -> None:
    if not isinstance(value, dict):
        raise CredentialError(f"{location}: is not a mapping")
    for name in names:
        if name not in value:
            raise CredentialError(f"{location}/{name}: is missing")
        if not isinstance(value[name], str):
            raise CredentialError(f"{location}/{name}: is not a string; write it in quotes")


def _static_authorization(header: str | None) -> Callable[[], Awaitable[str | None]]:
    async def authorization() -> str | None:
        return header

    return authorization


class _ExecPlugin:
    """Exec plugin (`users[].user.exec`, client.authentication.k8s.io), run at start and before its token expires.

    Only the first certificate is used, because connections keep their TLS context.
    """

    def __init__(self, config: ConfigNode, now: Callable[[], float]) -> None:
        self._config = config
        self._now = now
        self._refresh_at = 0.0
        self._header: str | None = None

    async def start(self) -> tuple[str, str] | None:
        """Run the plugin. Return the files of its certificate and key, or None if it returned a token.

        Raises CredentialError if it returned neither.
        """
        status = await self._run()
        if self._header is not None:
            return None
        if not status.get("clientCertificateData") or not status.get("clientKeyData"):
            raise CredentialError(f"{self._config.name}: gave neither token nor clientCertificateData with its key")
        return _credential_file(status, "clientCertificateData"), _credential_file(status, "clientKeyData")

    async def authorization(self) -> str | None:
        if self._now() >= self._refresh_at:
            await self._run()
        return self._header

    async def _run(self) -> Mapping[str, Any]:
        # Set this first, so that concurrent requests use the current token instead of running the plugin, too.
        self._refresh_at = self._now() + _EXPIRY_LEEWAY
        try:
            status: object = await ExecProvider(self._config).run()
        except OSError as e:
            raise CredentialError(f"{self._config.name}/command: {self._config['command']}: {e.strerror}") from e
        except (ConfigException, TypeError, ValueError) as e:
            raise CredentialError(f"{self._config.name}: {str(e).removeprefix('exec: ')}") from e
        if not isinstance(status, dict):
            raise CredentialError(f"{self._config.name}: its answer's status is not an object")
        if status.get("token"):
            self._header = f"Bearer {status['token']}"
        expires_at = status.get("expirationTimestamp")
        if expires_at:
            self._refresh_at = max(self._refresh_at, self._parse_timestamp(expires_at) - _EXPIRY_LEEWAY)
        else:
            self._refresh_at = math.inf
        return status

    def _parse_timestamp(self, text: object) -> float:
        try:
            return datetime.fromisoformat(str(text)).timestamp()
        except (ValueError, OverflowError):
            raise CredentialError(f"{self._config.name}: its answer's expirationTimestamp is no time") from None


def _credential_file(status: Mapping[str, Any], key: str) -> str:
    path: str = FileOrData(status, None, data_key_name=key, base64_file_content=False).as_file()
    return path
