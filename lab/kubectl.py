"""Stock kubectl as a function for tests, and the kubeconfig files that it reads."""

import base64
import json
import subprocess
import time
from pathlib import Path
from typing import Any

from lab.process import environment_without_proxies
from lab.waiting import sleep_before_retry

TIMEOUT = 180.0
"""Seconds that one kubectl command may take on a busy machine."""


class Kubectl:
    """Runs kubectl: `kubectl("get", "pods", namespace="a")` returns stdout, or raises CalledProcessError."""

    def __init__(self, program: Path, kubeconfig: Path) -> None:
        self.program = program
        self.kubeconfig = kubeconfig

    def __call__(
        self, *arguments: str, namespace: str | None = None, stdin: str | None = None, timeout: float = TIMEOUT
    ) -> str:
        result = self.run(*arguments, namespace=namespace, stdin=stdin, timeout=timeout)
        if result.returncode != 0:
            error = subprocess.CalledProcessError(result.returncode, result.args, result.stdout, result.stderr)
            error.add_note(result.stderr)
            raise error
        return result.stdout

    def run(
        self, *arguments: str, namespace: str | None = None, stdin: str | None = None, timeout: float = TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        """Run a command, and return its output and exit code."""
        return subprocess.run(
            self.command(*arguments, namespace=namespace),
            input=stdin or "",
            text=True,
            capture_output=True,
            check=False,
            timeout=timeout,
            env=self.environment,
        )

    def command(self, *arguments: str, namespace: str | None = None) -> list[str]:
        """Return the command line for a test that starts kubectl itself (a watch, an exec)."""
        scope = ["--namespace", namespace] if namespace else []
        return [str(self.program), "--kubeconfig", str(self.kubeconfig), *scope, *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Environment of kubectl. The discovery cache is next to the kubeconfig."""
        return environment_without_proxies() | {"KUBECACHEDIR": str(self.kubeconfig.parent / "kubectl-cache")}

    def apply(self, *manifests: dict[str, Any], namespace: str | None = None) -> None:
        """Apply objects with `kubectl apply`. As cluster-admin, AdminApi.apply is faster."""
        items = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
        self("apply", "-f", "-", namespace=namespace, stdin=json.dumps(items))

    def wait_for_crds(self, *crds: str) -> None:
        """Wait until objects of the kinds can be listed, which is a moment after the condition Established."""
        started_at = time.monotonic()
        while self.run("get", ",".join(crds), "--all-namespaces", "--output=name").returncode != 0:
            if time.monotonic() > started_at + TIMEOUT:
                raise TimeoutError(f"not served within {TIMEOUT:.0f} s: {', '.join(crds)}")
            sleep_before_retry(started_at, min_interval=0.1)

    def json(self, *arguments: str, namespace: str | None = None) -> Any:
        """Return the parsed output of `kubectl … -o json`."""
        return json.loads(self(*arguments, "-o", "json", namespace=namespace))


def certificate_user(certificate: Path, key: Path) -> dict[str, str]:
    """Return the `user` of a kubeconfig with a client certificate."""
    return {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}


def write_kubeconfig(path: Path, *, server: str, ca_pem: str, user: dict[str, str], namespace: str = "default") -> Path:
    """Write a kubeconfig with one cluster, user and context, with mode 0600. It is JSON, which is valid YAML."""
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca_pem.encode()).decode()}
    context = {"cluster": "test", "user": "test", "namespace": namespace}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "test", "user": user}],
        "contexts": [{"name": "test", "context": context}],
        "current-context": "test",
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=1))
    return path


def _base64(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
