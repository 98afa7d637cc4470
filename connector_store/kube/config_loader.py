"""Which API server: a pod's own, by its ServiceAccount, else that of a kubeconfig.

The `kubernetes` library is imported where a kubeconfig is read, and nowhere else: a pod does without its 20 MB.
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
    """True where kubelet has started this process."""
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
    """The API server of a pod's own ServiceAccount, else of the kubeconfig: `kubeconfig`, KUBECONFIG, ~/.kube/config.

    Naming a context or a kubeconfig passes over the pod's. ValueError says what is missing and where. `now`, in unix
    seconds, is for what credentials say of their end; files are looked at by `clock`, which nobody sets back.
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
