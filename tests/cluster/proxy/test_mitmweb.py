"""mitmweb in place of mitmdump: a kubectl session is there to look at, and no credential is."""

import base64
import http.client
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from connector_store.domain.base.names import ObjectKey
from lab.control_plane import ControlPlane
from lab.ports import Port
from lab.waiting import wait_until
from tests.addons.sessions.test_page import wait_for
from tests.cluster.proxy.proxied_connector import TARGET_USER, manifests, target_token
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy
from tests.fakes.chromium import browser_tab

KEY = ObjectKey("team-a", "k8s")
PLACEHOLDER = f"Bearer <of Connector {KEY}>"
PASSWORD = "of the page"
WHOAMI = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
METHODS = "[...document.querySelectorAll('.flow-table td.col-method')].map(cell => cell.textContent)"
"""Expression of the methods in the list of flows on the page."""
TYPE_FILTER = """(text => {
    const field = document.querySelector('.filter-input input');
    Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, 'value').set.call(field, text);
    field.dispatchEvent(new Event('input', {bubbles: true}));
})"""
"""Function that types into the field which filters the list."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """Requests of kubectl, and the flows that mitmweb shows for them."""

    namespace: str
    user: str
    secrets: list[str]
    """The target's token, and the caller's own with the login made of it."""
    proxy: RunningProxy
    web_port: int

    @property
    def config_maps(self) -> str:
        """Path of the ConfigMaps of the namespace."""
        return f"/api/v1/namespaces/{self.namespace}/configmaps"

    def get(self, path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", self.web_port, timeout=WAIT_TIMEOUT)
        try:
            connection.request("GET", path, headers={"Authorization": f"Bearer {PASSWORD}"})
            answer = connection.getresponse()
            body = answer.read()
            assert answer.status == 200, body
            return body
        finally:
            connection.close()

    def flows(self) -> list[dict[str, Any]]:
        """All, once each of them is over."""

        def finished_flows() -> list[dict[str, Any]]:
            flows = json.loads(self.get("/flows"))
            return flows if all((each.get("response") or {}).get("timestamp_end") for each in flows) else []

        return wait_until(finished_flows, "the flows")


@pytest.fixture(scope="module")
def session(control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    home = tmp_path_factory.mktemp("mitmweb")
    namespace = control_plane.create_namespace(home.name)
    token = target_token(control_plane, namespace)
    connector, secret = manifests(control_plane, token)
    web = Port()
    shown = {"web_port": str(web.number), "web_open_browser": "false", "web_password": PASSWORD}
    proxy = RunningProxy(home, program="mitmweb", options=shown)
    proxy.write("k8s.yaml", connector, secret)
    with proxy:
        own = proxy.token(KEY)
        kubectl = proxy.kubectl(control_plane.kubectl, connector, token=own)
        user = kubectl("auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
        kubectl("create", "configmap", "seen", "--from-literal=a=readable", namespace=namespace)
        kubectl("get", "configmap", "seen", namespace=namespace)
        kubectl("get", "configmap", "seen", "-o", "yaml", namespace=namespace)
        assert kubectl.run("get", "nodes").returncode != 0
        login = base64.b64encode(f"{KEY}:{own}".encode()).decode()
        yield Session(namespace=namespace, user=user, secrets=[token, own, login], proxy=proxy, web_port=web.number)
    web.release()


def test_each_request_is_there_as_the_target_got_and_answered_it(session: Session) -> None:
    assert session.user == f"system:serviceaccount:{session.namespace}:{TARGET_USER}"
    authorizations = {
        (each["request"]["method"], each["request"]["path"].partition("?")[0], each["response"]["status_code"])
        for each in session.flows()
    }
    assert {
        ("POST", WHOAMI, 201),
        ("POST", session.config_maps, 201),
        ("GET", f"{session.config_maps}/seen", 200),
        ("GET", "/api/v1/nodes", 403),
    } <= authorizations


def test_each_has_a_placeholder_for_the_only_credential(session: Session) -> None:
    for each in session.flows():
        credentials = [value for name, value in each["request"]["headers"] if "authorization" in name.lower()]
        assert credentials == ([] if each["marked"] else [PLACEHOLDER]), each["request"]["path"]


def test_what_was_created_can_be_read(session: Session) -> None:
    [created] = [each for each in session.flows() if each["request"]["path"].startswith(f"{session.config_maps}?")]
    assert b"readable" in session.get(f"/flows/{created['id']}/request/content.data")


@pytest.mark.parametrize(
    ("page", "something"),
    [
        pytest.param("/flows", PLACEHOLDER, id="the list"),
        pytest.param("/flows/dump", PLACEHOLDER, id="flows saved to a file"),
        pytest.param("/events", "a user interface runs", id="the log"),
        pytest.param("/options", "connector_source", id="the options"),
    ],
)
def test_no_token_is_shown(session: Session, page: str, something: str) -> None:
    session.flows()
    shown = session.get(page).decode(errors="replace")
    assert something in shown
    assert [each for each in session.secrets if each in shown] == []


def test_no_token_is_in_what_it_prints(session: Session) -> None:
    printed = session.proxy.log.read_text()
    assert "requests are shown as flows of mitmproxy: a user interface runs" in printed
    assert [each for each in session.secrets if each in printed] == []


def test_each_flow_says_who_called_and_what_for(session: Session) -> None:
    comments = {(each["request"]["method"], each["comment"]) for each in session.flows()}
    assert ("POST", f"{KEY} · {KEY} · create configmaps {session.namespace}") in comments
    assert ("GET", f"{KEY} · {KEY} · get configmaps {session.namespace}/seen") in comments


@pytest.mark.parametrize(
    ("expression", "methods"),
    [
        pytest.param("~comment 'create configmaps'", {"POST"}, id="what was created"),
        pytest.param("~comment team-a/k8s & ~comment 'get configmaps'", {"GET"}, id="what was read"),
        pytest.param("~comment nobody", set(), id="nothing"),
    ],
)
async def test_a_filter_of_the_page_finds_flows_by_their_comment(
    session: Session, tmp_path: Path, expression: str, methods: set[str]
) -> None:
    page = f"http://127.0.0.1:{session.web_port}"
    async with browser_tab(tmp_path / "profile", ("", "")) as tab:
        await tab.open(f"{page}/?token={quote(PASSWORD)}")
        await wait_for(tab, f"{METHODS}.length > 0")
        await tab.evaluate(f"{TYPE_FILTER}({json.dumps(expression)})")
        await wait_for(tab, f"JSON.stringify([...new Set({METHODS})]) === {json.dumps(json.dumps([*methods]))}")


def test_kubernetes_objects_are_readable(session: Session) -> None:
    """kubectl gets the object as a table for people, and as JSON for `-o yaml`."""
    paths = {each["id"]: each["request"]["path"] for each in session.flows()}
    reads = [each for each, path in paths.items() if path == f"{session.config_maps}/seen"]
    shown = [json.loads(session.get(f"/flows/{each}/response/content/auto.json")) for each in reads]
    assert {each["view_name"] for each in shown} == {"Kubernetes"}
    assert any("NAME  DATA  AGE\nseen  1 " in each["text"] for each in shown)
    assert any("kind: ConfigMap\n" in each["text"] for each in shown)


def test_a_refused_connect_is_a_flow_with_its_reason(session: Session) -> None:
    wrong = base64.b64encode(f"{KEY}:wrong".encode()).decode()
    connection = http.client.HTTPConnection("127.0.0.1", session.proxy.port, timeout=WAIT_TIMEOUT)
    connection.request("CONNECT", "a.example:443", headers={"Proxy-Authorization": f"Basic {wrong}"})
    assert connection.getresponse().status == 407
    connection.close()
    refused = wait_until(
        lambda: [each for each in json.loads(session.get("/flows")) if each["request"]["method"] == "CONNECT"],
        "the flow of the refusal",
    )
    assert (refused[0]["marked"], refused[0]["response"]["status_code"]) == ("⛔", 407)
    assert "stranger at 127.0.0.1: " in refused[0]["comment"]
    assert wrong not in json.dumps(refused)
