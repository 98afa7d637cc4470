"""Comment and metadata of a flow, and the flow of a refused request. `test_flow_requests` has the flows of a proxy."""

import pytest
from mitmproxy import flowfilter
from mitmproxy.connection import Client

from addons.http1.framing import RequestReader
from addons.http1.messages import RequestHead
from addons.relay.flow_labels import MAX_TEXT, REFUSED, FlowLabel, create_refused_flow
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.callers.access import Identity
from connector_store.domain.decision import denial

KEY = ObjectKey("team-a", "prod")
CALLER = Identity(user="ci:build")
SUBPROTOCOL = "Sec-WebSocket-Protocol: base64url.bearer.authorization.k8s.io."
TOKEN = "eyJhbGciOiJub25lIn0.e30.c2ln"


def label(**facts: object) -> FlowLabel:
    defaults: dict[str, object] = {"connector": KEY, "identity": CALLER, "source_ip": "10.0.0.9", "info": None}
    return FlowLabel(**(defaults | facts))  # type: ignore[arg-type]  # of several types


@pytest.mark.parametrize(
    ("facts", "comment"),
    [
        pytest.param(
            {"info": parse_request("GET", "/api/v1/namespaces/web/pods", "")},
            "team-a/prod · ci:build · list pods web",
            id="a list",
        ),
        pytest.param(
            {"info": parse_request("POST", "/api/v1/namespaces/web/pods/a/exec", "")},
            "team-a/prod · ci:build · create pods/exec web/a",
            id="an exec",
        ),
        pytest.param(
            {"info": parse_request("GET", "/version", "")}, "team-a/prod · ci:build · get /version", id="no resource"
        ),
        pytest.param(
            {"identity": None, "connector": None, "refusal": denial.absolute_form()},
            f"no Connector · stranger at 10.0.0.9: {denial.absolute_form().message}",
            id="a refusal of a stranger",
        ),
        pytest.param(
            {"identity": Identity(user="a\x1b]0;b\n\u202ec")}, "team-a/prod · a?]0;b??c", id="control characters"
        ),
    ],
)
def test_the_comment_has_the_connector_the_caller_and_the_request(facts: dict[str, object], comment: str) -> None:
    assert label(**facts).comment() == comment


def test_comment_and_metadata_are_bounded() -> None:
    long = label(identity=Identity(user="x" * 70_000))
    assert len(long.comment()) == MAX_TEXT
    assert max(map(len, long.metadata().values())) == MAX_TEXT


def test_the_metadata_are_for_addons() -> None:
    info = parse_request("GET", "/apis/apps/v1/namespaces/web/deployments/shop/scale", "")
    assert label(info=info, role="view").metadata() == {
        "connector": "team-a/prod", "caller": "ci:build", "verb": "get", "group": "apps", "resource": "deployments",
        "subresource": "scale", "namespace": "web", "name": "shop", "role": "view", "reason": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("request_line", "shown"),
    [
        pytest.param(b"CONNECT a.example:443", ("CONNECT", "a.example", 443), id="a CONNECT"),
        pytest.param(b"GET /connectors/a/b/api?token=secret", ("GET", "a.example", 443), id="a request"),
    ],
)
def test_a_refused_flow_has_the_answer_and_no_credential(request_line: bytes, shown: tuple[str, str, int]) -> None:
    secrets = ("Authorization: Bearer ", "Proxy-Authorization: Basic ", "Cookie: ", SUBPROTOCOL)
    lines = ["Host: a.example:443", "User-Agent: kubectl", *(f"{prefix}{TOKEN}" for prefix in secrets)]
    data = request_line + b" HTTP/1.1\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n"
    head = RequestReader(max_head=65536).receive(data)[0]
    assert isinstance(head, RequestHead)
    deny = denial.internal_error()
    flow = create_refused_flow(Client(peername=("10.0.0.9", 1), sockname=("10.0.0.1", 2)), head, label(refusal=deny))
    assert (flow.request.method, flow.request.host, flow.request.port) == shown
    assert flow.response is not None
    assert (flow.response.status_code, flow.response.content) == (deny.status, deny.body)
    assert (flow.marked, flow.metadata["reason"], flow.live) == (REFUSED, deny.cause, False)
    state = repr(flow.get_state())
    assert "kubectl" in state
    assert TOKEN not in state
    assert "secret" not in state


def test_a_message_that_is_not_a_request_has_a_flow() -> None:
    flow = create_refused_flow(Client(peername=("10.0.0.9", 1), sockname=("10.0.0.1", 2)), None, label())
    assert (flow.request.method, flow.request.path) == ("GET", "")


@pytest.mark.parametrize(
    ("expression", "matches"),
    [
        pytest.param("~comment team-a/prod", True, id="the Connector"),
        pytest.param("~comment ci:build", True, id="the caller"),
        pytest.param("~marker no_entry", True, id="refusals"),
        pytest.param("~comment nobody", False, id="a filter that matches nothing"),
        pytest.param("~comment team-a & !~marked", False, id="what is not refused"),
    ],
)
def test_filters_find_flows_by_comment_and_marker(expression: str, matches: bool) -> None:
    client = Client(peername=("10.0.0.9", 1), sockname=("10.0.0.1", 2))
    flow = create_refused_flow(client, None, label(refusal=denial.internal_error()))
    assert bool(flowfilter.parse(expression)(flow)) is matches
