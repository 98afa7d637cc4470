"""The proof of the admission policies, with a fake API server that has some of them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web

from connector_controller.admission_proof import FORGED_USER, PROOF_INTERVAL, ROUNDS, AdmissionProof
from connector_store.domain.grants.admission import (
    ADMISSION_CONFIG_MAP,
    ADMISSION_POLICIES,
    ENFORCED_SINCE,
    POLICY_VERSIONS,
    REASON,
    parse_enforced_since,
)
from connector_store.kube.client import KubeClient
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import (
    CONFIG_MAPS,
    VALIDATING_ADMISSION_POLICIES,
    VALIDATING_ADMISSION_POLICY_BINDINGS,
)
from tests.fakes.api_server import FakeApiServer, refusal

CONTROLLER = "system:serviceaccount:connectors-system:connectors-controller"
SYSTEM = "connectors-system"
SHIPPED = list(yaml.safe_load_all((Path(__file__).parents[2] / "deploy/policy/access.yaml").read_text()))
SPECS: dict[tuple[str, str], dict[str, Any]] = {
    (each["kind"], each["metadata"]["name"]): each["spec"] for each in SHIPPED
}
APPROVALS = "accessapprovals.connectors.alauda.io"
RULES = ("requester", "subject", "by", "approve", "policy")


class Admission:
    """Admission policies of an API server. `rules` are those in force."""

    def __init__(self, server: FakeApiServer) -> None:
        self.server = server
        self.rules = set(RULES)
        self.refuse_otherwise: web.Response | None = None
        self.forged_count = 0
        server.faults.append(self._respond)

    def _respond(self, request: web.Request) -> web.Response | None:
        plural = request.path.rsplit("/", 1)[-1]
        if plural == "selfsubjectreviews":
            return web.json_response({"status": {"userInfo": {"username": CONTROLLER}}}, status=201)
        if request.method != "POST" or not plural.startswith("access"):
            return None
        assert request.query["dryRun"] == "All"
        assert f"/namespaces/{SYSTEM}/" in request.path
        self.forged_count += 1
        if self.refuse_otherwise is not None:
            return self.refuse_otherwise
        message = self._violation(plural, self.server.requests[-1][2]["body"]["spec"])
        if message is None:
            return web.json_response({}, status=201)
        name = f"{plural}.connectors.alauda.io"
        text = f"ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: {message}"
        return refusal(403, "Forbidden", text)

    def _violation(self, plural: str, spec: dict[str, Any]) -> str | None:
        checks: list[tuple[str, bool, str]] = [
            ("policy", plural == "accesspolicies", "an AccessPolicy gives the use of Connectors"),
            ("requester", spec.get("requester") == FORGED_USER, "spec.requester: must be your own user name"),
            ("by", spec.get("by") == FORGED_USER, "spec.by: must be your own user name"),
            ("subject", plural == "accessrequests", "spec.subject: you may not impersonate"),
            ("approve", plural == "accessapprovals", "spec.policyRef.name: you may not approve"),
        ]
        return next((text for rule, violated, text in checks if violated and rule in self.rules), None)

    async def put_policies(
        self, *, generation: int = 1, policy: dict[str, Any] | None = None, binding: dict[str, Any] | None = None
    ) -> None:
        """Put all policies and their bindings. Those of `accessapprovals` have this generation and these fields."""
        for name in ADMISSION_POLICIES:
            is_changed = name == APPROVALS
            for resource, change in (
                (VALIDATING_ADMISSION_POLICIES, policy),
                (VALIDATING_ADMISSION_POLICY_BINDINGS, binding),
            ):
                is_policy = resource is VALIDATING_ADMISSION_POLICIES
                metadata = {"name": name, "generation": generation if is_policy and is_changed else 1}
                spec = SPECS[resource.kind, name] | (change if change and is_changed else {})
                await self.server.put(resource, {"metadata": metadata, "spec": spec})

    def published(self) -> dict[str, Any] | None:
        """Return the ConfigMap that proxies read."""
        return self.server.save()[1].get(CONFIG_MAPS.path(SYSTEM, ADMISSION_CONFIG_MAP))


@pytest.fixture
async def admission() -> AsyncIterator[Admission]:
    async with FakeApiServer().serving() as server:
        admission = Admission(server)
        await admission.put_policies()
        yield admission


@pytest.fixture
async def proof(admission: Admission) -> AsyncIterator[AdmissionProof]:
    async with KubeClient(admission.server.configuration) as client:
        yield AdmissionProof(client, system_namespace=SYSTEM)


async def test_policies_in_force_are_published_after_several_rounds(
    admission: Admission, proof: AdmissionProof
) -> None:
    assert await proof.reconcile("admission") == PROOF_INTERVAL
    assert parse_enforced_since(admission.published()) is not None
    assert admission.forged_count == ROUNDS * len(RULES)


async def test_nothing_is_written_while_nothing_changes(admission: Admission, proof: AdmissionProof) -> None:
    await proof.reconcile("admission")
    before = admission.published()
    await proof.reconcile("admission")
    assert admission.published() == before
    admission.rules.clear()
    await proof.reconcile("admission")
    before = admission.published()
    await proof.reconcile("admission")
    assert admission.published() == before


@pytest.mark.parametrize("rule", RULES)
async def test_one_rule_that_is_not_in_force_ends_all_grants(
    admission: Admission, proof: AdmissionProof, rule: str
) -> None:
    await proof.reconcile("admission")
    admission.rules.remove(rule)
    await proof.reconcile("admission")
    published = admission.published()
    assert parse_enforced_since(published) is None
    assert published is not None
    assert "forged" in published["data"][REASON]


async def test_objects_from_before_a_gap_do_not_count(
    admission: Admission, proof: AdmissionProof, monkeypatch: pytest.MonkeyPatch
) -> None:
    await proof.reconcile("admission")
    first = parse_enforced_since(admission.published())
    admission.rules.clear()
    await proof.reconcile("admission")
    admission.rules.update(RULES)
    monkeypatch.setattr(proof._client.clock, "now", lambda: (first or 0.0) + 60)
    await proof.reconcile("admission")
    published = admission.published()
    assert parse_enforced_since(published) == (first or 0.0) + 61
    assert published is not None
    assert REASON not in published["data"]


@pytest.mark.parametrize(
    "response",
    [
        refusal(403, "Forbidden", "accessrequests is forbidden: User cannot create resource"),
        refusal(404, "NotFound", "404 page not found"),
        refusal(422, "Invalid", "AccessRequest is invalid: spec.requester: wrong"),
    ],
    ids=["by RBAC", "no such kind", "by the schema"],
)
async def test_a_refusal_by_something_else_proves_nothing(
    admission: Admission, proof: AdmissionProof, response: web.Response
) -> None:
    status, body = response.status, response.text or ""
    admission.server.faults.insert(
        0,
        lambda request: (
            web.Response(status=status, text=body, content_type="application/json")
            if request.path.endswith("/accessrequests")
            else None
        ),
    )
    await proof.reconcile("admission")
    published = admission.published()
    assert published is not None
    assert ENFORCED_SINCE not in published["data"]
    assert "but not by the policy" in published["data"][REASON]


@pytest.mark.parametrize("status", [503, 429, 401], ids=["away", "busy", "with another key for tokens"])
@pytest.mark.parametrize("method", ["GET", "POST"], ids=["read of a policy", "forgery"])
async def test_what_is_published_stays_while_the_api_server_does_not_answer(
    admission: Admission, proof: AdmissionProof, status: int, method: str
) -> None:
    await proof.reconcile("admission")
    before = admission.published()
    admission.server.faults.insert(
        0, lambda request: refusal(status, "", "later") if request.method == method else None
    )
    with pytest.raises(ApiError):
        await proof.reconcile("admission")
    assert admission.published() == before


async def test_a_policy_that_changed_while_no_controller_ran_ends_all_grants(
    admission: Admission, proof: AdmissionProof, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await proof.reconcile("admission")
    first = parse_enforced_since(admission.published())
    assert first is not None
    await admission.put_policies(generation=3)
    monkeypatch.setattr(proof._client.clock, "now", lambda: first + 60)
    await proof.reconcile("admission")
    published = admission.published()
    assert parse_enforced_since(published) == first + 61
    assert published is not None
    policy = f"ValidatingAdmissionPolicy {APPROVALS}"
    assert published["data"][REASON] == f"changed since the last proof: {policy}; ask again"
    assert policy in caplog.text
    await proof.reconcile("admission")
    assert admission.published() == published, "it begins again once"


async def test_a_time_without_the_versions_of_the_policies_begins_again(
    admission: Admission, proof: AdmissionProof
) -> None:
    data = {ENFORCED_SINCE: "2000-01-01T00:00:00Z"}
    await admission.server.put(
        CONFIG_MAPS, {"metadata": {"name": ADMISSION_CONFIG_MAP, "namespace": SYSTEM}, "data": data}
    )
    await proof.reconcile("admission")
    published = admission.published()
    assert published is not None
    assert published["data"][ENFORCED_SINCE] > data[ENFORCED_SINCE]
    assert len(published["data"][POLICY_VERSIONS].splitlines()) == 2 * len(ADMISSION_POLICIES)


async def test_a_policy_that_does_not_check_all_namespaces_is_not_in_force(
    admission: Admission, proof: AdmissionProof
) -> None:
    await admission.put_policies(binding={"matchResources": {"namespaceSelector": {"matchLabels": {}}}})
    await proof.reconcile("admission")
    published = admission.published()
    assert published is not None
    assert published["data"] == {
        REASON: "the ValidatingAdmissionPolicyBinding accessapprovals.connectors.alauda.io has spec.matchResources; "
        "delete it, and apply deploy/policy"
    }


async def test_a_policy_with_another_expression_is_not_in_force(admission: Admission, proof: AdmissionProof) -> None:
    """The forged objects are refused, because they violate the other rules of the policy."""
    await proof.reconcile("admission")
    validations = SPECS["ValidatingAdmissionPolicy", APPROVALS]["validations"]
    await admission.put_policies(policy={"validations": [*validations[:-1], {"expression": "true"}]})
    await proof.reconcile("admission")
    published = admission.published()
    assert published is not None
    assert ENFORCED_SINCE not in published["data"]
    assert published["data"][REASON] == (
        f"the spec of the ValidatingAdmissionPolicy {APPROVALS} is not that of this release; apply deploy/policy"
    )


@pytest.mark.parametrize(("status", "remedy"), [(404, "deploy/policy"), (403, "deploy/system/controller-rbac.yaml")])
async def test_a_policy_that_cannot_be_read_is_not_in_force(
    admission: Admission, proof: AdmissionProof, status: int, remedy: str
) -> None:
    await proof.reconcile("admission")
    admission.server.faults.append(
        lambda request: refusal(status, "", "no") if request.path.endswith("accesslocks.connectors.alauda.io") else None
    )
    await proof.reconcile("admission")
    published = admission.published()
    assert published is not None
    assert ENFORCED_SINCE not in published["data"]
    assert published["data"][REASON] == (
        f"the ValidatingAdmissionPolicy accesslocks.connectors.alauda.io cannot be read: no; apply {remedy}"
    )
