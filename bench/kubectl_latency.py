"""Measure the duration of one `kubectl get` in ms: at the API server, through a CONNECT tunnel, and by direct access.

    python -m bench.kubectl_latency [--calls 30] [--json FILE]

The API server is real. The ways take turns, call after call; discovery is cached before. At the API server the client
has the credential itself. `kubectl alone` is `kubectl version --client`, which measures the start of the program.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from typing import Final

from bench.checkout import THIS_CHECKOUT
from bench.compare import describe_machine
from bench.output import make_parser, write_json
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl, write_kubeconfig
from lab.manifests import connector, secret, write_manifests
from lab.ports import Port
from lab.process import Process
from lab.scratch import scratch_folder

NAMESPACE: Final = "bench"
CONNECTOR: Final = "bench/target"
OBJECTS: Final = 10
"""Number of ConfigMaps that a call lists."""
WARM_UP_CALLS: Final = 2
"""Number of calls of each way that are not counted: the first one also reads the discovery documents."""
READY_TIMEOUT: Final = 180.0
CA_FILE: Final = "mitmproxy-ca-cert.pem"
ALONE, SERVER, CONNECT, DIRECT = "kubectl alone", "API server", "CONNECT", "direct access"

GET: Final = ("get", "configmaps", "--namespace", NAMESPACE)

Call = Callable[[], str]


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--calls", type=int, default=30, help="number of calls of each way; 2 or more")
    options = parser.parse_args()
    with scratch_folder() as folder, ControlPlane(folder / "plane") as plane:
        results = measure(plane, folder, options.calls)
    for way, figures in results.items():
        sys.stdout.write(f"{way:16}" + "".join(f"{name} {value:6.1f}   " for name, value in figures.items()) + "\n")
    write_json({"machine": describe_machine(), "calls": options.calls, "ways": results}, options.json)
    return 0


def measure(plane: ControlPlane, folder: Path, calls: int) -> dict[str, dict[str, float]]:
    """Return {"median, ms", "p90, ms"} by way. The files of the proxy and of kubectl are in `folder`."""
    token = prepare(plane, folder / "connectors")
    with run_proxy(folder, {"connector_source": str(folder / "connectors")}) as (proxy, address):
        ways = {
            SERVER: _server_kubectl(plane, folder, token),
            CONNECT: _proxy_kubectl(plane, folder, "connect", "--proxy", f"http://{address}"),
            DIRECT: _proxy_kubectl(plane, folder, "direct", "--direct", "--proxy", f"https://{address}"),
        }
        for kubectl in ways.values():
            proxy.wait_until(partial(_works, kubectl), timeout=READY_TIMEOUT)
        alone = partial(plane.kubectl, "version", "--client")
        return time_calls({ALONE: alone, **{way: partial(kubectl, *GET) for way, kubectl in ways.items()}}, calls)


@contextmanager
def run_proxy(
    folder: Path, options: Mapping[str, str], environment: Mapping[str, str] = {}
) -> Iterator[tuple[Process, str]]:
    """Run a proxy with its CA in `folder`/conf. Yield its process and its address."""
    port, admin = Port(), Port()
    address = f"127.0.0.1:{port.number}"
    settings = {
        "confdir": str(folder / "conf"),
        "connector_admin": f"127.0.0.1:{admin.number}",
        **options,
    }
    arguments = ["-q", "--listen-host", "127.0.0.1", "-p", str(port.number)]
    for name, value in settings.items():
        arguments += ["--set", f"{name}={value}"]
    proxy = Process(
        THIS_CHECKOUT.proxy_command(arguments),
        log=folder / "proxy.log",
        environment={**THIS_CHECKOUT.environment, **environment},
    )
    proxy.start()
    try:
        proxy.wait_until(partial(_has_certificate, folder / "conf" / CA_FILE), timeout=READY_TIMEOUT)
        yield proxy, address
    finally:
        proxy.stop()
        for reserved_port in (port, admin):
            reserved_port.release()


def prepare(plane: ControlPlane, connectors: Path) -> str:
    """Create an account that may read its namespace, objects there, and a Connector with the token of the account.

    Return the token.
    """
    plane.create_namespace(NAMESPACE)
    plane.kubectl("create", "role", "reader", "--verb=get,list", "--resource=configmaps", namespace=NAMESPACE)
    plane.kubectl("create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={NAMESPACE}:default",
                  namespace=NAMESPACE)  # fmt: skip
    objects = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c-{n}"}} for n in range(OBJECTS)]
    plane.api.apply(*objects, namespace=NAMESPACE)
    token = plane.issue_token(NAMESPACE, "default")
    namespace, _, name = CONNECTOR.partition("/")
    write_manifests(
        connectors,
        connector(name, plane.url, namespace=namespace),
        secret(name, namespace=namespace, token=token, ca=plane.ca_pem),
    )
    return token


def time_calls(calls: Mapping[str, Call], times: int) -> dict[str, dict[str, float]]:
    """Return the figures of each of `calls`, which take turns."""
    durations: dict[str, list[float]] = {way: [] for way in calls}
    for turn in range(WARM_UP_CALLS + times):
        for way, call in calls.items():
            start = time.perf_counter()
            call()
            if turn >= WARM_UP_CALLS:
                durations[way].append((time.perf_counter() - start) * 1e3)
    return {way: summarize(milliseconds) for way, milliseconds in durations.items()}


def summarize(durations: Sequence[float]) -> dict[str, float]:
    return {"median, ms": median(durations), "p90, ms": quantiles(durations, n=10, method="inclusive")[-1]}


def _has_certificate(path: Path) -> bool:
    """Return True if the file is whole, which mitmproxy creates first and then writes."""
    return path.exists() and "-----END CERTIFICATE-----\n" in path.read_text()


def _works(kubectl: Kubectl) -> bool:
    return kubectl.run(*GET).returncode == 0


def _server_kubectl(plane: ControlPlane, folder: Path, token: str) -> Kubectl:
    path = folder / "server" / "config"
    path.parent.mkdir()
    write_kubeconfig(path, server=plane.url, ca_pem=plane.ca_pem, user={"token": token})
    return Kubectl(plane.kubectl.program, path)


def _proxy_kubectl(plane: ControlPlane, folder: Path, name: str, *arguments: str) -> Kubectl:
    """Return kubectl with a kubeconfig that connectorctl writes, and with its own discovery cache."""
    path = folder / name / "config"
    path.parent.mkdir()
    command: list[str | Path] = [
        THIS_CHECKOUT.programs / "connectorctl",
        "kubeconfig",
        CONNECTOR,
        "--output",
        path,
        *arguments,
    ]
    command += ["--source", folder / "connectors", "--confdir", folder / "conf"]
    subprocess.run(command, check=True, capture_output=True)
    return Kubectl(plane.kubectl.program, path)


if __name__ == "__main__":
    sys.exit(main())
