"""Fake API server with access objects, and a command line that uses it."""

import asyncio
import shlex
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import web

from connector_store.kube.resources import ACCESS_APPROVALS, ACCESS_POLICIES, ACCESS_REQUESTS, Resource
from connectorctl import cli
from connectorctl.access_manifests import make_approval
from tests.connectorctl.cli_result import CliResult
from tests.fakes.api_server import FakeApiServer

CREATED_AT = "2026-01-31T18:00:00Z"
MANIFEST = {"apiVersion": "connectors.alauda.io/v1alpha1"}


class FakeAccessCluster:
    """Fake API server, and a command line that uses it as the user `user`."""

    def __init__(self, server: FakeApiServer, kubeconfig: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.server = server
        self.user = "jane"
        self.groups = ["developers"]
        self.approvable: set[str] = set()
        """Policies for which the user has the verb approve."""
        self._kubeconfig = kubeconfig
        self._capsys = capsys
        server.faults.append(self._respond_to_self_reviews)

    def _respond_to_self_reviews(self, request: web.Request) -> web.Response | None:
        if request.path.endswith("/selfsubjectreviews"):
            info = {"username": self.user, "groups": self.groups}
            return web.json_response({"status": {"userInfo": info}}, status=201)
        if request.path.endswith("/selfsubjectaccessreviews"):
            attributes = self.server.requests[-1][2]["body"]["spec"]["resourceAttributes"]
            assert (attributes["verb"], attributes["resource"]) == ("approve", "accesspolicies")
            return web.json_response({"status": {"allowed": attributes["name"] in self.approvable}}, status=201)
        return None

    async def run(self, line: str) -> CliResult:
        words = [*shlex.split(line), "--kubeconfig", str(self._kubeconfig)]
        code = await asyncio.to_thread(cli.run, words, is_plugin=False)
        out, err = self._capsys.readouterr()
        assert "Traceback" not in err
        return CliResult(code, out, err)

    def objects(self, resource: Resource, namespace: str = "a") -> list[dict[str, Any]]:
        """Return what the API server stores."""
        return [raw for path, raw in self.server.save()[1].items() if path.startswith(f"{resource.path(namespace)}/")]

    async def put_policy(self, name: str, **spec: Any) -> None:
        metadata = {"name": name, "namespace": "a"}
        await self.server.put(
            ACCESS_POLICIES,
            {**MANIFEST, "kind": "AccessPolicy", "metadata": metadata, "spec": {"approval": {"required": 1}, **spec}},
        )

    async def put_request(
        self, name: str = "prod-1", *, status: dict[str, Any] | None = None, **spec: Any
    ) -> dict[str, Any]:
        """Store a request of `jane` for the Connector a/prod. Fields of `spec` replace the defaults."""
        fields = {
            "requester": "jane",
            "subject": {"kind": "User", "name": "jane"},
            "connectorRef": {"name": "prod"},
            "duration": "1h",
            "reason": "INC-7",
            **spec,
        }
        metadata = {"name": name, "namespace": "a", "creationTimestamp": CREATED_AT}
        raw = {**MANIFEST, "kind": "AccessRequest", "metadata": metadata, "spec": fields, "status": status or {}}
        return await self.server.put(ACCESS_REQUESTS, raw)

    async def put_approval(self, request: dict[str, Any], *, by: str, decision: Literal["Approved", "Denied"]) -> None:
        """Store a decision on a request under the only policy, with a time of creation."""
        (policy,) = self.objects(ACCESS_POLICIES)
        approval = make_approval(request, policy, by=by, decision=decision, comment=None)
        approval["metadata"]["creationTimestamp"] = CREATED_AT
        await self.server.put(ACCESS_APPROVALS, approval)

    @property
    def written_paths(self) -> list[tuple[str, str]]:
        """Method and path of each request that creates, changes or deletes an object. Reviews are none of these."""
        return [
            (method, path)
            for method, path, _ in self.server.requests
            if method != "GET" and not path.endswith("reviews")
        ]


def ready(status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": "Ready", "status": status, "reason": reason, "message": message}]}


HOSTILE = "a\x1b]0;b\x07\u202ec\nd"
"""Text with an escape sequence of terminals, a character that reverses the direction of text, and a line break."""
