"""Waiting for the API server's authorizer."""

from lab.control_plane import ControlPlane
from lab.rbac import wait_for_rbac

GROUP = "rbac.authorization.k8s.io"


def test_changes_of_bindings_are_in_force(control_plane: ControlPlane, namespace: str) -> None:
    api = control_plane.api
    binding = {
        "apiVersion": f"{GROUP}/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": "jane"}],
    }
    where = f"/api/v1/namespaces/{namespace}/configmaps"
    for _ in range(5):
        api.apply(binding, namespace=namespace)
        wait_for_rbac(api)
        assert api.request("GET", where, user="jane").status == 200
        api.call("DELETE", f"/apis/{GROUP}/v1/namespaces/{namespace}/rolebindings/b")
        wait_for_rbac(api)
        assert api.request("GET", where, user="jane").status == 403
