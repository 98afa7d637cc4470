import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.request_info import RequestInfo, parse_request


def info(
    verb: str, resource: str = "", *, group: str = "", sub: str = "", ns: str = "", name: str = "", path: str
) -> RequestInfo:
    return RequestInfo(verb, group, resource, sub, ns, name, path)


V1 = "/api/v1"


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        ("GET", "/api/v1/namespaces", info("list", "namespaces", path="/api/v1/namespaces")),
        ("GET", "/api/v1/namespaces/a", info("get", "namespaces", ns="a", name="a", path="/api/v1/namespaces/a")),
        ("GET", "/api/v1/namespaces/a/pods", info("list", "pods", ns="a", path="/api/v1/namespaces/a/pods")),
        ("HEAD", "/api/v1/pods/", info("list", "pods", path="/api/v1/pods/")),
        ("GET", "/api/v1/nodes/n", info("get", "nodes", name="n", path="/api/v1/nodes/n")),
        ("HEAD", "/api/v1/nodes/n", info("get", "nodes", name="n", path="/api/v1/nodes/n")),
        (
            "GET",
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            info(
                "get", "deployments", group="apps", sub="scale", ns="a", name="d",
                path="/apis/apps/v1/namespaces/a/deployments/d/scale",
            ),
        ),
        (
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            info(
                "get", "clusterroles", group="rbac.authorization.k8s.io", name="system:node",
                path="/apis/rbac.authorization.k8s.io/v1/clusterroles/system:node",
            ),
        ),
        ("PUT", f"{V1}/namespaces/a/finalize",
         info("update", "namespaces", sub="finalize", ns="a", name="a", path=f"{V1}/namespaces/a/finalize")),
        ("PATCH", f"{V1}/namespaces/a/status",
         info("patch", "namespaces", sub="status", ns="a", name="a", path=f"{V1}/namespaces/a/status")),
        ("POST", f"{V1}/namespaces/a/pods", info("create", "pods", ns="a", path=f"{V1}/namespaces/a/pods")),
        ("POST", f"{V1}/namespaces/a/pods/p/exec?command=ls&stdin=true",
         info("create", "pods", sub="exec", ns="a", name="p", path=f"{V1}/namespaces/a/pods/p/exec")),
        ("DELETE", f"{V1}/nodes/n", info("delete", "nodes", name="n", path=f"{V1}/nodes/n")),
        ("DELETE", f"{V1}/nodes", info("deletecollection", "nodes", path=f"{V1}/nodes")),
        ("OPTIONS", f"{V1}/nodes", info("", "nodes", path=f"{V1}/nodes")),
        ("get", f"{V1}/nodes", info("", "nodes", path=f"{V1}/nodes")),
        ("GET", f"{V1}/namespaces/a/services/s/proxy/x/y",
         info("get", "services", sub="proxy", ns="a", name="s", path=f"{V1}/namespaces/a/services/s/proxy/x/y")),
        ("GET", f"{V1}//pods", info("get", "", name="pods", path=f"{V1}//pods")),
    ],
)  # fmt: skip
def test_resource_requests(method: str, target: str, expected: RequestInfo) -> None:
    assert parse_request(method, target, "") == expected


@pytest.mark.parametrize(
    ("target", "verb", "resource", "name", "subresource"),
    [
        ("/api/v1/proxy/namespaces/a/pods/p", "proxy", "pods", "p", ""),
        ("/api/v1/proxy/namespaces/a/pods/p/not/a/subresource", "proxy", "pods", "p", ""),
        ("/api/v1/watch/pods", "watch", "pods", "", ""),
        ("/api/v1/watch/namespaces/a/pods/p", "watch", "pods", "p", ""),
        ("/apis/g/v1/watch/things?fieldSelector=metadata.name=x", "watch", "things", "", ""),
        ("/api/v1/redirect/nodes/n", "get", "redirect", "nodes", "n"),
    ],
)
def test_verbs_in_the_path(target: str, verb: str, resource: str, name: str, subresource: str) -> None:
    request = parse_request("GET", target, "")
    assert (request.verb, request.resource, request.name, request.subresource) == (verb, resource, name, subresource)


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"), ("GET", ""), ("GET", "/api"), ("GET", "/api/v1"), ("GET", "/api/v1/"), ("GET", "/apis"),
        ("GET", "/apis/apps"), ("GET", "/apis/apps/v1"), ("GET", "/apis/apps/v1/"), ("GET", "/version?timeout=32s"),
        ("GET", "/livez/ping/x"), ("POST", "/openapi/v3/apis/apps"), ("OPTIONS", "/API/v1/pods"),
        ("GET", "/api/v1/watch"),
    ],
)  # fmt: skip
def test_non_resource_paths_have_the_method_as_verb(method: str, target: str) -> None:
    assert parse_request(method, target, "") == info(method.lower(), path=target.partition("?")[0])


@pytest.mark.parametrize(
    ("query", "verb", "name"),
    [
        pytest.param("", "list", "", id="an empty query"),
        pytest.param("limit=500", "list", "", id="a page"),
        pytest.param("watch=true", "watch", "", id="true"),
        pytest.param("watch=1", "watch", "", id="1"),
        pytest.param("watch", "watch", "", id="without a value"),
        pytest.param("watch=", "watch", "", id="with an empty value"),
        pytest.param("watch=0", "list", "", id="0"),
        pytest.param("watch=FALSE", "list", "", id="false in any case"),
        pytest.param("watch=false&watch=true", "list", "", id="the first of two counts"),
        pytest.param("w%61tch=true", "watch", "", id="an escaped key"),
        pytest.param("watch=%zz", "list", "", id="a malformed pair is dropped"),
        pytest.param("watch=%2g", "list", "", id="a pair with an escape of one digit is dropped"),
        pytest.param("watch=%2", "list", "", id="a pair that ends in half an escape is dropped"),
        pytest.param("watch=true;a", "list", "", id="a pair with a semicolon is dropped"),
        pytest.param("&&watch=true&", "watch", "", id="empty pairs"),
        pytest.param("fieldSelector=metadata.name%3Dp", "list", "p", id="a name"),
        pytest.param("fieldSelector=metadata.name==p&watch=1", "watch", "p", id="a name with two signs, watched"),
        pytest.param("fieldSelector=spec.a=b,metadata.name=p", "list", "p", id="among other terms"),
        pytest.param("fieldSelector=metadata.name=p,", "list", "p", id="a final comma"),
        pytest.param("fieldSelector=metadata.name=q,metadata.name=p", "list", "p", id="terms are sorted"),
        pytest.param("fieldSelector=metadata.name!=p", "list", "", id="all but one"),
        pytest.param("fieldSelector=spec.a=b", "list", "", id="another field"),
        pytest.param("fieldSelector=metadata.name=p,foo", "list", "", id="a malformed term"),
        pytest.param("fieldSelector=metadata.name=a=b", "list", "", id="a sign in the value"),
        pytest.param("fieldSelector=metadata.name=a%5C,b", "list", "a,b", id="an escaped comma"),
        pytest.param("fieldSelector=metadata.name=a%5Cx", "list", "", id="an unknown escape"),
        pytest.param("fieldSelector=metadata.name=a%5C", "list", "", id="half an escape"),
        pytest.param("fieldSelector=metadata.name=..", "list", "", id="dots are no name"),
        pytest.param("fieldSelector=metadata.name=a/b", "list", "", id="a slash is in no name"),
        pytest.param("fieldSelector=metadata.name=a%2525", "list", "", id="a percent sign is in no name"),
        pytest.param("limit=x&watch=1&fieldSelector=metadata.name=p", "watch", "", id="not a number"),
        pytest.param("timeoutSeconds=&fieldSelector=metadata.name=p", "list", "", id="an empty number"),
        pytest.param("limit=9223372036854775808&fieldSelector=metadata.name=p", "list", "", id="a number too large"),
        pytest.param("limit=-1&fieldSelector=metadata.name=p", "list", "p", id="a negative number"),
        pytest.param("limit=00000000000000000000001&fieldSelector=metadata.name=p", "list", "p", id="many noughts"),
        pytest.param(
            f"limit=-{'0' * 5000}1&fieldSelector=metadata.name=p", "list", "p", id="more zeros than Python converts"
        ),
        pytest.param(
            f"limit=%2B{'0' * 5000}&fieldSelector=metadata.name=p", "list", "p", id="only zeros, and more of them"
        ),
        pytest.param(f"limit={'0' * 5000}x&fieldSelector=metadata.name=p", "list", "", id="noughts and no number"),
        pytest.param("limit=%2B&fieldSelector=metadata.name=p", "list", "", id="a sign without a number"),
        pytest.param("labelSelector=a+in+(b)&fieldSelector=metadata.name=p", "list", "p", id="labels beside a name"),
        pytest.param("labelSelector=a+in+b&fieldSelector=metadata.name=p", "list", "", id="malformed labels"),
        pytest.param("labelSelector=,&watch=true", "watch", "", id="malformed labels, watched"),
        pytest.param("watch=fal%C5%BFe", "list", "", id="false with a long s"),
        pytest.param("labelSelector=,&watch=fal%C5%BFe", "watch", "", id="false with a long s beside malformed labels"),
        pytest.param("labelSelector=,&watch=FALSE", "list", "", id="false beside malformed labels"),
        pytest.param("watch=1" + "&" * 9999, "watch", "", id="as many pairs as are read"),
        pytest.param("watch=1" + "&" * 10000, "list", "", id="more pairs than are read"),
    ],
)
def test_a_get_without_a_name_is_a_list_or_a_watch(query: str, verb: str, name: str) -> None:
    request = parse_request("GET", f"/api/v1/pods?{query}", "")
    assert (request.verb, request.resource, request.name) == (verb, "pods", name)


def test_a_verb_in_the_path_without_a_resource_is_not_a_resource_request() -> None:
    assert parse_request("GET", "/apis/apps/v1/proxy", "") == info("get", group="apps", path="/apis/apps/v1/proxy")


def test_selectors_are_ignored_if_the_path_has_a_name() -> None:
    assert parse_request("GET", "/api/v1/nodes/n?watch=1&fieldSelector=metadata.name=x", "").verb == "get"


def test_the_server_does_not_see_the_prefix() -> None:
    request = parse_request("GET", "/kubernetes/global/api/v1/pods", "/kubernetes/global")
    assert request == info("list", "pods", path="/api/v1/pods")


def test_long_targets_are_parsed_alike() -> None:
    target = "/api/v1/pods?labelSelector=" + "a" * 5000
    assert parse_request("GET", target, "") == info("list", "pods", path="/api/v1/pods")


@given(st.sampled_from(["GET", "POST", "DELETE", "X"]), st.text(alphabet="/api/svwtchn%2.=&?,\\é", max_size=40))
def test_every_target_is_parsed(method: str, tail: str) -> None:
    for start in ("", "/api/v1/", "/apis/g/v1/namespaces/"):
        request = parse_request(method, start + tail, "")
        assert not request.subresource or request.name or "//" in request.path
