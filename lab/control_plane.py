"""A real Kubernetes control plane on loopback, etcd and kube-apiserver, with RBAC, ServiceAccount tokens and audit log.

There is no controller-manager: deleted namespaces stay, a new namespace has no ServiceAccount `default`, and garbage is
not collected. `with ControlPlane(folder) as plane: plane.kubectl("get", "namespaces")`
"""

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from lab.admin_api import AdminApi
from lab.etcd import Etcd
from lab.kubectl import Kubectl, certificate_user, write_kubeconfig
from lab.pki import CertificateAuthority, create_service_account_key
from lab.ports import Port
from lab.process import Process, Startable
from lab.programs import control_plane_programs
from lab.tokens import TokenIssuer

ISSUER = "https://kubernetes.default.svc.cluster.local"
SERVICE_CIDR = "10.96.0.0/16"
SERVICE_ADDRESS = "10.96.0.1"
"""Address of the Service `kubernetes`."""
READY_TIMEOUT = 300.0
"""Seconds until /readyz succeeds; about 3 on an idle machine."""
READY_PATHS = ("/readyz", "/api/v1/namespaces/default", "/api/v1/namespaces/kube-public")
"""Paths of a ready API server. It may create its namespaces after /readyz succeeds."""
AUDIT_POLICY = Path(__file__).with_name("audit-policy.yaml")


class ControlPlane(Startable):
    """A control plane that can be started, stopped and disturbed. All its files are in `folder`."""

    def __init__(
        self,
        folder: Path,
        *,
        programs: Path | None = None,
        address: str = "127.0.0.1",
        arguments: Sequence[str] = (),
        issuer: str = ISSUER,
    ) -> None:
        """Prepare a control plane. `issuer` issues the tokens of its ServiceAccounts.

        `arguments` are added to the command line of kube-apiserver, where they override ours. On a node, `address` must
        be the node's address if pods use this API server.
        """
        self.folder = folder
        self.programs = programs or control_plane_programs()
        folder.mkdir(parents=True, exist_ok=True)
        self.ca = CertificateAuthority(folder)
        self._port = Port()
        self._address = address
        self._issuer = issuer
        self.url = f"https://{address}:{self._port.number}"
        self.ca_pem = self.ca.pem
        self.service_account_key, self._service_account_public_key = create_service_account_key(folder)
        certificate = self.ca.issue("admin", common_name="admin", groups=["system:masters"])
        self.kubeconfig = self.write_kubeconfig("admin.kubeconfig", certificate_user(*certificate))
        self.kubectl = Kubectl(self.programs / "kubectl", self.kubeconfig)
        self.api = AdminApi(self.url, self.ca.certificate, *certificate)
        self.token_issuer = TokenIssuer(self.api, self.service_account_key.read_text(), issuer)
        self.audit_log = folder / "audit.log"
        self._serving_certificate = self._issue_serving_certificate(self.ca)
        self.etcd = Etcd(folder, self.programs / "etcd")
        self.apiserver = Process(self._apiserver_command(arguments), log=folder / "kube-apiserver.log")

    def start(self) -> None:
        """Start etcd and the API server, and wait until /readyz succeeds."""
        self.etcd.start()
        self.start_apiserver()

    def start_apiserver(self) -> None:
        self.apiserver.start()
        self.apiserver.wait_until(self.is_ready, timeout=READY_TIMEOUT)

    def is_ready(self) -> bool:
        try:
            return all(self.api.request("GET", path, timeout=5).status == 200 for path in READY_PATHS)
        except OSError:
            return False

    def stop(self) -> None:
        self.apiserver.kill()
        self.etcd.stop()

    def close(self) -> None:
        """Stop all programs and release ports and data. Logs, keys and kubeconfig stay in the folder."""
        self.stop()
        self.api.close()
        self._port.release()
        self.etcd.close()
        shutil.rmtree(self.folder / "kubectl-cache", ignore_errors=True)

    def kill(self) -> None:
        """Send SIGKILL to the API server: connections are reset, new ones are refused."""
        self.apiserver.kill()

    def pause(self) -> None:
        """Send SIGSTOP to the API server: connections stay open, new ones are accepted, and no request is answered."""
        self.apiserver.pause()

    def resume(self) -> None:
        self.apiserver.signal(signal.SIGCONT)

    def restart_apiserver(self, *, graceful: bool = False) -> None:
        """Restart the API server on the same port, with the same data and an empty watch cache."""
        if graceful:
            self.apiserver.stop()
        else:
            self.apiserver.kill()
        self.start_apiserver()

    def replace_serving_ca(self) -> str:
        """Serve with a certificate by a new CA after a restart, and return the CA's PEM.

        Certificates of clients by the previous CA stay valid. `kubectl` and kubeconfigs still trust the previous CA.
        """
        folder = self.folder / "new-ca"
        folder.mkdir()
        ca = CertificateAuthority(folder, "new-ca")
        for new, current in zip(self._issue_serving_certificate(ca), self._serving_certificate, strict=True):
            new.replace(current)
        self.api.trust(ca.certificate)
        self.restart_apiserver(graceful=True)
        return ca.pem

    def _issue_serving_certificate(self, ca: CertificateAuthority) -> tuple[Path, Path]:
        return ca.issue(
            "apiserver",
            common_name="kube-apiserver",
            hosts=[self._address, "localhost", SERVICE_ADDRESS, "kubernetes.default.svc", "kubernetes.default"],
        )

    def recover(self) -> None:
        """Resume or start the programs after a test, and wait until they are ready.

        A program that still runs keeps its connections and caches.
        """
        self.resume()
        self.etcd.recover()
        if not self.apiserver.is_running:
            self.apiserver.start()
        self.apiserver.wait_until(self.is_ready, timeout=READY_TIMEOUT)

    def write_kubeconfig(self, file: str, user: dict[str, str], *, namespace: str = "default") -> Path:
        """Write a kubeconfig for this API server to the folder. `user` is {"token": …} or certificate_user(…)."""
        path = self.folder / file
        return write_kubeconfig(path, server=self.url, ca_pem=self.ca_pem, user=user, namespace=namespace)

    def create_namespace(self, name: str) -> str:
        """Create a namespace with the ServiceAccount `default`, which a controller would create."""
        self.api.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        self.create_service_account(name, "default")
        return name

    def create_service_account(self, namespace: str, name: str) -> None:
        self.api.call("POST", f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": name}})

    def issue_token(
        self, namespace: str, name: str, *, audiences: Sequence[str] = (ISSUER,), lifetime: float = 3600
    ) -> str:
        """Return a token of an existing ServiceAccount, with any lifetime in seconds (TokenRequest: at least 600)."""
        return self.token_issuer.issue(namespace, name, audiences=audiences, lifetime=lifetime)

    def _apiserver_command(self, arguments: Sequence[str]) -> list[str]:
        certificate, key = self._serving_certificate
        return [
            str(self.programs / "kube-apiserver"),
            f"--bind-address={self._address}",
            f"--advertise-address={self._address}",
            f"--secure-port={self._port.number}",
            f"--etcd-servers={self.etcd.endpoint}",
            f"--tls-cert-file={certificate}",
            f"--tls-private-key-file={key}",
            f"--client-ca-file={self.ca.certificate}",
            f"--service-account-issuer={self._issuer}",
            f"--service-account-key-file={self._service_account_public_key}",
            f"--service-account-signing-key-file={self.service_account_key}",
            "--service-account-extend-token-expiration=false",
            f"--service-cluster-ip-range={SERVICE_CIDR}",
            "--endpoint-reconciler-type=none",
            "--authorization-mode=Node,RBAC",
            "--allow-privileged=true",
            f"--audit-policy-file={AUDIT_POLICY}",
            f"--audit-log-path={self.audit_log}",
            "--shutdown-delay-duration=0s",
            *arguments,
        ]
