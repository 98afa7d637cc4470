import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.access_objects import AccessLock
from connector_store.domain.objects.models import Connector, ConnectorClass, InvalidConnector, Secret, Unusable
from connector_store.domain.permissions.bindings import Binding
from connector_store.folder.manifests import Problem, describe, read_manifests, unusable_problem

CONNECTOR = """\
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: k8s, namespace: team-a}
spec:
  connectorClassName: k8s
  address: https://h:6443
  auth:
    secretRef:
      name: s
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: s, namespace: team-a}
type: connectors.cpaas.io/bearer-token
stringData:
  token: abc
"""
BINDING = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: {kind}
metadata: {{name: b}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: user}}
subjects:
- {{apiGroup: rbac.authorization.k8s.io, kind: User, name: me}}
"""
KEY = ObjectKey("team-a", "k8s")


def problems(text: str) -> list[str]:
    return [str(each) for each in read_manifests("f.yaml", text.encode(), system_namespace="sys").problems]


def test_several_documents_in_a_file() -> None:
    content = read_manifests("f.yaml", f"{CONNECTOR}---\n---\n{SECRET}".encode(), system_namespace="sys")
    assert [type(each.object) for each in content.objects] == [Connector, Secret]
    assert [each.line for each in content.objects] == [1, 12]
    assert (content.problems, content.is_incomplete) == ((), False)


@pytest.mark.parametrize("kind", ["RoleBinding", "ClusterRoleBinding"])
@pytest.mark.parametrize(
    ("was", "now"),
    [
        pytest.param("kind: User", "kind: Usr", id="a subject of an unknown kind"),
        pytest.param("subjects:", "subject:", id="an unknown field"),
        pytest.param("name: b}", "name: 5}", id="a name that is no string"),
    ],
)
def test_a_binding_that_cannot_be_read_counts_as_one_that_grants_nothing(kind: str, was: str, now: str) -> None:
    """Without any binding, the token of a named caller is enough."""
    text = BINDING.format(kind=kind)
    [located] = read_manifests("f.yaml", text.encode(), system_namespace="sys").objects
    assert isinstance(located.object, Binding)
    assert located.object.subjects != ()
    content = read_manifests("f.yaml", text.replace(was, now).encode(), system_namespace="sys")
    [located] = content.objects
    assert isinstance(located.object, Binding)
    assert located.object.subjects == ()
    assert content.is_incomplete
    assert len(content.problems) == 1


def test_a_list_becomes_its_items() -> None:
    text = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Secret\n  metadata: {name: s}\n- kind: Foo\n"
    content = read_manifests("f.yaml", text.encode(), system_namespace="sys")
    assert [(describe(each.object), each.line) for each in content.objects] == [("Secret default/s", 4)]
    assert [each.line for each in content.problems] == [7]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (SECRET.replace("abc", "5"),
         "f.yaml:6: Secret team-a/s: stringData.token: is not a string; put it in quotes"),
        (SECRET.replace("abc", "a b"),
         'f.yaml:6: Secret team-a/s: stringData[token]: key "token" has spaces, line breaks or characters that are not '
         "ASCII; put the token alone"),
        (SECRET.replace("stringData", "data").replace("abc", "!!str '?'"),
         "f.yaml:6: Secret team-a/s: data[token]: is not base64; use stringData for plain text"),
        (SECRET.replace("stringData", "data").replace("token: abc", "ca.crt: ''"),
         'f.yaml:6: Secret team-a/s: data[ca.crt]: key "ca.crt" has no whole PEM certificate; it begins with '
         "-----BEGIN CERTIFICATE-----"),
        (SECRET.replace("metadata: {", "metadata: {annotations: {connectors.alauda.io/address: x}, "),
         "f.yaml:3: Secret team-a/s: metadata.annotations[connectors.alauda.io/address]: is not an https URL; write "
         "https://HOST[:PORT][/PATH]"),
        (SECRET.replace("name: s,", ""),
         "f.yaml:3: metadata.name: is not a DNS subdomain: lower case letters, digits, '-' and '.'"),
        (CONNECTOR.replace("kind: Connector", "kind: Conector"),
         'f.yaml:2: kind: "Conector" is not read here; did you mean Connector?'),
        (CONNECTOR.replace("v1alpha1", "v1"),
         'f.yaml:1: apiVersion: "connectors.alauda.io/v1" of Connector is not read here; write '
         "connectors.alauda.io/v1alpha1"),
        (SECRET.replace("kind: Secret", "kind: ConfigMap"),
         'f.yaml:2: kind: "ConfigMap" is not read here; what is read: Connector, ConnectorClass, Secret, ClusterRole, '
         "Role, RoleBinding, ClusterRoleBinding, AccessPolicy, AccessLock, Namespace"),
        (SECRET.replace("stringData", "strngData"),
         "f.yaml:5: Secret team-a/s: strngData: unknown field; did you mean stringData?"),
        (CONNECTOR + "  caCertSecretReff: {name: ca}\n",
         "f.yaml:10: Connector team-a/k8s: spec.caCertSecretReff: unknown field; did you mean caCertSecretRef?"),
        ("a: b: c", "f.yaml:1: is not YAML: mapping values are not allowed in this context"),
        ("\n- a", "f.yaml:2: is not an object"),
    ],
)  # fmt: skip
def test_problems_name_file_line_field_and_what_to_write(text: str, problem: str) -> None:
    assert problems(text) == [problem]


def test_an_object_with_an_unknown_field_is_not_used() -> None:
    text = f"{CONNECTOR}  caCertSecretReff: {{name: ca}}\n---\n{SECRET}foo: 1\n"
    content = read_manifests("f.yaml", text.encode(), system_namespace="sys")
    [refused] = content.objects
    assert isinstance(refused.object, InvalidConnector)
    assert refused.object.message == "spec.caCertSecretReff: unknown field; did you mean caCertSecretRef?"
    assert content.is_incomplete


def test_an_invalid_connector_with_an_unknown_field_keeps_its_own_reason() -> None:
    text = CONNECTOR.replace("connectorClassName", "connectorClasName")
    content = read_manifests("f.yaml", text.encode(), system_namespace="sys")
    [located] = content.objects
    assert isinstance(located.object, InvalidConnector)
    assert located.object.reason == "ConnectorClassNotFound"
    assert [(each.line, each.path) for each in content.problems] == [(5, "spec.connectorClasName")]


def test_unsupported_fields_of_a_class_are_reported_and_not_fatal() -> None:
    text = (
        "apiVersion: connectors.alauda.io/v1alpha1\nkind: ConnectorClass\nmetadata: {name: c}\nspec:\n  api: {uri: x}\n"
    )
    content = read_manifests("f.yaml", text.encode(), system_namespace="sys")
    assert [describe(each.object) for each in content.objects] == ["ConnectorClass c"]
    assert isinstance(content.objects[0].object, ConnectorClass)
    assert content.problems == (
        Problem(
            file="f.yaml", line=5, subject="ConnectorClass c", reason="spec.api is accepted and not run", fatal=False
        ),
    )
    assert not content.is_incomplete


@pytest.mark.parametrize("text", [f"{SECRET}---\na: b: c", f"{SECRET}---\nkind: Foo"])
def test_a_partly_readable_file_is_incomplete(text: str) -> None:
    content = read_manifests("f.yaml", text.encode(), system_namespace="sys")
    assert content.is_incomplete
    assert len(content.objects) == 1


@pytest.mark.parametrize(
    ("reason", "message", "line", "path"),
    [
        ("AddressInvalid", "spec.address: is empty", 6, "spec.address"),
        ("SecretNotFound", 'secrets "s" not found; create it', 9, "spec.auth.secretRef.name"),
        ("ConnectorClassNotFound", 'connectorclasses "c" not found; create it', 5, "spec.connectorClassName"),
        ("InvalidPEM", 'secrets "ca": has none', 4, "spec.caCertSecretRef"),
        ("SecretInvalid", "spec.unknown: is odd", 1, "spec.unknown"),
    ],
)
def test_the_problem_of_an_unusable_connector_is_at_its_field(reason: str, message: str, line: int, path: str) -> None:
    located = read_manifests("f.yaml", CONNECTOR.encode(), system_namespace="sys").objects[0]
    problem = unusable_problem(located, Unusable(key=KEY, reason=reason, message=message, path=path))
    assert (problem.line, problem.path, problem.subject) == (line, path, "Connector team-a/k8s")
    assert problem.fatal


@pytest.mark.parametrize(
    ("limits", "line", "path"),
    [
        ("permissions: {}", 10, "spec.permissions"),
        ("permissions:\n    deny:\n    - {clusterRole: a/b}", 11, "spec.permissions.deny[0].clusterRole"),
        ("impersonate:\n    userPrefix: 'system:'", 10, "spec.impersonate.userPrefix"),
    ],
)
def test_limits_that_cannot_be_read_are_shown_near_the_field(limits: str, line: int, path: str) -> None:
    located = read_manifests("f.yaml", f"{CONNECTOR}  {limits}\n".encode(), system_namespace="sys").objects[0]
    assert isinstance(located.object, InvalidConnector)
    invalid = located.object
    unusable = Unusable(key=KEY, reason=invalid.reason, message=invalid.message, path=invalid.path)
    problem = unusable_problem(located, unusable)
    assert (problem.line, problem.path) == (line, path)


def test_a_role_has_a_name_and_no_namespace() -> None:
    text = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: view}\n"
    content = read_manifests("f.yaml", text.encode(), system_namespace="sys")
    assert [describe(each.object) for each in content.objects] == ["ClusterRole view"]


def test_a_problem_of_a_whole_folder_has_no_line() -> None:
    assert str(Problem(file="dir", line=0, reason="is not a folder")) == "dir: is not a folder"


LOCK = """apiVersion: connectors.alauda.io/v1alpha1
kind: AccessLock
metadata: {name: l, namespace: team-a}
spec:
  reason: stolen laptop
"""
POLICY = """apiVersion: connectors.alauda.io/v1alpha1
kind: AccessPolicy
metadata: {name: p, namespace: team-a}
spec:
  defaultPermission: {bindingTemplate: {serviceAccounts: [{names: [ci]}]}}
"""


def test_locks_policies_and_namespaces_are_read() -> None:
    namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: ci, labels: {a: b}}\n"
    content = read_manifests("f.yaml", f"{LOCK}---\n{POLICY}---\n{namespace}".encode(), system_namespace="sys")
    assert [describe(each.object) for each in content.objects] == [
        "AccessLock team-a/l",
        "AccessPolicy team-a/p",
        "Namespace ci",
    ]
    assert content.problems == ()


@pytest.mark.parametrize("kind", ["AccessRequest", "AccessApproval"])
def test_requests_and_approvals_need_a_cluster(kind: str) -> None:
    text = LOCK.replace("AccessLock", kind)
    content = read_manifests("f.yaml", text.encode(), system_namespace="sys")
    assert content.objects == ()
    assert [str(each) for each in content.problems] == [
        f"f.yaml:1: {kind} team-a/l: access requests need a cluster; remove the object, or use the folder's Roles and "
        "RoleBindings"
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (LOCK + "  until: soon\n", "spec.until: is not a time; write it as 2026-01-31T18:00:00Z"),
        (LOCK + "  subject: jane\n", "spec.subject: unknown field; did you mean subjects?"),
    ],
)
def test_a_lock_with_a_mistake_locks_its_namespace(text: str, problem: str) -> None:
    content = read_manifests("f.yaml", text.encode(), system_namespace="sys")
    [located] = content.objects
    assert located.object == AccessLock(key=ObjectKey("team-a", "l"), problem=problem)
    assert any(problem in str(each) and each.fatal for each in content.problems)


def test_a_policy_says_what_has_no_effect_in_a_folder() -> None:
    text = POLICY + "  approval: {}\n  checkGrantedPermission: {spec: {checks: [{name: own}]}}\n"
    content = read_manifests("f.yaml", text.encode(), system_namespace="sys")
    assert [(each.fatal, each.reason) for each in content.problems] == [
        (
            True,
            "spec.checkGrantedPermission.spec.checks[0] is not supported; keep one check, with the ref "
            "connectors-approvals-in-pipeline, so the policy grants nothing",
        ),
        (False, "requests need a cluster, so approval has no effect here"),
    ]
