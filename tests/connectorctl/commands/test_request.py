"""`connectorctl request`, with a fake API server."""

import asyncio
import json
from typing import Any

import pytest
import yaml
from aiohttp import web

from connector_store.kube.resources import ACCESS_REQUESTS
from connectorctl import cli
from connectorctl.commands import request as request_command
from tests.connectorctl.fake_access_cluster import HOSTILE, FakeAccessCluster, ready
from tests.fakes.api_server import refusal

NOT_PRINTABLE = "has line breaks, control characters or invisible characters"


async def test_a_request_names_its_author_and_the_next_step(cluster: FakeAccessCluster) -> None:
    code, out, err = await cluster.run("request a/prod --for 90m --reason 'INC-7, restart' --role edit -n web")
    (raw,) = cluster.objects(ACCESS_REQUESTS)
    name = raw["metadata"]["name"]
    assert (code, out) == (0, f"accessrequests.connectors.alauda.io a/{name} created\n")
    assert err == f"next: another user approves it: connectorctl approve a/{name}\n"
    assert name.startswith("prod-")
    assert cluster.written_paths == [("POST", ACCESS_REQUESTS.path("a"))]
    assert raw["spec"] == {
        "requester": "jane",
        "subject": {"kind": "User", "name": "jane"},
        "connectorRef": {"name": "prod"},
        "reason": "INC-7, restart",
        "duration": "1h30m",
        "permissions": {"allow": [{"clusterRole": "edit", "namespaces": ["web"]}]},
    }


async def test_a_request_can_be_for_a_service_account(cluster: FakeAccessCluster) -> None:
    code, out, _ = await cluster.run("request a/prod --reason x --user system:serviceaccount:ci:robot -o json")
    assert code == 0
    assert json.loads(out)["spec"]["subject"] == {"kind": "ServiceAccount", "namespace": "ci", "name": "robot"}
    assert json.loads(out)["spec"]["requester"] == "jane"


async def test_yaml_is_the_stored_object(cluster: FakeAccessCluster) -> None:
    code, out, _ = await cluster.run("request a/prod --reason x -o yaml")
    assert (code, [yaml.safe_load(out)]) == (0, cluster.objects(ACCESS_REQUESTS))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("a/prod", "Missing option '--reason'", id="no reason"),
        pytest.param("--reason x", "Missing argument 'NAMESPACE/CONNECTOR'", id="no Connector"),
        pytest.param("prod --reason x", "Invalid value for 'NAMESPACE/CONNECTOR'", id="no namespace"),
        pytest.param("a/../b --reason x", "Invalid value for 'NAMESPACE/CONNECTOR'", id="a path"),
        pytest.param("a/prod --reason x --for 0", "is not between 1s and 720h", id="no time"),
        pytest.param("a/prod --reason x --for 999ms", "is not between 1s and 720h", id="less than a second"),
        pytest.param("a/prod --reason x --for -5m", "is not a duration", id="a negative duration"),
        pytest.param("a/prod --reason x --for soon", "is not a duration", id="a duration in words"),
        pytest.param("a/prod --reason x --for ''", "is not a duration", id="an empty duration"),
        pytest.param("a/prod --reason x --for 720h1s", "is not between 1s and 720h", id="a second too long"),
        pytest.param("a/prod --reason x --for 87600h", "is not between 1s and 720h", id="10 years"),
        pytest.param("a/prod --reason x --for 99999999999999h", "is not a duration", id="longer than any number"),
        pytest.param("a/prod --reason ''", "'--reason': '': is empty", id="an empty reason"),
        pytest.param("a/prod --reason ' '", "is empty", id="a reason of spaces"),
        pytest.param(f"a/prod --reason '{HOSTILE}'", NOT_PRINTABLE, id="a reason with control characters"),
        pytest.param("a/prod --reason 'a\u202eb'", NOT_PRINTABLE, id="a reason that reverses the text"),
        pytest.param("a/prod --reason 'a\udcffb'", NOT_PRINTABLE, id="a reason that is not UTF-8"),
        pytest.param(f"a/prod --reason {'x' * 1025}", "has more than 1024 characters", id="a long reason"),
        pytest.param("a/prod --reason x --user ''", "'--user': '': is empty", id="an empty user"),
        pytest.param(
            "a/prod --reason x --user system:serviceaccount:ci", "is not the name of a ServiceAccount", id="half a user"
        ),
        pytest.param("a/prod --reason x -n web", "--namespace: goes with --role", id="a namespace without a role"),
        pytest.param("a/prod --reason x --role ''", "'--role': '': is empty", id="an empty role"),
        pytest.param("a/prod --reason x --role edit -n ''", "is not the name of a namespace", id="an empty namespace"),
        pytest.param("a/prod --reason x --role edit -n ../b", "is not the name of a namespace", id="a bad namespace"),
        pytest.param("a/prod --reason x -o wide", "'wide' is not one of 'json', 'yaml'", id="an unknown format"),
    ],
)
async def test_wrong_usage_sends_nothing(cluster: FakeAccessCluster, line: str, message: str) -> None:
    code, out, err = await cluster.run(f"request {line}")
    assert (code, out) == (2, "")
    assert message in err
    assert cluster.server.requests == []
    assert err.replace("\n", "").isprintable()


def test_requests_need_a_cluster(workdir: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["request", "a/prod", "--reason", "x", "--source", "./folder"], is_plugin=False) == 2
    assert "access requests need a cluster; write --source kubernetes" in capsys.readouterr().err


async def test_a_refusal_of_the_api_server_is_printed(cluster: FakeAccessCluster) -> None:
    message = "spec.subject: you may not impersonate joe\x1b[2J, so you may not ask for them"
    cluster.server.faults.append(
        lambda request: refusal(403, "Forbidden", message) if request.path == ACCESS_REQUESTS.path("a") else None
    )
    code, out, err = await cluster.run("request a/prod --reason x --user joe --wait -o json")
    assert (code, out) == (1, "")
    assert err == f"Error from server (Forbidden): {message.replace('\x1b', '?')}\n"


@pytest.mark.parametrize(
    ("status", "code", "state", "message"),
    [
        (ready("True", "Approved"), 0, "Approved", ""),
        (ready("False", "Denied", "joe denied the request"), 1, "Denied", "joe denied the request"),
        (ready("False", "TooLong", "ask for less"), 1, "TooLong", "ask for less"),
        (ready("False", "Invalid"), 1, "Invalid", "the request was not approved"),
        (ready("False", HOSTILE, HOSTILE), 1, "a?]0;b??c?d", "a?]0;b??c?d"),
    ],
    ids=["approved", "denied", "asks for too much", "refused without a message", "hostile text"],
)
async def test_wait_ends_with_the_decision(
    cluster: FakeAccessCluster,
    monkeypatch: pytest.MonkeyPatch,
    status: dict[str, Any],
    code: int,
    state: str,
    message: str,
) -> None:
    name, result = await wait_for(cluster, monkeypatch, "request a/prod --reason x --wait", status)
    assert result.code == code
    assert result.out == f"accessrequests.connectors.alauda.io a/{name} {state}\n"
    assert message in result.err


async def test_wait_prints_the_approved_object_as_data(
    cluster: FakeAccessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    status = ready("True", "Approved") | {"approvedBy": ["joe"]}
    _, result = await wait_for(cluster, monkeypatch, "request a/prod --reason x --wait -o json", status)
    assert (result.code, json.loads(result.out)["status"]) == (0, status)


async def wait_for(
    cluster: FakeAccessCluster, monkeypatch: pytest.MonkeyPatch, line: str, status: dict[str, Any]
) -> tuple[str, Any]:
    """Run the command, and set the status of its request while it waits. Return the request's name and the result."""
    monkeypatch.setattr(request_command, "WAIT_INTERVAL", 0.01)
    waiting = asyncio.create_task(cluster.run(line))
    while cluster.server.count("GET", _only_name(cluster)) < 2:
        assert not waiting.done()
        await asyncio.sleep(0.01)
    (raw,) = cluster.objects(ACCESS_REQUESTS)
    await cluster.server.put(ACCESS_REQUESTS, {**raw, "status": status})
    return raw["metadata"]["name"], await waiting


async def test_wait_ends_with_the_approval_of_another_user(
    cluster: FakeAccessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_command, "WAIT_INTERVAL", 0.01)
    await cluster.put_policy("on-call")
    waiting = asyncio.create_task(cluster.run("request a/prod --reason x --wait"))
    while cluster.server.count("GET", _only_name(cluster)) < 2:
        assert not waiting.done()
        await asyncio.sleep(0.01)
    (raw,) = cluster.objects(ACCESS_REQUESTS)
    await cluster.put_approval(raw, by="joe", decision="Approved")
    assert (await waiting).code == 0


def _only_name(cluster: FakeAccessCluster) -> str:
    return next((raw["metadata"]["name"] for raw in cluster.objects(ACCESS_REQUESTS)), "none")


@pytest.mark.parametrize(
    ("last", "message"),
    [
        pytest.param(refusal(404, "NotFound", '"x"'), "Error from server (NotFound)", id="the request is deleted"),
        pytest.param(refusal(403, "Forbidden", "no"), "Error from server (Forbidden)", id="the right is taken away"),
        pytest.param(
            web.Response(status=404, text="404 page not found"),
            "the CustomResourceDefinition accessrequests.connectors.alauda.io is not installed",
            id="the definition is deleted",
        ),
    ],
)
async def test_wait_continues_while_the_api_server_is_away_and_ends_with_a_refusal(
    cluster: FakeAccessCluster, monkeypatch: pytest.MonkeyPatch, last: web.Response, message: str
) -> None:
    monkeypatch.setattr(request_command, "WAIT_INTERVAL", 0.01)
    failures = iter(
        [
            refusal(503, "ServiceUnavailable", "away"),
            refusal(429, "TooManyRequests", "busy"),
            web.Response(status=200, text="not JSON"),
            last,
        ]
    )
    cluster.server.faults.append(lambda request: next(failures) if request.method == "GET" else None)
    code, out, err = await cluster.run("request a/prod --reason x --wait")
    assert (code, out) == (1, "")
    assert message in err
    assert next(failures, None) is None
