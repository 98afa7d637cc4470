"""Loader for the API server's address and credential: the pod's ServiceAccount, or else a kubeconfig.

Only a program that reads a kubeconfig imports the `kubernetes` library. A pod saves its 20 MB.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from connector_store.kube.configuration import Configuration, CredentialError, TokenFile

SERVICE_HOST: Final = "KUBERNETES_SERVICE_HOST"
SERVICE_PORT: Final = "KUBERNETES_SERVICE_PORT"
SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""https://kubernetes.io/docs/tasks/run-application/access-api-from-pod"""


def in_pod(environ: Mapping[str, str] = os.environ) -> bool:
    """Return True if kubelet started this process."""
    return bool(environ.get(SERVICE_HOST))


async def load_configuration(
    context: str | None = None,
    *,
    kubeconfig: str | None = None,
    environ: Mapping[str, str] = os.environ,
    service_account: Path = SERVICE_ACCOUNT,
    now: Callable[[], float] = time.time,
    clock: Callable[[], float] = time.monotonic,
) -> Configuration:
    """Load the pod's ServiceAccount, or else the kubeconfig: `kubeconfig`, KUBECONFIG, ~/.kube/config.

    With a `context` or a `kubeconfig`, the pod's ServiceAccount is not used. The ValueError says what is missing and
    where. `now` is in unix seconds and is compared with the expiry of credentials. `clock` is monotonic and times the
    reads of files.
    """
    if context is None and kubeconfig is None and in_pod(environ):
        try:
            return _load_in_pod(environ, service_account, clock)
        except (CredentialError, OSError) as e:
            raise ValueError(f"no access to an API server: {e}") from e
    from connector_store.kube.kubeconfig import read_kubeconfig

    paths = kubeconfig or environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    return await read_kubeconfig(paths, context, now, clock)


def _load_in_pod(environ: Mapping[str, str], folder: Path, clock: Callable[[], float]) -> Configuration:
    host, port = environ[SERVICE_HOST], environ.get(SERVICE_PORT, "")
    if not port:
        raise CredentialError(f"{SERVICE_HOST} is set, and {SERVICE_PORT} is not")
    ca_file = folder / "ca.crt"
    if not ca_file.read_bytes():
        raise CredentialError(f"{ca_file} is empty")
    return Configuration(
        host=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        ssl_ca_cert=str(ca_file),
        authorization=TokenFile(folder / "token", clock).authorization,
    )
