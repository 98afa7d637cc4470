"""The admission policies for access objects on a real API server: each attack is refused, whatever RBAC allows.

`jane` asks, `joe` approves, `owner` owns the namespace, and `editor` may write all access objects, and nothing else.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_controller.admission_proof import AdmissionProof
from connector_csi.mount_requests import MountRequest
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.config.settings import Settings
from connector_store.domain.grants.admission import ADMISSION_CONFIG_MAP, parse_enforced_since
from connector_store.domain.kubeconfig.volume_request import Pod
from connector_store.kube.client import KubeClient
from connector_store.kube.config_loader import load_configuration
from connector_store.kube.errors import ApiError
from connector_store.kube.resources import ACCESS_REQUESTS
from connectorctl.cluster_checks import CHECKS, ClusterSubject
from connectorctl.diagnosis import diagnose
from lab.admin_api import Response
from lab.control_plane import ControlPlane
from lab.rbac import wait_for_rbac
from lab.waiting import wait_until
from tests.cluster.controller.approval_run import (
    GATE,
    TASKS,
    approval_task,
    approver,
    install_component,
    install_gate,
    tasks_path,
)

DEPLOY = Path(__file__).parents[3] / "deploy"
API_VERSION = "connectors.alauda.io/v1alpha1"
CONTROLLER = "system:serviceaccount:connectors-system:connectors-controller"
KINDS = ("accesspolicies", "accessrequests", "accessapprovals", "accesslocks")
REQUESTER = "spec.requester: must be your own user name"
DRIVER = "system:serviceaccount:connectors-csi:connectors-csi"
SUBJECT = "so you may not ask for them"
BY = "spec.by: must be your own user name"
APPROVE = "you may not approve accesspolicies"
OWN_NODE = "the CSI driver may only ask for the ServiceAccount of a pod on its own node"
METADATA = "metadata.finalizers and metadata.ownerReferences: only the controller may set them"
ROLE_BINDINGS = "you may not create rolebindings"
USE = "you may not use all connectors"
LOCKED_OUT = "so another user must change or delete it"
DOCTOR_CHECKS = ("definitions", "admission policies", "access requests", "your rights")
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def plane(cluster_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with ControlPlane(tmp_path_factory.mktemp("access-policy"), programs=cluster_programs) as plane:
        kubectl = plane.kubectl
        kubectl("apply", "--server-side", "-k", str(DEPLOY / "crds"))
        kubectl.wait_for_crds(*(f"{plural}.connectors.alauda.io" for plural in KINDS))
        kubectl("apply", "-f", str(DEPLOY / "policy/access.yaml"))
        files = ("rbac/users", "system/namespace", "system/controller-rbac", "csi/namespace", "csi/rbac")
        for file in (f"{name}.yaml" for name in files):
            kubectl("apply", "-f", str(DEPLOY / file))
        everything = [f"--resource={plural}.connectors.alauda.io" for plural in (*KINDS, "accessrequests/status")]
        verbs = "--verb=get,list,create,update,patch,delete,deletecollection"
        kubectl("create", "clusterrole", "writer", verbs, *everything)
        for user in ("jane", "joe", "editor", "owner", "helper", CONTROLLER):
            kubectl(
                "create",
                "clusterrolebinding",
                f"writer-{user.rsplit(':', 1)[-1]}",
                "--clusterrole=writer",
                f"--user={user}",
            )
        kubectl("create", "clusterrole", "jane-only", "--verb=impersonate", "--resource=users", "--resource-name=jane")
        kubectl("create", "clusterrolebinding", "jane-only", "--clusterrole=jane-only", "--user=helper")
        kubectl("create", "namespace", "try")
        bind(plane, "try")

        def are_in_force() -> bool:
            # Dry runs, because objects that were created before would make updates of what the tests create.
            reference, dry_run = {"name": "x", "uid": "1"}, "?dryRun=All"
            create(plane, "try", "owner", lock({"kind": "User", "name": "jane"}))
            attempts = (
                create(plane, "try", "jane", request(requester="other"), query=dry_run),
                create(plane, "try", "jane", approval(reference, reference, by="joe"), query=dry_run),
                create(plane, "try", "jane", policy(), query=dry_run),
                send(plane, "DELETE", "try", f"accesslocks/on-call{dry_run}", "jane"),
            )
            return all(b"denied request" in each.body for each in attempts)

        wait_until(are_in_force, "policies in force")
        yield plane


def bind(plane: ControlPlane, namespace: str) -> None:
    """Let `joe` approve the policy `on-call`, and `owner` own the namespace. `joe` has half of the owner's rights."""
    group, rbac = "connectors.alauda.io", "rbac.authorization.k8s.io"
    only: dict[str, list[str]] = {"resourceNames": ["prod"]}
    rights: dict[str, tuple[list[str], dict[str, list[str]]]] = {
        "approve": (["joe"], rule(group, "accesspolicies", "approve") | {"resourceNames": ["on-call"]}),
        "use": (["owner"], rule(group, "connectors/proxy", "use")),
        "use-one": (["joe"], rule(group, "connectors/proxy", "use") | only),
        "bind": (["owner", "joe"], rule(rbac, "rolebindings", "create")),
    }
    for name, (users, rules) in rights.items():
        api, metadata = f"{rbac}/v1", {"name": name, "namespace": namespace}
        plane.api.apply({"apiVersion": api, "kind": "Role", "metadata": metadata, "rules": [rules]})
        subjects = [{"kind": "User", "name": user, "apiGroup": rbac} for user in users]
        role = {"kind": "Role", "name": name, "apiGroup": rbac}
        binding = {"metadata": metadata, "subjects": subjects, "roleRef": role}
        plane.api.apply({"apiVersion": api, "kind": "RoleBinding"} | binding)
    wait_for_rbac(plane.api)


def rule(group: str, resource: str, verb: str) -> dict[str, list[str]]:
    return {"apiGroups": [group], "resources": [resource], "verbs": [verb]}


@pytest.fixture
def namespace(plane: ControlPlane) -> str:
    name = plane.create_namespace(f"ns-{next(_NUMBERS)}")
    bind(plane, name)
    return name


def manifest(kind: str, spec: dict[str, Any], **metadata: Any) -> dict[str, Any]:
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "on-call"} | metadata, "spec": spec}


def request(requester: str | None = "jane", metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    own = {"requester": requester} if requester is not None else {}
    body = {**own, "subject": {"kind": "User", "name": "jane"}, "connectorRef": {"name": "prod"}, "reason": "x"}
    return manifest("AccessRequest", body | spec, **(metadata or {}))


def approval(
    request_ref: dict[str, str], policy_ref: dict[str, str], *, by: str, metadata: dict[str, Any] | None = None
) -> dict[str, Any]:
    spec = {"requestRef": request_ref, "policyRef": policy_ref, "by": by, "decision": "Approved"}
    return manifest("AccessApproval", spec, **(metadata or {}))


def policy(**spec: Any) -> dict[str, Any]:
    return manifest("AccessPolicy", {"connector": {"names": ["prod"]}, "approval": {"required": 1}} | spec)


def lock(*subjects: dict[str, str]) -> dict[str, Any]:
    return manifest("AccessLock", {"reason": "x"} | ({"subjects": list(subjects)} if subjects else {}))


def send(
    plane: ControlPlane,
    method: str,
    namespace: str,
    where: str,
    user: str,
    body: dict[str, Any] | None = None,
    *,
    groups: Sequence[str] = (),
    patch_type: str = "merge-patch+json",
) -> Response:
    """Send a request as a user. `where` is the path below the namespace."""
    path = f"/apis/{API_VERSION}/namespaces/{namespace}/{where}"
    return plane.api.request(method, path, body, user=user, groups=groups, patch_type=patch_type)


def create(
    plane: ControlPlane, namespace: str, user: str, body: dict[str, Any], *, is_applied: bool = False, query: str = ""
) -> Response:
    """Create an object as a user, by POST or by server-side apply."""
    plural = next(each for each in KINDS if each.startswith(body["kind"].lower()[:-1]))
    if not is_applied:
        return send(plane, "POST", namespace, f"{plural}{query}", user, body)
    where = f"{plural}/{body['metadata']['name']}?fieldManager=test"
    return send(plane, "PATCH", namespace, where, user, body, patch_type="apply-patch+yaml")


def is_refused(response: Response, reason: str) -> bool:
    message = response.json()["message"] if response.status >= 400 else ""
    return "denied request" in message and reason in message


def test_each_kind_has_a_policy_for_all_its_resources() -> None:
    served = {}
    for plural in KINDS:
        definition = yaml.safe_load((DEPLOY / f"crds/{plural}.yaml").read_text())
        [version] = definition["spec"]["versions"]
        subresources = [f"{plural}/{name}" for name in version.get("subresources", {})]
        served[definition["metadata"]["name"]] = [plural, *subresources]
    checked = {}
    for each in yaml.safe_load_all((DEPLOY / "policy/access.yaml").read_text()):
        if each["kind"] == "ValidatingAdmissionPolicy":
            [rule] = each["spec"]["matchConstraints"]["resourceRules"]
            checked[each["metadata"]["name"]] = rule["resources"]
    assert checked == served


@pytest.mark.parametrize("is_applied", [False, True], ids=["create", "server-side apply"])
@pytest.mark.parametrize(
    ("user", "body", "reason"),
    [
        pytest.param("joe", request(requester="jane"), REQUESTER, id="name another requester"),
        pytest.param("jane", request(requester=None), REQUESTER, id="name no requester"),
        pytest.param("joe", request(requester="joe"), SUBJECT, id="ask for another user"),
        pytest.param(
            "jane",
            request(subject={"kind": "ServiceAccount", "name": "robot", "namespace": "ci"}),
            SUBJECT,
            id="ask for an account",
        ),
        pytest.param(
            "helper",
            request(requester="helper", subject={"kind": "User", "name": "root"}),
            SUBJECT,
            id="ask for another user than the one to impersonate",
        ),
        pytest.param("jane", request(metadata={"finalizers": ["a.example/b"]}), METADATA, id="keep it alive"),
        pytest.param(
            "jane",
            request(
                metadata={
                    "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1"}],
                }
            ),
            METADATA,
            id="give it an owner",
        ),
        pytest.param("jane", approval({"name": "r", "uid": "1"}, {"name": "on-call", "uid": "2"}, by="joe"), BY,
                     id="approve as another user"),
        pytest.param("jane", approval({"name": "r", "uid": "1"}, {"name": "on-call", "uid": "2"}, by="jane"), APPROVE,
                     id="approve without the verb"),
        pytest.param("joe", approval({"name": "r", "uid": "1"}, {"name": "other", "uid": "2"}, by="joe"), APPROVE,
                     id="approve for another policy than the one with the verb"),
        pytest.param(
            "joe",
            approval({"name": "r", "uid": "1"}, {"name": "on-call", "uid": "2"}, by="joe",
                     metadata={"finalizers": ["a.example/b"]}),
            METADATA,
            id="keep an approval alive",
        ),
        pytest.param("editor", policy(), ROLE_BINDINGS, id="write a policy without any right to give"),
        pytest.param("joe", policy(), USE, id="write a policy with the use of one Connector only"),
    ],
)  # fmt: skip
def test_an_attack_is_refused(
    plane: ControlPlane, is_applied: bool, user: str, body: dict[str, Any], reason: str
) -> None:
    result = create(plane, "try", user, body, is_applied=is_applied)
    assert is_refused(result, reason), result


@pytest.mark.parametrize(
    ("user", "body", "reason"),
    [
        ("joe", request(requester="jane"), REQUESTER),
        ("jane", approval({"name": "r", "uid": "1"}, {"name": "on-call", "uid": "2"}, by="jane"), APPROVE),
        ("editor", policy(), ROLE_BINDINGS),
    ],
    ids=["request", "approval", "policy"],
)
def test_a_generated_name_is_checked_likewise(
    plane: ControlPlane, user: str, body: dict[str, Any], reason: str
) -> None:
    generated = {**body, "metadata": {"generateName": "on-call-"}}
    assert is_refused(create(plane, "try", user, generated), reason)


@pytest.mark.parametrize(
    ("user", "body"),
    [
        ("jane", request()),
        ("helper", request(requester="helper")),
        ("joe", approval({"name": "r", "uid": "1"}, {"name": "on-call", "uid": "2"}, by="joe")),
        ("owner", policy()),
    ],
    ids=["ask for oneself", "ask for a user to impersonate", "approve with the verb", "write a policy as the owner"],
)
def test_what_people_may_do_is_admitted(plane: ControlPlane, namespace: str, user: str, body: dict[str, Any]) -> None:
    result = create(plane, namespace, user, body)
    assert result.status == 201, result


@pytest.mark.parametrize(
    ("plural", "user", "body", "patch", "reason"),
    [
        ("accesspolicies", "owner", policy(), {"spec": {"approval": {"required": 2}}}, ROLE_BINDINGS),
        ("accessrequests", "jane", request(), {"metadata": {"finalizers": ["a.example/b"]}}, METADATA),
        ("accessrequests", "jane", request(context={"objectRef": {"kind": "Pod", "name": "p", "namespace": "n"}}),
         {"spec": {"context": {"objectRef": {"kind": "Pod", "name": "p", "namespace": "n", "uid": "1"}}}},
         "spec: cannot be changed"),
        ("accessapprovals", "joe", approval({"name": "r", "uid": "1"}, {"name": "on-call", "uid": "2"}, by="joe"),
         {"metadata": {"finalizers": ["a.example/b"]}}, METADATA),
    ],
    ids=["policy", "finalizer of a request", "uid of the pod", "finalizer of an approval"],
)  # fmt: skip
def test_a_change_by_another_user_is_refused(
    plane: ControlPlane,
    namespace: str,
    plural: str,
    user: str,
    body: dict[str, Any],
    patch: dict[str, Any],
    reason: str,
) -> None:
    assert create(plane, namespace, user, body).status == 201
    assert is_refused(send(plane, "PATCH", namespace, f"{plural}/on-call", "editor", patch), reason)


LOCK_CHANGES: list[tuple[str, str, dict[str, Any] | None]] = [
    ("DELETE", "accesslocks/on-call", None),
    ("DELETE", "accesslocks", None),
    ("PATCH", "accesslocks/on-call", {"spec": {"until": "2020-01-01T00:00:00Z"}}),
]


@pytest.mark.parametrize("change", LOCK_CHANGES, ids=["delete", "delete all", "change"])
@pytest.mark.parametrize(
    ("user", "subject"),
    [
        ("editor", {"kind": "User", "name": "editor"}),
        ("editor", {"kind": "Group", "name": "dev"}),
        (CONTROLLER, {"kind": "ServiceAccount", "name": "connectors-controller", "namespace": "connectors-system"}),
    ],
    ids=["user", "group", "account"],
)
def test_who_is_locked_out_cannot_lift_the_lock(
    plane: ControlPlane,
    namespace: str,
    change: tuple[str, str, dict[str, Any] | None],
    user: str,
    subject: dict[str, str],
) -> None:
    method, where, patch = change
    body = lock({"kind": "User", "name": "somebody"}, subject)
    assert create(plane, namespace, "owner", body).status == 201
    groups = ("dev", "system:authenticated")
    assert is_refused(send(plane, method, namespace, where, user, patch, groups=groups), LOCKED_OUT)
    assert send(plane, method, namespace, where, "owner", patch).status == 200


@pytest.mark.parametrize(
    ("subjects", "groups"),
    [([], ["dev"]), ([{"kind": "Group", "name": "dev"}], ["dev", "system:masters"])],
    ids=["a lock of all callers", "an administrator in a locked group"],
)
def test_a_lock_does_not_stay_for_ever(
    plane: ControlPlane, namespace: str, subjects: list[dict[str, str]], groups: list[str]
) -> None:
    assert create(plane, namespace, "owner", lock(*subjects)).status == 201
    result = send(plane, "DELETE", namespace, "accesslocks/on-call", "editor", groups=groups)
    assert result.status == 200, result


def test_labels_of_a_policy_can_be_changed_by_editors(plane: ControlPlane, namespace: str) -> None:
    assert create(plane, namespace, "owner", policy()).status == 201
    patch = {"metadata": {"labels": {"a": "b"}}}
    assert send(plane, "PATCH", namespace, "accesspolicies/on-call", "editor", patch).status == 200


def test_the_status_subresource_cannot_add_finalizers(plane: ControlPlane, namespace: str) -> None:
    assert create(plane, namespace, "jane", request()).status == 201
    patch = {"metadata": {"ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "1"}]}}
    result = send(plane, "PATCH", namespace, "accessrequests/on-call/status", "editor", patch)
    stored = send(plane, "GET", namespace, "accessrequests/on-call", "editor").json()
    assert result.status >= 400 or "ownerReferences" not in stored["metadata"]


def test_the_controller_sets_the_uid_of_the_pod(plane: ControlPlane, namespace: str) -> None:
    reference = {"kind": "Pod", "name": "p", "namespace": "n"}
    assert create(plane, namespace, "jane", request(context={"objectRef": reference})).status == 201
    patch = {"spec": {"context": {"objectRef": {**reference, "uid": "1"}}}}
    result = send(plane, "PATCH", namespace, "accessrequests/on-call", CONTROLLER, patch)
    assert result.status == 200, result


@pytest.fixture(scope="module")
def driver_kubeconfig(plane: ControlPlane) -> Path:
    """Kubeconfig of the driver on node-1: its token is bound to this node."""
    plane.api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})
    words = ("create", "token", "connectors-csi", "--bound-object-kind=Node", "--bound-object-name=node-1")
    token = plane.kubectl(*words, namespace="connectors-csi").strip()
    return plane.write_kubeconfig("csi.kubeconfig", {"token": token})


def mount_request(**change: Any) -> dict[str, Any]:
    """Return what the driver of node-1 asks for a volume, with a change of `spec.context` or of the spec."""
    pod = Pod(namespace="ci", name="build-1", uid="pod-1", service_account="builder")
    asked = MountRequest(pod=pod, connector=ObjectKey("try", "prod"), requester=DRIVER, node="node-1")
    body = asked.manifest
    context = change.pop("context", {})
    body["spec"]["context"] = {key: value for key, value in (body["spec"]["context"] | context).items() if value}
    body["spec"] |= change
    return body


POD_REF = {"kind": "Pod", "namespace": "ci", "name": "build-1"}


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(mount_request(context={"mount": {"nodeName": "node-2", "podUID": "pod-1"}}), id="another node"),
        pytest.param(mount_request(context={"mount": None}), id="no mount"),
        pytest.param(mount_request(context={"mount": None, "objectRef": None}), id="no pod"),
        pytest.param(mount_request(context={"objectRef": POD_REF | {"uid": "pod-1"}}), id="a UID that nobody checked"),
        pytest.param(mount_request(context={"objectRef": POD_REF | {"namespace": "other"}}), id="another namespace"),
        pytest.param(mount_request(subject={"kind": "User", "name": "root"}), id="a user"),
    ],
)
async def test_the_driver_asks_for_pods_of_its_own_node_only(driver_kubeconfig: Path, body: dict[str, Any]) -> None:
    async with KubeClient(await load_configuration(kubeconfig=str(driver_kubeconfig))) as client:
        path = ACCESS_REQUESTS.path("try")
        assert await client.create(path, mount_request(), dry_run=True)
        with pytest.raises(ApiError) as caught:
            await client.create(path, body, dry_run=True)
    assert "ValidatingAdmissionPolicy" in caught.value.message, caught.value
    assert OWN_NODE in caught.value.message or SUBJECT in caught.value.message


def test_a_driver_whose_token_names_no_node_asks_for_nobody(plane: ControlPlane) -> None:
    result = create(plane, "try", DRIVER, mount_request())
    assert is_refused(result, SUBJECT), result


def test_the_mount_of_a_request_cannot_be_changed(plane: ControlPlane, namespace: str) -> None:
    context = {"objectRef": POD_REF, "mount": {"nodeName": "node-1", "podUID": "pod-1"}}
    assert create(plane, namespace, "jane", request(context=context)).status == 201
    patch = {"spec": {"context": {"mount": {"podUID": "pod-2"}}}}
    changed = send(plane, "PATCH", namespace, "accessrequests/on-call", CONTROLLER, patch)
    assert "cannot be changed" in changed.json()["message"]
    alone = create(plane, namespace, "jane", request(context={"mount": context["mount"]}, metadata={"name": "x"}))
    assert "mount needs objectRef" in alone.json()["message"]


def test_the_creation_time_of_a_client_is_overwritten(plane: ControlPlane, namespace: str) -> None:
    body = approval({"name": "r", "uid": "1"}, {"name": "on-call", "uid": "2"}, by="joe",
                    metadata={"creationTimestamp": "2035-01-01T00:00:00Z"})  # fmt: skip
    stored = create(plane, namespace, "joe", body).json()
    assert not stored["metadata"]["creationTimestamp"].startswith("2035")


def test_the_shipped_roles_give_what_their_names_say(plane: ControlPlane, namespace: str) -> None:
    for role, user in (("requester", "rita"), ("approver", "paul")):
        words = ("create", "rolebinding", role, f"--clusterrole=connectors-{role}", f"--user={user}")
        plane.kubectl(*words, namespace=namespace)
    wait_for_rbac(plane.api)
    rita = request(requester="rita", subject={"kind": "User", "name": "rita"})
    paul = approval({"name": "r", "uid": "1"}, {"name": "on-call", "uid": "2"}, by="paul")
    assert create(plane, namespace, "rita", rita).status == 201
    assert create(plane, namespace, "paul", paul).status == 201
    assert b"is forbidden: User" in create(plane, namespace, "rita", {**paul, "metadata": {"name": "x"}}).body
    assert b"is forbidden: User" in create(plane, namespace, "paul", {**rita, "metadata": {"name": "x"}}).body


async def test_the_controller_proves_that_the_policies_are_in_force(plane: ControlPlane) -> None:
    token = plane.issue_token("connectors-system", "connectors-controller")
    path = plane.write_kubeconfig("controller.kubeconfig", {"token": token})
    async with KubeClient(await load_configuration(kubeconfig=str(path))) as client:
        proof = AdmissionProof(client, system_namespace="connectors-system")

        async def prove() -> dict[str, Any]:
            await proof.reconcile("admission")
            config_map: dict[str, Any] = plane.kubectl.json(
                "get", "configmap", ADMISSION_CONFIG_MAP, namespace="connectors-system"
            )
            return config_map

        name, kind = "accessapprovals.connectors.alauda.io", "ValidatingAdmissionPolicy"
        published = await prove()
        assert parse_enforced_since(published) is not None, published
        assert await results_of_doctor(plane) == dict.fromkeys(DOCTOR_CHECKS, "ok")
        delete_binding(plane, name)
        published = await prove()
        assert parse_enforced_since(published) is None, published
        assert published["data"]["reason"].startswith(f"the {kind}Binding {name} cannot be read: ")
        assert published["data"]["reason"].endswith("not found; apply deploy/policy")
        results = await results_of_doctor(plane)
        assert (results["admission policies"], results["access requests"]) == ("failed", "failed")
        apply_policies(plane)
        published = await prove()
        assert parse_enforced_since(published) is not None, published
        # What follows happens while no controller runs.
        plane.kubectl("label", kind, name, "team=a")
        plane.kubectl("apply", "-f", str(DEPLOY / "policy/access.yaml"))
        assert await prove() == published, "the policies were there all the time"
        replace_in_policy(plane, name, "/spec/matchConstraints/resourceRules/0/operations", ["CREATE"])
        apply_policies(plane)
        published = await prove()
        assert published["data"]["reason"] == f"changed since the last proof: {kind} {name}; ask again"
        assert await prove() == published, "the time begins again once"
        delete_binding(plane, name)
        apply_policies(plane)
        published = await prove()
        assert published["data"]["reason"] == f"changed since the last proof: {kind}Binding {name}; ask again"
        # The API server still refuses the forged objects, by other rules of the policy.
        replace_in_policy(plane, name, "/spec/validations/4/expression", "true")
        published = await prove()
        assert parse_enforced_since(published) is None, published
        reason = f"the spec of the {kind} {name} is not that of this release; apply deploy/policy"
        assert published["data"]["reason"] == reason
        apply_policies(plane)
        published = await prove()
        assert parse_enforced_since(published) is not None, published


def replace_in_policy(plane: ControlPlane, policy: str, path: str, value: object) -> None:
    patch = json.dumps([{"op": "replace", "path": path, "value": value}])
    plane.kubectl("patch", "validatingadmissionpolicy", policy, "--type=json", f"--patch={patch}")


def delete_binding(plane: ControlPlane, policy: str) -> None:
    """Delete the binding of the policy for approvals, and wait until the policy is not in force.

    The API server reads policies and bindings once a second, so it might see the deletion after the next binding.
    """
    plane.kubectl("delete", "ValidatingAdmissionPolicyBinding", policy)
    wait_until(lambda: b"denied" not in forge(plane).body, "the end of the policy")


def apply_policies(plane: ControlPlane) -> None:
    plane.kubectl("apply", "-f", str(DEPLOY / "policy/access.yaml"))
    wait_until(lambda: b"denied" in forge(plane).body, "the policy with its binding")


async def results_of_doctor(plane: ControlPlane) -> dict[str, str]:
    checks = [check for check in CHECKS if check.name in DOCTOR_CHECKS]
    async with KubeClient(await load_configuration(kubeconfig=str(plane.kubeconfig))) as client:
        steps = await diagnose(checks, ClusterSubject(client=client, shared_settings=Settings()))
    return {step.check: step.result for step in steps}


OF_TASK = {"taskRef": {"namespace": "ci", "name": "run-approve", "uid": "3"}}


def test_only_the_controller_approves_for_the_approver_of_a_task(plane: ControlPlane, namespace: str) -> None:
    body = approval({"name": "r", "uid": "1"}, {"name": "on-call", "uid": "2"}, by="joe")
    body["spec"] |= OF_TASK
    assert is_refused(create(plane, namespace, "joe", body), "spec.taskRef: only the controller may set it")
    stored = create(plane, namespace, CONTROLLER, body)
    assert stored.status == 201, stored
    body["metadata"] = {"name": "without-task"}
    del body["spec"]["taskRef"]
    assert is_refused(create(plane, namespace, CONTROLLER, body), BY)


OWNER = {"apiVersion": "tekton.dev/v1beta1", "kind": "CustomRun", "name": "run-approve", "uid": "1"}
ANSWER = "spec.approvers: you may only answer for yourself"
OTHERS = "spec.approvers: you may not remove or change the answers of other approvers"
JOE, TED, OPS = approver("joe"), approver("ted"), approver("ops", kind="Group")
YES = approver("joe", "approve")
MEMBER = {"name": "ann", "input": "approve"}


@pytest.fixture(scope="module")
def gated(plane: ControlPlane) -> ControlPlane:
    """The plane with the approval gate's definition and rights, and our policy for its objects."""
    install_gate(plane)
    install_component(plane)
    return plane


def task_attempts(*approvers: dict[str, Any]) -> dict[str, Any]:
    return {"spec": {"approvers": list(approvers)}}


@pytest.mark.parametrize(
    ("user", "subresource", "patch", "reason"),
    [
        ("ted", "status", {"status": {"state": "approved", "approversResponse": [{"name": "joe"}]}},
         "status: only the approval gate may change it"),
        ("joe", "status", {"status": {"state": "approved"}}, "status: only the approval gate may change it"),
        ("ted", "", task_attempts(YES, TED, OPS), ANSWER),
        ("ted", "", task_attempts(JOE, TED, OPS, approver("ann", "approve")), ANSWER),
        ("ted", "", task_attempts(JOE | {"message": "yes"}, TED, OPS), ANSWER),
        ("ted", "", task_attempts(JOE, TED, OPS | {"input": "approve", "users": [MEMBER]}), ANSWER),
        ("bob", "", task_attempts(JOE, TED, OPS | {"users": [MEMBER]}), ANSWER),
        ("ted", "", task_attempts(TED, OPS), OTHERS),
        ("ted", "", task_attempts(JOE, TED), OTHERS),
        ("ted", "", task_attempts(), OTHERS),
        ("ted", "", {"metadata": {"ownerReferences": [OWNER, OWNER | {"uid": "2"}]}}, "metadata.ownerReferences: only"),
        ("joe", "", {"metadata": {"labels": {"tekton.dev/pipelineRun": "other"}}}, "metadata.labels[tekton.dev"),
        ("joe", "", {"metadata": {"labels": None}}, "metadata.labels[tekton.dev/pipelineRun]: only"),
    ],
    ids=["the status", "the status, by an approver", "for another user", "add another approver who has approved",
         "the message of another user", "for a group that one is not in", "for another member of the own group",
         "remove another user", "remove a group", "remove all", "another owner", "another run", "no run"],
)  # fmt: skip
def test_an_approval_task_cannot_be_forged(
    gated: ControlPlane, namespace: str, user: str, subresource: str, patch: dict[str, Any], reason: str
) -> None:
    put_task(gated, namespace)
    groups = ["system:authenticated", *(["ops"] if user == "bob" else [])]
    where = tasks_path(namespace, "run-approve", subresource)
    assert is_refused(gated.api.request("PATCH", where, patch, user=user, groups=groups), reason)


def put_task(plane: ControlPlane, namespace: str) -> None:
    body = approval_task("run-approve", JOE, TED, OPS, owners=[OWNER], run="run")
    assert plane.api.request("POST", tasks_path(namespace), body, user=GATE).status == 201


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (approval_task("x", owners=[OWNER]), "metadata.ownerReferences: only the approval gate"),
        (approval_task("x", YES), ANSWER),
        (approval_task("x", OPS | {"users": [MEMBER]}), ANSWER),
    ],
    ids=["with an owner", "with an answer", "with an answer of a member"],
)
def test_an_approval_task_of_a_user_is_not_created(
    gated: ControlPlane, namespace: str, body: dict[str, Any], reason: str
) -> None:
    assert is_refused(gated.api.request("POST", tasks_path(namespace), body, user="ted"), reason)


def test_approvers_answer_for_themselves_and_the_gate_reports_it(gated: ControlPlane, namespace: str) -> None:
    put_task(gated, namespace)
    where = tasks_path(namespace, "run-approve")
    no = approver("ted", "reject", message="no")
    bobs = OPS | {"input": "approve", "users": [{"name": "bob", "input": "approve"}]}
    both = OPS | {"input": "approve", "users": [*bobs["users"], MEMBER]}
    status = {"status": {"state": "approved", "approversResponse": [{"name": "joe", "response": "approved"}]}}
    steps: list[tuple[str, str, dict[str, Any]]] = [
        ("joe", "", task_attempts(YES, TED, OPS)),
        ("ted", "", task_attempts(YES, no, OPS)),
        ("bob", "", task_attempts(YES, no, bobs)),
        ("ann", "", task_attempts(YES, no, both)),
        ("joe", "", {"metadata": {"annotations": {"a": "b"}}}),
        ("joe", "", {"metadata": {"ownerReferences": None}}),
        (GATE, "/status", status),
    ]
    for user, suffix, patch in steps:
        groups = ["system:authenticated", *(["ops"] if user in ("bob", "ann") else [])]
        response = gated.api.request("PATCH", where + suffix, patch, user=user, groups=groups)
        assert response.status == 200, (user, response)
    stored = gated.api.call("GET", where)
    assert (stored["status"], stored["apiVersion"]) == (status["status"], TASKS)


def forge(plane: ControlPlane) -> Response:
    body = approval({"name": "x", "uid": "1"}, {"name": "x", "uid": "1"}, by="joe")
    return create(plane, "try", "jane", body, query="?dryRun=All")
