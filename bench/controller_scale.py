"""Measure the controller with 1,000 Connectors of a real API server: cold start, usage at rest, and change of leader.

    python -m bench.controller_scale [--connectors 1000] [--dead 100] [--json FILE]

Most targets are one TLS server on loopback; `--dead` of them accept connections and never respond. Two controllers run
as in a cluster, with their own role. Requests are counted in the API server's audit log.
"""

import argparse
import contextlib
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from bench.output import make_parser, write_figures
from bench.process import read_usage
from lab.control_plane import ControlPlane
from lab.controller import API_PATH, ConnectorCluster, Controller
from lab.scratch import scratch_folder
from lab.targets import CA, run_target
from lab.waiting import wait_until

NAMESPACES: Final = 20
WRITERS: Final = 8
SETTLE_SECONDS: Final = 30.0
"""Seconds between the last condition and rest, for writing events and for watches to catch up."""
TIMEOUT: Final = 600.0
POLL_INTERVAL: Final = 1.0
"""Seconds between two lists of all Connectors, which are work for the API server too."""
SETTINGS: Final = {"CONNECTORS_PROBE_INTERVAL": "60"}


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--connectors", type=int, default=1000)
    parser.add_argument("--dead", type=int, default=100)
    parser.add_argument("--rest", type=float, default=120.0, help="seconds at rest to measure")
    options = parser.parse_args()
    with scratch_folder() as folder, ControlPlane(folder) as plane, contextlib.ExitStack() as stack:
        figures = measure(ConnectorCluster(plane), options, stack)
    write_figures(figures, options.json)
    return 0


def measure(cluster: ConnectorCluster, options: argparse.Namespace, stack: contextlib.ExitStack) -> dict[str, Any]:
    connectors, dead = options.connectors, options.dead
    alive, silent = stack.enter_context(run_target()), stack.enter_context(run_target())
    silent.silent = True
    create_connectors(cluster, [silent.address if number < dead else alive.address for number in range(connectors)])
    report_progress("filled")
    first = stack.enter_context(contextlib.closing(Controller(cluster.plane, SETTINGS)))
    started = time.monotonic()
    first.start()
    load = round(os.getloadavg()[0], 1)
    figures: dict[str, Any] = {"connectors": connectors, "dead": dead, "load_average_before": load}
    for name, count in (("all_have_conditions_s", count_with_conditions), ("all_are_known_s", count_with_known_status)):
        while count(cluster) < connectors:
            if time.monotonic() - started > TIMEOUT:
                raise SystemExit(f"{name}: {count(cluster)} of {connectors} after {TIMEOUT:.0f} s")
            time.sleep(POLL_INTERVAL)
        figures[name] = round(time.monotonic() - started, 1)
        report_progress(f"{name}: {figures[name]}")
    time.sleep(SETTLE_SECONDS)
    figures["rest"] = measure_at_rest(cluster, first, options.rest)
    second = stack.enter_context(contextlib.closing(Controller(cluster.plane, SETTINGS)))
    second.start()
    wait_until(second.is_serving, "the second controller")
    before = resource_versions(cluster)
    killed = time.monotonic()
    first.process.kill()
    wait_until(
        lambda: second.read_metric("connector_controller_leading") == 1 and second.is_serving("/readyz"),
        "the next leader",
    )
    figures["hand_over_s"] = round(time.monotonic() - killed, 1)
    time.sleep(SETTLE_SECONDS)
    figures["statuses_written_by_a_hand_over"] = sum(
        before[key] != value for key, value in resource_versions(cluster).items()
    )
    return figures


def report_progress(text: str) -> None:
    sys.stderr.write(text + "\n")


def create_connectors(cluster: ConnectorCluster, addresses: list[str]) -> None:
    namespaces = [cluster.create_namespace() for _ in range(NAMESPACES)]
    for namespace in namespaces:
        cluster.put_secret(namespace, token="t" * 900, ca_crt=CA.pem)
    with ThreadPoolExecutor(WRITERS) as pool:
        futures = [
            pool.submit(cluster.put_connector, namespaces[number % NAMESPACES], f"c{number}", address=address)
            for number, address in enumerate(addresses)
        ]
        for future in futures:
            future.result()


def list_connectors(cluster: ConnectorCluster) -> Iterable[Any]:
    connectors: Iterable[Any] = cluster.api.call("GET", f"{API_PATH}/connectors")["items"]
    return connectors


def ready_status(item: Any) -> str:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((condition["status"] for condition in conditions if condition["type"] == "Ready"), "")


def count_with_conditions(cluster: ConnectorCluster) -> int:
    return sum(ready_status(item) != "" for item in list_connectors(cluster))


def count_with_known_status(cluster: ConnectorCluster) -> int:
    return sum(ready_status(item) in ("True", "False") for item in list_connectors(cluster))


def resource_versions(cluster: ConnectorCluster) -> dict[tuple[str, str], str]:
    return {
        (item["metadata"]["namespace"], item["metadata"]["name"]): item["metadata"]["resourceVersion"]
        for item in list_connectors(cluster)
    }


def measure_at_rest(cluster: ConnectorCluster, controller: Controller, seconds: float) -> dict[str, Any]:
    """Return the requests per minute by verb and resource, without Leases, and CPU and memory of the controller."""
    start = cluster.plane.audit_log.stat().st_size
    before = read_usage(controller.process.pid).cpu
    time.sleep(seconds)
    cpu = read_usage(controller.process.pid).cpu - before
    request_counts: Counter[str] = Counter()
    with cluster.plane.audit_log.open("rb") as log:
        log.seek(start)
        for line in log:
            event = json.loads(line)
            resource = (event.get("objectRef") or {}).get("resource")
            if event["user"]["username"].endswith(":connectors-controller") and resource != "leases":
                request_counts[f"{event['verb']} {resource}"] += 1
    return {
        "seconds": seconds,
        "requests_per_minute": {name: round(count * 60 / seconds, 1) for name, count in sorted(request_counts.items())},
        "cpu_percent": round(100 * cpu / seconds, 1),
        "resident_mb": controller.process.resident_kb // 1024,
    }


if __name__ == "__main__":
    raise SystemExit(main())
