"""The recipes of callers-from-outside.md as they stand: trust, right and the jobs of GitHub Actions and GitLab.

Each job's commands run in a shell with what its runner puts into the environment; the issuers speak as theirs do, and
the target is a real API server.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.control_plane import ControlPlane
from lab.oidc_issuer import TestIssuer
from lab.process import environment_without_proxies
from lab.waiting import wait_until
from tests.cluster.proxy.proxied_connector import TARGET_USER, manifests, target_token
from tests.cluster.proxy.running_proxy import ROOT, WAIT_TIMEOUT, RunningProxy

PAGE = (ROOT / "docs" / "callers-from-outside.md").read_text()
PROXY = "https://proxy.example.com"
ORGANIZATION, GROUP = "my-organization", "my-group"
"""Names in the page's examples."""


def documents() -> dict[str, Any]:
    """The page's blocks by what they are: the kind of an object, or the file that a comment names."""
    jobs = {}
    for block in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE):
        value = yaml.safe_load(block)
        jobs[value.get("kind") or block.splitlines()[0].lstrip("# ")] = value
    return jobs


@dataclass(frozen=True, kw_only=True)
class Outside:
    plane: ControlPlane
    proxy: RunningProxy
    github: TestIssuer
    gitlab: TestIssuer

    def run(self, folder: Path, script: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """In a checkout, on a machine with kubectl and connectorctl that trusts its own CI service."""
        (folder / "connectors-ca.crt").write_bytes(self.proxy.ca_pem())
        trusted = folder.parent / f"{folder.name}-trusted.pem"
        trusted.write_bytes(self.github.ca.pem + self.gitlab.ca.pem)
        programs = [str(Path(sys.executable).parent), str(self.plane.programs), os.environ["PATH"]]
        own = {"PATH": os.pathsep.join(programs), "HOME": str(folder), "SSL_CERT_FILE": str(trusted)}
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", self.here(script)],
            cwd=folder, env=environment_without_proxies() | own | environment, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=WAIT_TIMEOUT,
        )  # fmt: skip

    def here(self, script: str) -> str:
        assert "kubectl" in script
        return script.replace(PROXY, f"https://localhost:{self.proxy.port}")

    def of_github(self, folder: Path, repository: str) -> subprocess.CompletedProcess[str]:
        workflow = documents()[".github/workflows/deploy.yaml"]
        job = workflow["jobs"]["deploy"]
        # Without this a runner puts neither variable into the environment.
        assert workflow["permissions"]["id-token"] == "write"
        steps = [each["run"] for each in job["steps"] if "run" in each]
        return self.run(folder, "\n".join(steps), job["env"] | self.github.runner_environment(repository))

    def of_gitlab(self, folder: Path, project: str) -> subprocess.CompletedProcess[str]:
        job = documents()[".gitlab-ci.yml"]["deploy"]
        tokens = {
            name: self.gitlab.issue_gitlab_token(project, audience=id_token["aud"])
            for name, id_token in job["id_tokens"].items()
        }
        return self.run(folder, "\n".join(job["script"]), job["variables"] | tokens)


@pytest.fixture(scope="module")
def outside(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    home = tmp_path_factory.mktemp("outside")
    namespace = control_plane.create_namespace(home.name)
    looks = f"{namespace}-looks"
    control_plane.kubectl("create", "clusterrole", looks, "--verb=list", "--resource=namespaces")
    binding = (f"--clusterrole={looks}", f"--serviceaccount={namespace}:{TARGET_USER}")
    control_plane.kubectl("create", "clusterrolebinding", looks, *binding)
    with TestIssuer() as github, TestIssuer() as gitlab:
        jobs = documents()
        of_github, of_gitlab = jobs["AuthenticationConfiguration"]["jwt"]
        for entry, issuer in ((of_github, github), (of_gitlab, gitlab)):
            entry["issuer"] |= {"url": issuer.url, "certificateAuthority": issuer.ca.pem.decode()}
        file = home / "authentication.yaml"
        file.write_text(yaml.safe_dump(jobs["AuthenticationConfiguration"]))
        proxy = RunningProxy(home / "proxy", options={"connector_authentication": str(file)})
        connector, secret = manifests(control_plane, target_token(control_plane, namespace))
        proxy.write("k8s.yaml", connector, secret, jobs["RoleBinding"])
        with proxy:
            environment = Outside(plane=control_plane, proxy=proxy, github=github, gitlab=gitlab)
            wait_until(lambda: proxy.ca_pem(), "the proxy's CA")
            yield environment


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    return folder


def test_a_job_of_github_uses_the_connector_and_another_repositorys_does_not(outside: Outside, checkout: Path) -> None:
    done = outside.of_github(checkout, f"{ORGANIZATION}/app")
    assert done.returncode == 0, done.stderr
    assert "kube-system" in done.stdout
    keeps_nothing(outside, checkout)
    other = outside.of_github(checkout, f"{ORGANIZATION}/other")
    assert other.returncode != 0
    assert "or you may not use it" in other.stderr
    stranger = outside.of_github(checkout, "somebody/app")
    assert "Unauthorized" in stranger.stderr or "must be logged in" in stranger.stderr


def test_a_job_of_gitlab_uses_the_connector_and_another_groups_does_not(outside: Outside, checkout: Path) -> None:
    done = outside.of_gitlab(checkout, f"{GROUP}/app")
    assert done.returncode == 0, done.stderr
    assert "kube-system" in done.stdout
    keeps_nothing(outside, checkout)
    other = outside.of_gitlab(checkout, "other-group/app")
    assert other.returncode != 0
    assert "or you may not use it" in other.stderr


def keeps_nothing(outside: Outside, checkout: Path) -> None:
    """Check that no token is on disk where the job ran, nor in the proxy's log; every JWT begins with this text."""
    files = [each for each in checkout.rglob("*") if each.is_file()]
    assert checkout / "target.kubeconfig" in files
    assert not [each for each in (*files, outside.proxy.log) if b"eyJ" in each.read_bytes()]
