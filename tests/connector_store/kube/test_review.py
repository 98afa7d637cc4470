"""Reviews of a caller, and what their answers mean."""

from typing import Any

import jwt
import pytest
from aiohttp import web

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import POD_NAME, POD_UID, Granted, Identity, Refused, Unavailable
from connector_store.domain.config.settings import AccessRule
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import PODS, SERVICE_ACCOUNTS
from connector_store.kube.review import (
    AccessRequestSupport,
    ReviewAuthorizer,
    review_access,
    review_owner,
    review_token,
)
from tests.fakes.api_server import FakeApiServer, refusal, user

KEY = ObjectKey("team-a", "k8s")
RULE = AccessRule("use", "connectors", "proxy")
SECRET = "k" * 32


async def test_a_good_token_gives_the_whole_identity(client: KubeClient, server: FakeApiServer) -> None:
    token = jwt.encode({"exp": 5000000000}, SECRET)
    server.users[token] = user("sa", uid="1", groups=["g"], extra={"authentication.kubernetes.io/pod-name": ["p"]})
    granted = await review_token(client, token, "connectors-proxy")
    assert isinstance(granted, Granted)
    assert (granted.identity.user, granted.identity.uid, granted.identity.groups) == ("sa", "1", ("g",))
    assert (granted.identity.pod, granted.token_expires_at) == ("p", 5000000000.0)
    assert server.requests[0][2]["body"]["spec"] == {"token": token, "audiences": ["connectors-proxy"]}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        pytest.param({"authenticated": False, "error": "expired"}, "expired", id="not authenticated"),
        pytest.param({}, "not authenticated", id="an empty status"),
        pytest.param(user("sa", audiences=("other",)), "audience", id="another audience"),
        pytest.param({**user("sa"), "audiences": None}, "audience", id="an authenticator without audiences"),
        pytest.param({**user("sa"), "authenticated": "true"}, "not authenticated", id="a text instead of true"),
    ],
)
async def test_a_token_that_is_not_good(client, server, status: dict, reason: str) -> None:
    server.users["t"] = status
    answer = await review_token(client, "t", "connectors-proxy")
    assert isinstance(answer, Refused)
    assert answer.check == "token"
    assert reason in answer.reason


async def test_an_access_review_has_the_whole_identity(client: KubeClient, server: FakeApiServer) -> None:
    identity = Identity(user="sa", uid="1", groups=("g",), extra={"x": ("y",)})
    server.allowed.add(("sa", "team-a/k8s"))
    assert await review_access(client, identity, KEY, RULE) is True
    assert server.requests[0][2]["body"]["spec"] == {
        "user": "sa",
        "uid": "1",
        "groups": ["g"],
        "extra": {"x": ["y"]},
        "resourceAttributes": {
            "namespace": "team-a",
            "name": "k8s",
            "verb": "use",
            "group": "connectors.alauda.io",
            "version": "v1alpha1",
            "resource": "connectors",
            "subresource": "proxy",
        },
    }


@pytest.mark.parametrize(
    "status",
    [
        pytest.param({"allowed": False}, id="not allowed"),
        pytest.param({}, id="an empty status"),
    ],
)
async def test_a_right_that_is_not_there(client, server, status: dict) -> None:
    server.faults.append(lambda request: web.json_response({"status": status}))
    answer = await review_access(client, Identity(user="sa"), KEY, AccessRule("get", "connectors"))
    assert answer == Refused(check="use", reason="sa may not get:connectors team-a/k8s", has_opinion=False)
    assert "subresource" not in server.requests[0][2]["body"]["spec"]["resourceAttributes"]


@pytest.mark.parametrize(
    ("status", "headers", "retry_after", "text", "kind"),
    [
        pytest.param(429, {"Retry-After": "7"}, 7, "busy", "api_server_throttled", id="429 with a time"),
        pytest.param(429, {"Retry-After": "99999"}, 60, "busy", "api_server_throttled", id="a time that is too long"),
        pytest.param(500, {}, 1, "busy", "api_server_error", id="500"),
        pytest.param(403, {}, 1, "apply deploy/rbac", "api_server_forbidden", id="the proxy may not ask"),
        pytest.param(401, {}, 1, "busy", "api_server_error", id="the proxy's own token is refused"),
    ],
)
async def test_a_failed_review_is_not_a_refusal(client, server, status, headers, retry_after, text, kind) -> None:
    server.faults.append(lambda request: refusal(status, "", "busy", headers))
    for answer in (
        await review_token(client, "t", "connectors-proxy"),
        await review_access(client, Identity(user="sa"), KEY, RULE),
    ):
        assert isinstance(answer, Unavailable)
        assert (answer.retry_after, answer.kind) == (retry_after, kind)
        assert text in answer.reason


@pytest.mark.parametrize("allowed", [True, False])
async def test_a_denial_is_an_opinion(client: KubeClient, server: FakeApiServer, allowed: bool) -> None:
    server.faults.append(lambda request: web.json_response({"status": {"allowed": allowed, "denied": True}}))
    answer = await review_access(client, Identity(user="sa"), KEY, RULE, AccessRequestSupport(has_hint=True))
    assert isinstance(answer, Refused)
    assert answer.has_opinion
    assert not answer.may_request
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "may_request"),
    [
        pytest.param({"allowed": True}, True, id="may create access requests"),
        pytest.param({"allowed": False}, False, id="may not"),
        pytest.param({"allowed": True, "denied": True}, False, id="is denied"),
        pytest.param(None, False, id="the review fails"),
    ],
)
async def test_a_refusal_says_whether_the_caller_may_ask(
    client: KubeClient, server: FakeApiServer, status: dict[str, bool] | None, may_request: bool
) -> None:
    answers = [{"allowed": False}, status]
    server.faults.append(
        lambda request: web.json_response({"status": answers.pop(0)}) if answers[0] else refusal(500, "", "busy")
    )
    support = AccessRequestSupport(has_hint=True, is_entitled=lambda identity, key: key == KEY)
    answer = await review_access(client, Identity(user="sa"), KEY, RULE, support)
    assert isinstance(answer, Refused)
    assert (answer.may_request, answer.is_entitled) == (may_request, True)
    attributes = server.requests[1][2]["body"]["spec"]["resourceAttributes"]
    assert attributes == {
        "namespace": "team-a",
        "verb": "create",
        "group": "connectors.alauda.io",
        "version": "v1alpha1",
        "resource": "accessrequests",
    }


async def test_without_hints_there_is_one_review(client: KubeClient, server: FakeApiServer) -> None:
    answer = await review_access(client, Identity(user="sa"), KEY, RULE)
    assert isinstance(answer, Refused)
    assert not answer.may_request
    assert len(server.requests) == 1


async def test_a_caller_that_an_issuer_authenticated_is_authorized(client: KubeClient, server: FakeApiServer) -> None:
    rights = ReviewAuthorizer(client, RULE)
    assert isinstance(await rights.authorize_use(Identity(user="ci:me"), KEY), Refused)
    server.allowed.add(("ci:me", str(KEY)))
    assert await rights.authorize_use(Identity(user="ci:me", groups=("ci:g",)), KEY) is True
    assert server.requests[-1][2]["body"]["spec"]["groups"] == ["ci:g"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        pytest.param({}, None, id="both are there"),
        pytest.param({"extra": {}}, None, id="a token that is bound to no pod"),
        pytest.param({"uid": "old"}, 'serviceaccounts "sa" in namespace "team-a" is another one', id="another account"),
        pytest.param({"extra": {POD_NAME: ("web",), POD_UID: ("old",)}}, 'pods "web" in namespace', id="another pod"),
        pytest.param({"extra": {POD_NAME: ("web",)}}, 'pods "web" in namespace', id="a pod of no uid"),
        pytest.param({"extra": {POD_NAME: ("x",)}}, 'pods "x" in namespace "team-a" is gone', id="no such pod"),
        pytest.param(
            {"user": "system:serviceaccount:team-b:sa"}, '"web" in namespace "team-b" is gone', id="elsewhere"
        ),
        pytest.param({"user": "system:serviceaccount:team-a"}, "no ServiceAccount", id="half a name"),
        pytest.param({"user": "system:serviceaccount:team-a:sa:x"}, "no ServiceAccount", id="more than a name"),
        pytest.param({"user": "x:serviceaccount:team-a:sa"}, "no ServiceAccount", id="what looks like a name"),
        pytest.param({"user": "ci:me"}, "no ServiceAccount", id="who is no ServiceAccount"),
    ],
)
async def test_the_owner_of_a_token_must_still_exist(
    client: KubeClient, server: FakeApiServer, changes: dict[str, Any], reason: str | None
) -> None:
    account, pod = [
        (await server.put(resource, {"metadata": {"name": name, "namespace": "team-a"}}))["metadata"]["uid"]
        for resource, name in ((SERVICE_ACCOUNTS, "sa"), (PODS, "web"))
    ]
    fields = {"user": "system:serviceaccount:team-a:sa", "uid": account, "extra": {POD_NAME: ("web",), POD_UID: (pod,)}}
    answer = await review_owner(client, Identity(**fields | changes))
    if reason is None:
        assert answer is True
        return
    assert isinstance(answer, Refused)
    assert answer.check == "token"
    assert reason in answer.reason
