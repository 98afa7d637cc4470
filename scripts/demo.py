"""Show how kubectl uses a Connector, as commands that you can type: cluster, token, Connector, proxy, kubectl."""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType

from terminal import StepFailedError, Terminal

from lab.control_plane import ControlPlane
from lab.go_modules import ProgramsMissingError
from lab.ports import Port
from lab.process import Process, ProcessFailedError
from lab.programs import KUBERNETES, control_plane_programs, ensure_programs
from lab.scratch import scratch_folder

NAMESPACE = "connector-demo"
START_TIMEOUT = 180.0
WATCH_TIMEOUT = 120.0

CONNECTOR = """\
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: target, namespace: demo}
spec:
  connectorClassName: k8s
  address: $SERVER
  auth: {name: bearerTokenAuth, secretRef: {name: target-token}}
"""


def prepare_target(terminal: Terminal, server: str) -> str:
    """Create a ServiceAccount in the target cluster, write its token to a folder of manifests, and return the token."""
    for resource in (
        "serviceaccount pipeline",
        "role pipeline --verb=get,list,watch,create,patch,delete --resource=configmaps",
        f"rolebinding pipeline --role=pipeline --serviceaccount={NAMESPACE}:pipeline",
    ):
        terminal.run(f"kubectl -n {NAMESPACE} create {resource}")
    terminal.run(f"(umask 077; kubectl -n {NAMESPACE} create token pipeline --duration=48h > token)")
    ca = "{.clusters[0].cluster.certificate-authority-data}"
    terminal.run(f"kubectl config view --raw --minify --flatten -o jsonpath='{ca}' | base64 -d > ca.crt")
    terminal.print_heading(
        "2. On the proxy's side: a Secret with that token, and a Connector that names the cluster's address"
    )
    with_ca = " --from-file=ca.crt" if (terminal.folder / "ca.crt").stat().st_size else ""
    terminal.run(
        "(umask 077; kubectl -n demo create secret generic target-token --type=connectors.cpaas.io/bearer-token \\\n"
        "  --from-file=token" + with_ca + " --dry-run=client -o yaml > connectors/secret.yaml)"
    )
    connector = CONNECTOR.replace("$SERVER", server)
    terminal.run(f"cat > connectors/connector.yaml <<END\n{connector}END")
    return (terminal.folder / "token").read_text().strip()


def kubectl_folder() -> Path:
    """Return the folder of kubectl, the only program that the user's own cluster needs. Build it if necessary."""
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    if assets and os.access(Path(assets) / "kubectl", os.X_OK):
        return Path(assets)
    return ensure_programs(KUBERNETES, ("kubectl",))


@contextmanager
def run_proxy(terminal: Terminal) -> Iterator[str]:
    """Run the proxy, and yield its URL."""
    terminal.print_heading("3. The proxy")
    port, admin = Port(), Port()
    command = (
        f"connectorctl proxy connectors --listen 127.0.0.1:{port.number} --confdir mitmproxy "
        f"-- --set connector_admin=127.0.0.1:{admin.number}"
    )
    terminal.print_command(command + " &")
    process = Process(
        ["env", "-C", terminal.folder, str(Path(sys.executable).with_name("connectorctl")), *shlex.split(command)[1:]],
        log=terminal.folder / "proxy.log",
        environment=terminal.environment,
    )
    process.start()
    try:
        process.wait_until(lambda: _is_ready(f"http://127.0.0.1:{admin.number}/readyz"), timeout=START_TIMEOUT)
        yield f"http://127.0.0.1:{port.number}"
    finally:
        process.stop()


def _is_ready(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def use_kubeconfig(terminal: Terminal, token: str, url: str) -> None:
    """Run the commands of the author of a pipeline, who has only the kubeconfig."""
    terminal.print_heading("4. For the pipeline: a kubeconfig that leads through the proxy, good for half an hour")
    terminal.run(
        f"connectorctl kubeconfig demo/target --ttl 30m --source connectors --confdir mitmproxy --proxy {url} "
        "-o pipeline.kubeconfig"
    )
    terminal.print_heading("5. Stock kubectl with it")
    kubectl = f"kubectl --kubeconfig pipeline.kubeconfig -n {NAMESPACE}"
    terminal.run(f"{kubectl} version")
    terminal.run(f"{kubectl} auth whoami")
    terminal.run(f"{kubectl} get configmaps")
    watch_change(terminal, kubectl)
    terminal.print_heading(
        "6. The kubeconfig holds no credential of the cluster: this searches it for the token, and finds none"
    )
    terminal.run("grep -F -f token pipeline.kubeconfig", expect_failure=True)
    if token in (terminal.folder / "pipeline.kubeconfig").read_text():
        raise StepFailedError("pipeline.kubeconfig holds the cluster's token")
    terminal.run("grep -A3 users: pipeline.kubeconfig")
    terminal.print_heading("7. Somebody without a valid token of their own is refused")
    terminal.run("sed 's/\\(demo%2Ftarget\\):[^@]*@/\\1:wrong@/' pipeline.kubeconfig > wrong.kubeconfig")
    output = terminal.run(f"kubectl --kubeconfig wrong.kubeconfig -n {NAMESPACE} get configmaps", expect_failure=True)
    if "Proxy Authentication Required" not in output:
        raise StepFailedError("kubectl did not say why it was refused")


def watch_change(terminal: Terminal, kubectl: str) -> None:
    command = f"{kubectl} get configmaps --watch --output name"
    terminal.print_command(command + " &")
    watch = subprocess.Popen(
        ["sh", "-c", "exec " + command],
        cwd=terminal.folder,
        env=terminal.environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        signal.signal(signal.SIGALRM, _on_timeout)
        signal.setitimer(signal.ITIMER_REAL, WATCH_TIMEOUT)
        create_command = "kubectl create configmap seen --from-literal=by=watch --dry-run=client -o yaml"
        terminal.run(f"{create_command} | {kubectl} apply -f -")
        for line in watch.stdout or ():
            if line.strip() == "configmap/seen":
                sys.stdout.write(f"    the watch saw: {line}")
                return
        raise StepFailedError(f"the watch ended without having seen the change: {command}")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        watch.kill()
        watch.wait()


def _on_timeout(number: int, frame: FrameType | None) -> None:
    raise StepFailedError(f"the watch did not see the change within {WATCH_TIMEOUT:.0f} s")


def wait_for_interrupt(terminal: Terminal) -> None:
    terminal.print_heading("It stays up until Ctrl-C. In a second terminal:")
    path = shlex.quote(terminal.environment["PATH"].split(os.pathsep)[0])
    sys.stdout.write(f"  cd {terminal.folder}; export PATH={path}:$PATH KUBECONFIG=$PWD/pipeline.kubeconfig\n")
    sys.stdout.write(f"  kubectl -n {NAMESPACE} get configmaps --watch\n")
    sys.stdout.flush()
    while True:
        time.sleep(1)  # signal.pause() would miss an interrupt that comes just before it


def run_demo(options: argparse.Namespace, folder: Path) -> None:
    user_kubeconfig = Path(options.kubeconfig).resolve() if options.kubeconfig else None
    if user_kubeconfig and not user_kubeconfig.is_file():
        raise StepFailedError(f"kubeconfig {user_kubeconfig} does not exist; name another with --kubeconfig")
    programs = kubectl_folder() if user_kubeconfig else control_plane_programs()
    with nullcontext() if user_kubeconfig else ControlPlane(folder / "cluster", programs=programs) as plane:
        kubeconfig = user_kubeconfig or (plane.kubeconfig if plane else None)
        paths = [str(programs), str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        terminal = Terminal(folder, os.environ | {"PATH": os.pathsep.join(paths), "KUBECONFIG": str(kubeconfig)})
        (folder / "connectors").mkdir(mode=0o700)
        terminal.print_heading(f"Everything happens in {folder}, which is removed at the end.")
        terminal.print_command(f"cd {folder}; export KUBECONFIG={kubeconfig}")
        server = terminal.run("kubectl config view --minify -o jsonpath='{.clusters[0].cluster.server}'")
        terminal.print_heading(
            "1. In the target cluster: an account that may work with ConfigMaps of one namespace, and its token"
        )
        terminal.run(f"kubectl create namespace {NAMESPACE}")
        try:
            token = prepare_target(terminal, server)
            with run_proxy(terminal) as url:
                use_kubeconfig(terminal, token, url)
                if not options.once:
                    wait_for_interrupt(terminal)
        finally:
            if user_kubeconfig:
                terminal.run(f"kubectl delete namespace {NAMESPACE} --ignore-not-found --wait=false")


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=__doc__)
    parser.add_argument("--once", action="store_true", help="end after the last step")
    parser.add_argument(
        "--kubeconfig", metavar="FILE", help="admin kubeconfig of your own cluster, which is the target"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with scratch_folder() as folder:
            run_demo(options, folder)
    except (StepFailedError, ProgramsMissingError, ProcessFailedError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 0 if not options.once else 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
