"""Watches and execs that the worker keeps open through the proxies, each with its own kubectl."""

import re
import socket
import time
from dataclasses import dataclass
from datetime import datetime

from tests.journey.product import SYSTEM, Product
from tests.journey.worker import NAMESPACE, OTHER, Worker

PROXIES = "app.kubernetes.io/name=connectors-proxy"
PORT = 8080
WATCHES = 20
EXECS = 2
WAIT_TIMEOUT = 400.0
"""Seconds that a test waits for what must happen, on a busy machine."""

# kubectl reports a truncated raw response and exits with 1; it reports nothing for another kind of watch.
_BEGIN = f"""
rm -rf /tmp/streams; mkdir /tmp/streams; cd /tmp/streams
begin() {{
  name=$1; shift
  ( code=0; "$@" >$name.out 2>$name.err </dev/null || code=$?; echo $code $(date +%s) >$name.end ) >/dev/null 2>&1 &
}}
for n in $(busybox seq {WATCHES}); do
  begin watch-$n kubectl get --raw "/api/v1/namespaces/{NAMESPACE}/configmaps?watch=1"
done
for n in $(busybox seq {EXECS}); do
  begin exec-$n kubectl --namespace {NAMESPACE} exec {OTHER} -- \
    sh -c 'for n in $(busybox seq 3600); do date +%s || exit; sleep 1; done'
done
"""
_SHOW = """
cd /tmp/streams; for end in *.end; do
  [ -e $end ] || continue
  name=${end%.end}; echo $name $(cat $end) $(tail -n 1 $name.out | busybox cut -c 1-40); busybox sed 's/^/  /' $name.err
done
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishedCommand:
    """How a command finished, as its own kubectl reported it. Times are whole Unix seconds."""

    name: str
    code: int
    finished_at: int
    last_line: str
    """Last line of its output, truncated to 40 characters."""
    error: str


class WorkerCommands:
    """WATCHES watches and EXECS execs; an exec prints the time each second."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self._product = worker.product

    def start(self) -> dict[str, int]:
        """Start all, and return the number of live connections by the name of the proxy's pod."""
        self._worker.shell(_BEGIN)

        def all_counted() -> dict[str, int] | None:
            """Return the numbers when they are complete. A proxy may end between the list of pods and its metrics."""
            live_counts = {pod: self._live_connection_counts(pod) for pod in running_proxies(self._product)}
            if [sum(counts) for counts in zip(*live_counts.values(), strict=True)] != [WATCHES, EXECS]:
                return None
            return {pod: sum(counts) for pod, counts in live_counts.items()}

        return self._product.eventually(all_counted)

    def finished(self) -> list[FinishedCommand]:
        commands: list[FinishedCommand] = []
        for line in self._worker.shell(_SHOW).splitlines():
            if line.startswith("  "):
                last = commands.pop()
                commands.append(
                    FinishedCommand(
                        name=last.name,
                        code=last.code,
                        finished_at=last.finished_at,
                        last_line=last.last_line,
                        error=last.error + line,
                    )
                )
            else:
                name, code, at, last_line = f"{line} ".split(" ", 3)
                commands.append(
                    FinishedCommand(
                        name=name, code=int(code), finished_at=int(at), last_line=last_line.strip(), error=""
                    )
                )
        return commands

    def wait_until_finished(self) -> list[FinishedCommand]:
        """Wait for all commands, and return how they finished."""

        def all_finished() -> list[FinishedCommand] | None:
            commands = self.finished()
            return commands if len(commands) == WATCHES + EXECS else None

        return self._product.eventually(all_finished)

    def _live_connection_counts(self, pod: str) -> tuple[int, int]:
        metrics = self._product.kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{pod}:9091/proxy/metrics")
        line = re.compile(rf'connector_streams_active{{connector="{NAMESPACE}/[^"]*",kind="(\w+)"}} (\d+)')
        active = {kind: int(number) for kind, number in line.findall(metrics)}
        return active.get("watch", 0), active.get("exec", 0)


def running_proxies(product: Product) -> dict[str, str]:
    """Return the proxies' pods without a deletion timestamp: name -> IP address."""
    pods = product.kubectl.json("get", "pods", "--selector", PROXIES, namespace=SYSTEM)["items"]
    running = [pod for pod in pods if "deletionTimestamp" not in pod["metadata"]]
    return {pod["metadata"]["name"]: pod["status"].get("podIP", "") for pod in running}


def wait_until_closed(product: Product, address: str) -> None:
    """Returns when the proxy there takes no new connections."""
    deadline = time.monotonic() + WAIT_TIMEOUT
    while accepts_connections(address):
        assert time.monotonic() < deadline, product.state()
        time.sleep(0.5)


def accepts_connections(address: str) -> bool:
    try:
        socket.create_connection((address, PORT), timeout=5).close()
    except OSError:
        return False
    return True


def stopped_at(product: Product, pod: str) -> float:
    """When kubelet sent SIGTERM, a second early at most: unix seconds."""
    chosen = f"involvedObject.name={pod},reason=Killing"
    events = product.eventually(
        lambda: product.kubectl.json("get", "events", "--field-selector", chosen, namespace=SYSTEM)["items"]
    )
    return min(datetime.fromisoformat(event["firstTimestamp"]).timestamp() for event in events)
