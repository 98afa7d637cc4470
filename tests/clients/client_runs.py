"""Client programs with direct access to a real cluster's proxy, each as in a pod: with a volume's files, the names of
the Services, and its own account, whose token is replaced while it runs.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry, KubeconfigStyle, build_kubeconfig, to_yaml
from lab.control_plane import ControlPlane
from lab.process import Process
from lab.waiting import wait_until
from tests.clients.pod_view import (
    ALIAS,
    CLUSTER_CONFIGMAP,
    CLUSTER_SECRET,
    CLUSTER_SECRET_WITH_PLUGIN,
    DIRECT,
    IN_CLUSTER,
    KEY,
    KUBECONFIG_SECRET,
    NAMESPACE,
    VIA_CODE,
    VIA_PROXY_URL,
    WITH_PLUGIN,
    WITH_TOKEN,
    AccessMethod,
    PodView,
    create_connector,
    kopf_programs,
    operator,
    playbook,
    programs,
    variables,
)
from tests.clients.programs import FOURTH, SECOND, documented_argocd_plugin, documented_flux_configmap, has_completed
from tests.cluster.kube.installation import AUDIENCE, secret
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy

DEPLOYERS = "deployers"
"""Namespace of the Secrets in which Argo CD and Flux store clusters."""
SECRET_METHODS = (CLUSTER_SECRET, CLUSTER_SECRET_WITH_PLUGIN, KUBECONFIG_SECRET)
MAX_CONCURRENT_STARTS = 4
"""Programs that start at the same time: interpreters and virtual machines need long to start."""

ACCESS_METHODS: Mapping[str, tuple[AccessMethod, ...]] = {
    "client-go": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "controller-runtime": (IN_CLUSTER,),
    "argocd": (CLUSTER_SECRET, CLUSTER_SECRET_WITH_PLUGIN),
    "flux": (KUBECONFIG_SECRET,),
    "flux-configmap": (CLUSTER_CONFIGMAP,),
    "kube-rs": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "fabric8": (IN_CLUSTER, WITH_PLUGIN, WITH_TOKEN, VIA_PROXY_URL),
    "official Java": (IN_CLUSTER, DIRECT, VIA_CODE),
    "client-node": (IN_CLUSTER, WITH_PLUGIN, WITH_TOKEN, VIA_PROXY_URL),
    "kubernetes": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "kubernetes-aio": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "kubernetes-asyncio": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "kr8s": (IN_CLUSTER, WITH_PLUGIN, WITH_TOKEN, VIA_PROXY_URL),
    "lightkube": (IN_CLUSTER, DIRECT, VIA_PROXY_URL),
    "ansible": (IN_CLUSTER, DIRECT),
}
CLIENT_METHODS = [(client, way) for client, ways in ACCESS_METHODS.items() for way in ways]


def commands() -> dict[str, list[str]]:
    """Client -> its program, built now where it is not yet, up to NAMESPACE, NAME and LAST."""
    by_client = programs()
    return {
        **{client: [*program, "use"] for client, program in by_client.items()},
        **{client: [*program, "use"] for client, program in kopf_programs().items()},
        "controller-runtime": operator(),
        **{each: [*by_client["client-go"], each] for each in ("argocd", "flux", "flux-configmap")},
        "ansible": playbook("playbook.yml"),
    }


@dataclass(kw_only=True)
class ClientRun:
    """One client with one access method; its account and its ConfigMap have its name."""

    client: str
    method: AccessMethod
    process: Process
    volume: Path
    tokens: list[str] = field(default_factory=list, repr=False)

    @property
    def name(self) -> str:
        return run_name(self.client, self.method)

    def output(self) -> str:
        return self.process.log.read_text(errors="replace")

    def has_begun(self) -> bool:
        """Return True if it got, listed, wrote and watched."""
        output = self.output()
        if self.client == "ansible":
            return all(text in output for text in ('"got sown"', '"listed seed"', '"wrote first"', '"wrote second"'))
        return has_completed(output)

    def attempt_count(self) -> int:
        """Return how often Ansible found no third state. It reads its token for each attempt, and ends at a 401."""
        return self.output().count("FAILED - RETRYING")


def run_name(client: str, method: AccessMethod) -> str:
    return f"{client}-{method.name}".replace(" ", "-").lower()


class ClientRuns:
    """All runs of clients; `runs` has the started ones by name."""

    def __init__(
        self, plane: ControlPlane, proxy: RunningProxy, folder: Path, programs: Mapping[str, list[str]]
    ) -> None:
        """`proxy` is there and serves the cluster; its roles and definitions are installed."""
        self.plane = plane
        self.proxy = proxy
        self.runs: dict[str, ClientRun] = {}
        self._folder = folder
        self._programs = programs
        self.view = PodView(plane, proxy, folder)
        for namespace in (NAMESPACE, DEPLOYERS):
            plane.create_namespace(namespace)
        create_connector(plane)
        all_of_it = ("--clusterrole=cluster-admin", f"--serviceaccount={DEPLOYERS}:default")
        for namespace in (NAMESPACE, DEPLOYERS):
            plane.kubectl("create", "rolebinding", "deployers", *all_of_it, namespace=namespace)

    def start_all(self) -> None:
        """Start all, a few at a time; return when each has begun or ended."""
        for client, way in CLIENT_METHODS:
            self.start(client, way)
            wait_until(
                lambda: len(self._starting()) < MAX_CONCURRENT_STARTS,
                "clients to begin",
                timeout=WAIT_TIMEOUT * MAX_CONCURRENT_STARTS,
            )
        wait_until(
            lambda: not self._starting(), "all clients to have begun", timeout=WAIT_TIMEOUT * MAX_CONCURRENT_STARTS
        )

    def _starting(self) -> list[str]:
        return [name for name, run in self.runs.items() if run.process.is_running and not run.has_begun()]

    def start(self, client: str, method: AccessMethod) -> None:
        name = run_name(client, method)
        home = self._folder / name
        volume = home / "volume"
        volume.mkdir(parents=True)
        self.plane.create_service_account(NAMESPACE, name)
        token = self._issue_token(name, method, volume, count=0)
        self.view.wait_until_accepted(token)
        process = Process(
            self._command(client, method, name, volume),
            log=home / "log",
            environment=self._environment(client, method, home),
        )
        self.runs[name] = ClientRun(client=client, method=method, process=process, volume=volume, tokens=[token])
        process.start()

    def _command(self, client: str, method: AccessMethod, name: str, volume: Path) -> list[str]:
        last = FOURTH if method.can_renew else SECOND
        arguments = [NAMESPACE, name, last]
        if method in (*SECRET_METHODS, CLUSTER_CONFIGMAP):
            arguments = [name, *arguments]
        if client == "ansible":
            arguments = variables(method, volume, space=NAMESPACE, name=name, last=last)
        program = self._programs.get(f"{client} by {method.name}", self._programs[client])
        return self.view.command(method, volume, [*program, *arguments])

    def _environment(self, client: str, method: AccessMethod, home: Path) -> dict[str, str]:
        environment = self.view.environment(client, method, home)
        if method in (*SECRET_METHODS, CLUSTER_CONFIGMAP):
            user = {"token": self.plane.issue_token(DEPLOYERS, "default")}
            # Flux requests a token of an account in the namespace of the ConfigMap.
            namespace = NAMESPACE if method is CLUSTER_CONFIGMAP else DEPLOYERS
            own = self.plane.write_kubeconfig(f"{home.name}.kubeconfig", user, namespace=namespace)
            environment |= {"KUBECONFIG": str(own)}
        return environment

    def renew_tokens(self) -> None:
        """Give each client another token, and invalidate the first one."""
        runs = [run for run in self.runs.values() if run.method.can_renew]
        for run in runs:
            run.tokens.append(self._issue_token(run.name, run.method, run.volume, count=1))
        self._wait_for_attempts([run for run in runs if run.client == "ansible"])
        for run in runs:
            self.plane.kubectl("delete", "secret", f"{run.name}-0", namespace=NAMESPACE)
        firsts, seconds = ([run.tokens[index] for run in runs] for index in (0, 1))
        wait_until(lambda: {401} == set(map(self.view.status, firsts)), "the end of the first tokens")
        wait_until(lambda: {200} == set(map(self.view.status, seconds)), "the second tokens to be checked")

    def _wait_for_attempts(self, runs: Sequence[ClientRun]) -> None:
        """Wait until the attempts that may have begun with an earlier token have ended."""
        counts = [run.attempt_count() for run in runs]
        wait_until(
            lambda: all(
                run.attempt_count() > count or not run.process.is_running
                for run, count in zip(runs, counts, strict=True)
            ),
            "the next attempts of Ansible",
            timeout=WAIT_TIMEOUT * MAX_CONCURRENT_STARTS,
        )

    def _issue_token(self, name: str, method: AccessMethod, volume: Path, *, count: int) -> str:
        """Issue a token as kubelet gets it, bound to an object: here a Secret, so that the next one stays valid.

        `count` is the number of tokens that the client had before.
        """
        owner = {"metadata": {"name": f"{name}-{count}"}}
        owner_secret = self.plane.api.call("POST", f"/api/v1/namespaces/{NAMESPACE}/secrets", owner)
        bound = {
            "apiVersion": "v1",
            "kind": "Secret",
            "name": owner_secret["metadata"]["name"],
            "uid": owner_secret["metadata"]["uid"],
        }
        token_request = {"spec": {"audiences": [AUDIENCE], "boundObjectRef": bound}}
        path = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{name}/token"
        token = str(self.plane.api.call("POST", path, token_request)["status"]["token"])
        self.view.write_volume(volume, token)
        entry = self.view.entry(token)
        if method is CLUSTER_SECRET:
            self.plane.api.apply(self._cluster_secret(name, entry), namespace=DEPLOYERS)
        elif method is CLUSTER_SECRET_WITH_PLUGIN and count == 0:
            self.plane.api.apply(
                self._cluster_secret(name, entry, token_file=volume / "context.token"), namespace=DEPLOYERS
            )
        elif method is CLUSTER_CONFIGMAP:
            self.plane.api.apply(self._cluster_configmap(name, entry), namespace=NAMESPACE)
        elif method is KUBECONFIG_SECRET:
            direct = to_yaml(build_kubeconfig([entry], KubeconfigStyle(direct=True)))
            self.plane.api.apply(secret(name, kind="Opaque", value=direct), namespace=DEPLOYERS)
        return token

    def _cluster_secret(
        self, name: str, entry: KubeconfigEntry, *, token_file: Path | None = None
    ) -> dict[str, object]:
        """https://argo-cd.readthedocs.io/en/stable/operator-manual/declarative-setup/#clusters"""
        plugin = documented_argocd_plugin(token_file) if token_file else None
        config = {
            **({"execProviderConfig": plugin} if plugin else {"bearerToken": entry.token}),
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

    def _cluster_configmap(self, name: str, entry: KubeconfigEntry) -> dict[str, object]:
        """https://fluxcd.io/flux/components/kustomize/kustomizations/#kubeconfig-remote-clusters"""
        document = documented_flux_configmap()
        document["metadata"] = {"name": name}
        document["data"] |= {
            "address": f"https://{ALIAS}:{self.proxy.port}",
            "ca.crt": entry.ca.decode(),
            "serviceAccountName": name,
        }
        return document

    def write_third(self) -> None:
        """Write the third state as another user of the target."""
        for run in self.runs.values():
            patch = {"data": {"state": "third"}}
            path = f"/api/v1/namespaces/{NAMESPACE}/configmaps/{run.name}"
            response = self.plane.api.request("PATCH", path, patch)
            # A client that failed has no ConfigMap; its own test reports that.
            assert response.status in (200, 404), response

    def state_of(self, run: ClientRun) -> str:
        return self.plane.kubectl("get", "configmap", run.name, "-o", "jsonpath={.data.state}", namespace=NAMESPACE)

    def audited_verbs(self, run: ClientRun) -> set[str]:
        """Return the verbs of its account's successful requests, from the audit log."""
        user = f"system:serviceaccount:{NAMESPACE}:{run.name}"
        return {
            each["verb"]
            for each in self.proxy.audit()
            if each["event"] == "request" and (each["caller"] or {}).get("user") == user and each["status"] < 300
        }

    def close(self) -> None:
        for run in self.runs.values():
            run.process.kill()
