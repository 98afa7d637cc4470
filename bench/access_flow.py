"""Measure an access request as people see it: from the call of kubectl that is refused to the one that works, in s.

    python -m bench.access_flow [--rounds 20] [--json FILE]

API server, controller, admission policies and proxy are real. In each round, kubectl is refused, and the command of the
refusal runs with --wait. Then another user approves with connectorctl, and kubectl repeats its call from the end of
--wait until it works. A duration includes the start of its program. At the end, the request is deleted.
"""

import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Final

from bench.checkout import THIS_CHECKOUT
from bench.compare import describe_machine
from bench.kubectl_latency import CA_FILE, run_proxy
from bench.output import make_parser, write_json
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.rfc3339 import format_time
from connector_store.domain.grants.admission import ADMISSION_CONFIG_MAP, ENFORCED_SINCE
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry, KubeconfigStyle, build_kubeconfig, to_yaml
from connector_store.domain.objects.address_matching import parse_address
from lab.control_plane import ControlPlane
from lab.controller import API_PATH, ROOT, SYSTEM_NAMESPACE, VERSION, ConnectorCluster, Controller
from lab.kubectl import Kubectl, certificate_user
from lab.manifests import connector, secret
from lab.process import environment_without_proxies
from lab.rbac import wait_for_rbac
from lab.scratch import scratch_folder
from lab.waiting import TIMEOUT, wait_until

KEY: Final = ObjectKey("bench", "target")
GUEST: Final = "guest"
APPROVER: Final = "joe"
TARGET: Final = "target"
AUDIENCE: Final = "connectors-proxy"
LIFETIME: Final = 7200
WARM_UP_ROUNDS: Final = 1
"""Number of rounds that are not counted: the first one also reads the discovery documents."""
STEPS: Final = (
    "kubectl is refused",
    "request names the approval",
    "approve",
    "--wait returns",
    "kubectl works",
)
AFTER: Final = "approval to a call that works"
"""From the end of `connectorctl approve` to the end of the first call that works."""
WHOLE: Final = "all steps"
FIRST_CALLS: Final = "first calls that worked"
GET: Final = ("get", "configmaps", "--namespace", KEY.namespace, "--output", "name")
HINT: Final = re.compile(r"connectorctl (request \S+ --for 1h --reason) TEXT")
NEXT: Final = re.compile(r"connectorctl (approve \S+)")


def main() -> int:
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="number of rounds")
    options = parser.parse_args()
    with scratch_folder() as folder, ControlPlane(folder / "plane") as plane:
        durations, first_calls = measure(plane, folder, options.rounds)
    results = summarize(durations)
    for step, figures in results.items():
        sys.stdout.write(f"{step:32}" + "".join(f"{name} {value:6.2f}   " for name, value in figures.items()) + "\n")
    sys.stdout.write(f"{FIRST_CALLS}: {first_calls} of {options.rounds}\n")
    write_json(
        {"machine": describe_machine(), "rounds": options.rounds, "steps": results, FIRST_CALLS: first_calls},
        options.json,
    )
    return 0


def measure(plane: ControlPlane, folder: Path, rounds: int) -> tuple[dict[str, list[float]], int]:
    """Return the durations of each step in s, and in how many rounds the first call after --wait worked."""
    durations: dict[str, list[float]] = {}
    first_calls = 0
    with run_installation(plane, folder) as people:
        for number in range(WARM_UP_ROUNDS + rounds):
            seconds, calls = people.run_round()
            if number >= WARM_UP_ROUNDS:
                first_calls += calls == 1
                for step, value in seconds.items():
                    durations.setdefault(step, []).append(value)
    return durations, first_calls


def summarize(durations: Mapping[str, Sequence[float]]) -> dict[str, dict[str, float]]:
    return {step: {"median, s": median(seconds), "worst, s": max(seconds)} for step, seconds in durations.items()}


@contextmanager
def run_installation(plane: ControlPlane, folder: Path) -> Iterator["People"]:
    """Run a controller and a proxy of the cluster. The Connector's target is the cluster itself."""
    cluster = ConnectorCluster(plane)
    plane.kubectl("apply", "-k", str(ROOT / "deploy" / "rbac"))
    cluster.install_access_policies()
    controller = Controller(plane, {"PYTHONDEVMODE": ""}).start()
    try:
        create_objects(plane)
        token = plane.issue_token(SYSTEM_NAMESPACE, "connectors-proxy", lifetime=LIFETIME)
        kubeconfig = plane.write_kubeconfig("proxy.kubeconfig", {"token": token})
        # The target is on loopback, which a proxy in a cluster does not dial.
        options = {"connector_source": "kubernetes", "connector_targets_allow": "127.0.0.0/8"}
        with run_proxy(folder, options, {"KUBECONFIG": str(kubeconfig)}) as (_, address):
            wait_until(lambda: is_enforced(plane), "the proof of the admission policies")
            yield People(plane, write_kubeconfig(plane, folder, address))
    finally:
        controller.close()


def is_enforced(plane: ControlPlane) -> bool:
    """Return True if requests that are created now count."""
    path = f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/configmaps/{ADMISSION_CONFIG_MAP}"
    response = plane.api.request("GET", path)
    since = (response.json().get("data") or {}).get(ENFORCED_SINCE) if response.status == 200 else None
    return since is not None and format_time(datetime.now(UTC)) >= since


def create_objects(plane: ControlPlane) -> None:
    """Create a Connector that the account `guest` may use only by access requests, with a policy and rights."""
    namespace = KEY.namespace
    plane.create_namespace(namespace)
    for account in (GUEST, TARGET):
        plane.create_service_account(namespace, account)
    for role, subject in (
        ("cluster-admin", f"--serviceaccount={namespace}:{TARGET}"),
        ("connectors-requester", f"--serviceaccount={namespace}:{GUEST}"),
        ("connectors-approver", f"--user={APPROVER}"),
    ):
        plane.kubectl("create", "rolebinding", role, f"--clusterrole={role}", subject, namespace=namespace)
    wait_for_rbac(plane.api)
    policy = {"apiVersion": VERSION, "kind": "AccessPolicy", "metadata": {"name": "on-call"}}
    token = plane.issue_token(namespace, TARGET, lifetime=LIFETIME)
    plane.api.apply(
        secret(KEY.name, token=token, ca=plane.ca_pem),
        connector(KEY.name, plane.url),
        policy | {"spec": {"approval": {"maxDuration": "1h"}}},
        namespace=namespace,
    )


def write_kubeconfig(plane: ControlPlane, folder: Path, address: str) -> Kubectl:
    """Return kubectl with a kubeconfig as the CSI driver writes it into a pod."""
    token = plane.issue_token(KEY.namespace, GUEST, audiences=[AUDIENCE], lifetime=LIFETIME)
    ca_pem = (folder / "conf" / CA_FILE).read_bytes()
    target = parse_address(plane.url)
    entry = KubeconfigEntry(key=KEY, address=target, proxy=f"http://{address}", ca=ca_pem, token=token)
    path = folder / "guest" / "config"
    path.parent.mkdir()
    path.write_text(to_yaml(build_kubeconfig([entry], KubeconfigStyle())))
    return Kubectl(plane.kubectl.program, path)


class People:
    """A guest with kubectl and connectorctl, and a user who approves with connectorctl."""

    def __init__(self, plane: ControlPlane, kubectl: Kubectl) -> None:
        self._plane = plane
        self._kubectl = kubectl
        token = plane.issue_token(KEY.namespace, GUEST, lifetime=LIFETIME)
        certificate = plane.ca.issue(APPROVER, common_name=APPROVER)
        self._guest = plane.write_kubeconfig("guest.kubeconfig", {"token": token})
        self._approver = plane.write_kubeconfig("approver.kubeconfig", certificate_user(*certificate))

    def run_round(self) -> tuple[dict[str, float], int]:
        """Return the duration of each step, and the number of calls until one worked."""
        # The proxy has seen the end of the last round, and whether the guest may ask.
        hint = wait_until(self._get_hint, "the refusal with a command")
        times = [time.monotonic()]
        self._kubectl.run(*GET)
        times.append(time.monotonic())
        with self._start(f"{hint} bench --wait", self._guest) as request:
            assert request.stderr is not None
            next_step = NEXT.search(request.stderr.readline())
            times.append(time.monotonic())
            assert next_step is not None
            with self._start(next_step[1], self._approver) as approval:
                assert approval.wait(TIMEOUT) == 0
            times.append(time.monotonic())
            assert request.wait(TIMEOUT) == 0
            times.append(time.monotonic())
        calls = 1
        while self._kubectl.run(*GET).returncode != 0:
            calls += 1
            assert time.monotonic() < times[-1] + TIMEOUT, "kubectl does not work"
        times.append(time.monotonic())
        self._plane.api.call("DELETE", f"{API_PATH}/namespaces/{KEY.namespace}/accessrequests")
        seconds = {step: end - begin for step, begin, end in zip(STEPS, times, times[1:], strict=False)}
        return seconds | {AFTER: times[-1] - times[-3], WHOLE: times[-1] - times[0]}, calls

    def _get_hint(self) -> str | None:
        match = HINT.search(self._kubectl.run(*GET).stderr)
        return match[1] if match else None

    @contextmanager
    def _start(self, arguments: str, kubeconfig: Path) -> Iterator["subprocess.Popen[str]"]:
        command = [str(THIS_CHECKOUT.programs / "connectorctl"), *shlex.split(arguments)]
        # The warm-up round writes the bytecode, which an installed program has.
        variables = {"KUBECONFIG": str(kubeconfig), "PYTHONDONTWRITEBYTECODE": ""}
        environment = environment_without_proxies() | variables
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as program:
            try:
                yield program
            finally:
                program.kill()


if __name__ == "__main__":
    sys.exit(main())
