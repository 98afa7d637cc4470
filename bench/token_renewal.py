"""Run a pipeline and a watch during three renewals of an issued token, beside a real API server; takes half an hour.

    python -m bench.token_renewal [--renewals 3] [--seconds 600] [--json FILE]

The Connector may only request tokens of 600 s, the shortest lifetime that an API server grants. A pipeline applies and
reads a ConfigMap with kubectl every few seconds, and `kubectl get --watch` watches it. The API server's audit log has
the token of each request and the time of each TokenRequest. The exit code is 1 if a command failed, if the watch ended
or missed a change, or if a renewal needed more than one request.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from connector_store.domain.base import rfc3339
from lab.control_plane import ControlPlane
from lab.kubectl import Kubectl
from lab.manifests import connector, secret, service_account_token_auth, write_manifests
from lab.ports import Port
from lab.process import Process
from lab.scratch import scratch_folder

NAMESPACE: Final = "ci"
ACCOUNT: Final = "deployer"
ISSUER_ACCOUNT: Final = "deployer-minter"
CONNECTOR: Final = "team-a/k8s"
STEP_INTERVAL: Final = 5.0
"""Seconds between two steps of the pipeline."""
FINAL_STEPS: Final = 12
"""Number of steps with the last token."""
EXTRA_SECONDS: Final = 300.0
"""Seconds that the run may take in addition to the lifetimes of the tokens."""
ID: Final = "authentication.kubernetes.io/credential-id"
CONNECTORCTL: Final = Path(sys.executable).with_name("connectorctl")


@dataclass(kw_only=True)
class PipelineRun:
    steps: int = 0
    errors: list[str] = field(default_factory=list)
    missed_steps: list[int] = field(default_factory=list)
    """Steps that the watch did not report."""
    issued_at: list[float] = field(default_factory=list)
    """Seconds between the first token and each token that the API server has issued."""
    requests_by_token: dict[str, int] = field(default_factory=dict)
    """Number of requests with each token, by the ID of the token."""

    def problems(self, renewals: int) -> Iterator[str]:
        yield from self.errors
        if self.missed_steps:
            yield f"the watch did not see steps {self.missed_steps}"
        if len(self.requests_by_token) <= renewals:
            yield f"{len(self.requests_by_token)} tokens were used, not {renewals + 1}"
        if len(self.issued_at) != len(self.requests_by_token):
            yield f"{len(self.issued_at)} requests for {len(self.requests_by_token)} tokens"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--renewals", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=600, help="that a token lives; 600 or more")
    parser.add_argument("--json", type=Path, help="write the figures there")
    options = parser.parse_args()
    with scratch_folder() as folder, ControlPlane(folder / "plane") as plane:
        run = measure(plane, folder, options.renewals, options.seconds)
    faults = list(run.problems(options.renewals))
    figures = {
        "token_seconds": options.seconds,
        "steps": run.steps,
        "minted_at_s": run.issued_at,
        "requests_by_token": list(run.requests_by_token.values()),
        "faults": faults,
    }
    text = json.dumps(figures, indent=2)
    print(text)  # noqa: T201 - the figures are the output
    if options.json:
        options.json.write_text(text + "\n")
    return 1 if faults else 0


def measure(plane: ControlPlane, folder: Path, renewals: int, seconds: int) -> PipelineRun:
    prepare(plane, folder / "connectors", seconds)
    port = Port()
    address = f"127.0.0.1:{port.number}"
    command: list[str | Path] = [
        CONNECTORCTL,
        "proxy",
        folder / "connectors",
        "--confdir",
        folder / "conf",
        "--listen",
        address,
    ]
    proxy = Process(command, log=folder / "proxy.log")
    proxy.start()
    try:
        proxy.wait_until(lambda: (folder / "conf" / "mitmproxy-ca-cert.pem").exists(), timeout=60)
        path = folder / "workload.kubeconfig"
        arguments: list[str | Path] = [
            "--source",
            folder / "connectors",
            "--confdir",
            folder / "conf",
            "--proxy",
            f"http://{address}",
        ]
        subprocess.run(
            [CONNECTORCTL, "kubeconfig", CONNECTOR, *arguments, "--ttl", "24h", "--output", path], check=True
        )
        kubectl = Kubectl(plane.kubectl.program, path)
        proxy.wait_until(lambda: kubectl.run("get", "configmaps", "-n", NAMESPACE).returncode == 0, timeout=60)
        return run_pipeline(plane, kubectl, folder / "watch.log", renewals, seconds)
    finally:
        proxy.stop()
        port.release()


def prepare(plane: ControlPlane, connectors: Path, seconds: int) -> None:
    """Create a Connector, an account that may do everything in its namespace, and another that may only request its
    tokens.
    """
    plane.create_namespace(NAMESPACE)
    for name in (ACCOUNT, ISSUER_ACCOUNT):
        plane.create_service_account(NAMESPACE, name)
    create = ("create", "rolebinding")
    plane.kubectl(*create, ACCOUNT, "--clusterrole=cluster-admin", f"--serviceaccount={NAMESPACE}:{ACCOUNT}",
                  namespace=NAMESPACE)  # fmt: skip
    plane.kubectl("create", "role", ISSUER_ACCOUNT, "--verb=create", "--resource=serviceaccounts/token",
                  f"--resource-name={ACCOUNT}", namespace=NAMESPACE)  # fmt: skip
    plane.kubectl(
        *create,
        ISSUER_ACCOUNT,
        f"--role={ISSUER_ACCOUNT}",
        f"--serviceaccount={NAMESPACE}:{ISSUER_ACCOUNT}",
        namespace=NAMESPACE,
    )
    token = plane.issue_token(NAMESPACE, ISSUER_ACCOUNT, lifetime=7 * 24 * 3600)
    namespace, _, name = CONNECTOR.partition("/")
    auth = service_account_token_auth(f"{NAMESPACE}/{ACCOUNT}", secret=name, seconds=seconds)
    write_manifests(
        connectors,
        connector(name, plane.url, namespace=namespace, auth=auth),
        secret(name, namespace=namespace, token=token, ca=plane.ca_pem),
    )


def run_pipeline(plane: ControlPlane, kubectl: Kubectl, watch_log: Path, renewals: int, seconds: int) -> PipelineRun:
    run = PipelineRun()
    run_step(kubectl, run)
    command = kubectl.command("get", "configmap", "pipeline", "--watch", "-o", 'jsonpath={.data.step}{"\\n"}',
                              namespace=NAMESPACE)  # fmt: skip
    with (
        watch_log.open("w") as out,
        subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=kubectl.environment) as watch,
    ):
        try:
            follow(plane, kubectl, run, watch, renewals, time.monotonic() + seconds * (renewals + 1) + EXTRA_SECONDS)
            time.sleep(STEP_INTERVAL)
        finally:
            watch.terminate()
    lines = watch_log.read_text().split()
    run.missed_steps = [number for number in range(1, run.steps + 1) if str(number) not in lines]
    run.issued_at, run.requests_by_token = read_audit_log(plane.audit_log)
    return run


def follow(
    plane: ControlPlane,
    kubectl: Kubectl,
    run: PipelineRun,
    watch: subprocess.Popen[bytes],
    renewals: int,
    deadline: float,
) -> None:
    """Run steps until the last token was used for FINAL_STEPS of them."""
    left = FINAL_STEPS
    while left and time.monotonic() < deadline:
        time.sleep(STEP_INTERVAL)
        run_step(kubectl, run)
        if watch.poll() is not None:
            run.errors.append(f"the watch ended at step {run.steps}")
            return
        left -= len(read_audit_log(plane.audit_log)[1]) > renewals


def run_step(kubectl: Kubectl, run: PipelineRun) -> None:
    run.steps += 1
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "pipeline"},
        "data": {"step": str(run.steps)},
    }
    apply = ("apply", "--server-side", "-f", "-")
    for arguments, stdin in ((apply, json.dumps(manifest)), (("get", "configmap", "pipeline", "-o", "name"), None)):
        result = kubectl.run(*arguments, namespace=NAMESPACE, stdin=stdin)
        if result.returncode or result.stderr:
            run.errors.append(f"step {run.steps}: {result.stderr.strip()}")


def read_audit_log(log: Path) -> tuple[list[float], dict[str, int]]:
    """Return the times at which tokens were issued, and the number of requests with each token."""
    issued_at, requests_by_token = [], dict[str, int]()
    for line in log.read_text().splitlines():
        if f":{NAMESPACE}:{ACCOUNT}" not in line or not line.endswith("}"):
            continue
        event: dict[str, Any] = json.loads(line)
        user = event["user"]
        if user["username"].endswith(f":{ISSUER_ACCOUNT}"):
            issued_at.append(rfc3339.parse_time(event["stageTimestamp"]) or 0.0)
        elif user["username"].endswith(f":{ACCOUNT}"):
            (token,) = user["extra"][ID]
            requests_by_token[token] = requests_by_token.get(token, 0) + 1
    return [round(seconds - issued_at[0], 1) for seconds in issued_at], requests_by_token


if __name__ == "__main__":
    raise SystemExit(main())
