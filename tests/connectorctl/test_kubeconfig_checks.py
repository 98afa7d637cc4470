"""`connectorctl doctor KUBECONFIG` with the real proxy in this process: each fault is named at its step."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry, KubeconfigStyle, build_kubeconfig
from connector_store.domain.objects.address_matching import parse_address
from connectorctl.diagnosis import Step, diagnose
from connectorctl.kubeconfig_checks import CHECKS, KubeconfigSubject, read_claims
from lab.certificates import KeyPair, make_ca, make_leaf
from tests.fakes.manifests import connector, secret, write
from tests.fakes.proxy import Proxy, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import until

KEY = ObjectKey("team-a", "k8s")
PLAIN = KubeconfigStyle()
NAMES = [check.name for check in CHECKS]
VERSION = {"gitVersion": "v1.37.0"}
REVIEWS = {
    "selfsubjectreviews": {"status": {"userInfo": {"username": "alice"}}},
    "selfsubjectrulesreviews": {"status": {"resourceRules": [{"verbs": ["get", "list"], "resources": ["pods"]}] * 10}},
}

Change = Callable[[dict[str, Any]], None]


class ApiServer:
    """Handler of a target that responds as an API server. `statuses` overrides the status of a path's last part."""

    def __init__(self) -> None:
        self.statuses: dict[str, int] = {}
        self.documents: dict[str, Any] = {"version": VERSION, **REVIEWS}

    async def __call__(self, connection: TargetConnection) -> None:
        while True:
            head = await connection.read_head()
            length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
            await connection.read_exactly(int(length.partition(b":")[2]))
            method, path = head.split(b" ")[:2]
            name = path.decode().rpartition("/")[2]
            status = self.statuses.get(name, 201 if method == b"POST" else 200)
            body = json.dumps(self.documents[name] if status < 400 else {"message": f"{name}: no"}).encode()
            await connection.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))


@pytest.fixture(scope="module")
def proxy_ca() -> KeyPair:
    return make_ca("mitmproxy")


@pytest.fixture
def api_server() -> ApiServer:
    return ApiServer()


@pytest.fixture
async def proxy(tmp_path: Path, proxy_ca: KeyPair, api_server: ApiServer) -> AsyncIterator[Proxy]:
    confdir, folder = tmp_path / "confdir", tmp_path / "connectors"
    confdir.mkdir()
    (confdir / "mitmproxy-ca.pem").write_bytes(proxy_ca.combined_pem)
    (confdir / "mitmproxy-ca-cert.pem").write_bytes(proxy_ca.pem)
    target_ca = make_ca("target CA")
    async with FakeTarget(make_leaf(target_ca, ["127.0.0.1"]), api_server) as target:
        write(folder, connector("k8s", f"https://127.0.0.1:{target.port}"), secret(ca=target_ca.pem))
        async with running_proxy(folder, confdir) as running:
            yield running


@pytest.fixture
def address(proxy: Proxy) -> str:
    """Address of the target, as the Connector names it."""
    [text] = [line for line in (proxy.folder / "objects.yaml").read_text().splitlines() if "address" in line]
    address: str = json.loads(text)["spec"]["address"]
    return address


def write_kubeconfig(
    proxy: Proxy,
    address: str,
    *,
    style: KubeconfigStyle = PLAIN,
    change: Change | None = None,
    scheme: str = "http",
    ttl: int = 3600,
    ago: float = 0,
) -> Path:
    entry = KubeconfigEntry(
        key=KEY,
        address=parse_address(address),
        proxy=f"{scheme}://127.0.0.1:{proxy.port}",
        ca=(proxy.confdir / "mitmproxy-ca-cert.pem").read_bytes(),
        token=proxy.token(str(KEY), ttl=ttl, ago=ago),
    )
    config = build_kubeconfig([entry], style)
    if change is not None:
        change(config)
    path = proxy.folder.parent / "kubeconfig"
    path.write_text(yaml.safe_dump(config))
    (proxy.folder.parent / "context.token").write_text(entry.token)
    return path


async def examine(path: Path) -> list[Step]:
    return await diagnose(CHECKS, KubeconfigSubject(path=path))


def results(steps: list[Step]) -> dict[str, str]:
    return {step.check: step.result for step in steps}


def failure(steps: list[Step]) -> Step:
    [step] = [step for step in steps if step.result == "failed"]
    return step


@pytest.mark.parametrize(
    ("scheme", "style", "skipped"),
    [
        pytest.param("http", PLAIN, {"TLS to the proxy"}, id="the token in CONNECT"),
        pytest.param("http", KubeconfigStyle(rotating=True), {"TLS to the proxy"}, id="the token in a file"),
        pytest.param("https", PLAIN, set(), id="TLS in TLS"),
        pytest.param("http", KubeconfigStyle(direct=True), {"CONNECT", "TLS in the tunnel"}, id="direct access"),
    ],
)
async def test_a_kubeconfig_that_works_has_no_failed_step(
    proxy: Proxy, address: str, scheme: str, style: KubeconfigStyle, skipped: set[str]
) -> None:
    steps = await examine(write_kubeconfig(proxy, address, scheme=scheme, style=style))
    assert results(steps) == {name: "skipped" if name in skipped else "ok" for name in NAMES}
    details = {step.check: step.detail for step in steps}
    assert details["token"] == "team-a/k8s, for the audience connectors-proxy; expires in 59 min"
    assert details["target"] == "Kubernetes v1.37.0"
    assert details["who am I"] == "alice at the target"
    assert details["what is allowed"].startswith("in namespace default: get,list pods; ")
    assert details["what is allowed"].endswith("; and 2 more")


async def test_a_foreign_ca_is_named_at_tls(proxy: Proxy, address: str) -> None:
    (proxy.confdir / "mitmproxy-ca-cert.pem").write_bytes(make_ca("another CA").pem)
    step = failure(await examine(write_kubeconfig(proxy, address)))
    assert step.check == "TLS in the tunnel"
    assert "the certificate is not accepted: " in step.detail
    assert "connectorctl kubeconfig team-a/k8s --proxy http://" in step.next_step
    step = failure(await examine(write_kubeconfig(proxy, address, style=KubeconfigStyle(direct=True))))
    assert step.check == "TLS to the proxy"


async def test_an_expired_token_is_named_with_the_command_that_renews_it(proxy: Proxy, address: str) -> None:
    steps = await examine(write_kubeconfig(proxy, address, ttl=60, ago=3660))
    failed = {step.check: step for step in steps if step.result == "failed"}
    assert failed["token"].detail == "the token expired 60 min ago"
    assert "connectorctl kubeconfig team-a/k8s --proxy http://" in failed["token"].next_step
    assert failed["CONNECT"].detail.startswith("407 Proxy Authentication Required: the token is not valid, has expired")


async def test_another_server_is_refused_at_connect(proxy: Proxy, address: str) -> None:
    def other_server(config: dict[str, Any]) -> None:
        config["clusters"][0]["cluster"]["server"] = "https://other.example"

    step = failure(await examine(write_kubeconfig(proxy, address, change=other_server)))
    assert (step.check, step.detail[:13]) == ("CONNECT", "403 Forbidden")
    assert step.detail.endswith(f"Connector team-a/k8s is for {address} only")
    assert step.next_step.startswith("make the kubeconfig again: connectorctl kubeconfig team-a/k8s --proxy http://127")


@pytest.mark.parametrize(
    "style", [pytest.param(PLAIN, id="a tunnel"), pytest.param(KubeconfigStyle(direct=True), id="direct access")]
)
async def test_a_connector_that_is_gone_has_the_next_step_of_the_proxy(
    proxy: Proxy, address: str, style: KubeconfigStyle
) -> None:
    path = write_kubeconfig(proxy, address, style=style)
    (proxy.folder / "objects.yaml").write_text("")
    await until(lambda: proxy.context.store.get(KEY) is None)
    step = failure(await examine(path))
    assert step.check == ("target" if style.direct else "CONNECT")
    assert step.detail.endswith('"k8s" not found in namespace "team-a", or you may not use it')
    assert step.next_step == "check the name, or ask its owner for the right to use it"


async def test_a_target_that_is_down_has_the_proxys_sentence(proxy: Proxy, address: str) -> None:
    target = proxy.context.store.get(KEY)
    assert target is not None
    text = (proxy.folder / "objects.yaml").read_text().replace(address, "https://127.0.0.1:1")
    (proxy.folder / "objects.yaml").write_text(text)
    await until_address(proxy, "https://127.0.0.1:1")
    step = failure(await examine(write_kubeconfig(proxy, "https://127.0.0.1:1")))
    assert step.check == "target"
    assert step.detail.startswith("the proxy answers 502: target https://127.0.0.1:1 of Connector team-a/k8s: ")


async def until_address(proxy: Proxy, address: str) -> None:
    await until(lambda: str(getattr(proxy.context.store.get(KEY), "address", "")) == address)


@pytest.mark.parametrize(
    ("statuses", "documents", "expected"),
    [
        pytest.param({"version": 503}, {}, ("target", "failed", "the target answers 503: version: no"), id="an outage"),
        pytest.param({"version": 404}, {}, ("target", "ok", "it answers 404 version: no"), id="no version"),
        pytest.param({}, {"version": []}, ("target", "failed", "not that of an API server"), id="another server"),
        pytest.param(
            {"selfsubjectreviews": 403}, {}, ("who am I", "skipped", "the target answers 403"), id="a refused review"
        ),
        pytest.param(
            {}, {"selfsubjectrulesreviews": {}}, ("what is allowed", "skipped", "not that of an API"), id="no rules"
        ),
    ],
)
async def test_answers_of_the_target_are_judged(
    proxy: Proxy, address: str, api_server: ApiServer, statuses: dict[str, int], documents: dict[str, Any],
    expected: tuple[str, str, str],
) -> None:  # fmt: skip
    api_server.statuses.update(statuses)
    api_server.documents.update(documents)
    steps = {step.check: step for step in await examine(write_kubeconfig(proxy, address))}
    name, result, text = expected
    assert steps[name].result == result
    assert text in steps[name].detail


async def test_a_proxy_that_does_not_listen_is_named(proxy: Proxy, address: str) -> None:
    def other_port(config: dict[str, Any]) -> None:
        cluster = config["clusters"][0]["cluster"]
        cluster["proxy-url"] = cluster["proxy-url"].replace(str(proxy.port), "1")

    step = failure(await examine(write_kubeconfig(proxy, address, change=other_port)))
    assert (step.check, step.detail) == ("proxy reachable", "127.0.0.1:1: Connection refused")
    assert step.next_step.startswith("start it: connectorctl proxy --listen 127.0.0.1:1; or ")


async def test_another_program_on_the_port_is_named(proxy: Proxy, address: str) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.transport.abort()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

        def other_port(config: dict[str, Any]) -> None:
            cluster = config["clusters"][0]["cluster"]
            cluster["proxy-url"] = cluster["proxy-url"].replace(str(proxy.port), str(port))

        step = failure(await examine(write_kubeconfig(proxy, address, change=other_port)))
    assert (step.check, step.detail) == ("CONNECT", "the connection was closed without an answer")


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        pytest.param(None, "does not exist", id="no file"),
        pytest.param("a: [", "is not a kubeconfig", id="not YAML"),
        pytest.param("current-context: x", 'current-context: context "x" does not exist', id="no context"),
        pytest.param("contexts: []", "current-context: is empty", id="no current context"),
    ],
)
async def test_a_file_that_is_not_a_kubeconfig_skips_all_other_steps(
    tmp_path: Path, text: str | None, detail: str
) -> None:
    if text is not None:
        (tmp_path / "f").write_text(text)
    first, *others = await examine(tmp_path / "f")
    assert first.result == "failed"
    assert detail in first.detail
    assert {step.result for step in others} == {"skipped"}


@pytest.mark.parametrize("token", ["", "a", "a.b", "a.b.c", "a.W10=.c", "a.e30"])
def test_claims_are_read_from_tokens_only(token: str) -> None:
    assert read_claims(token) == ({} if token == "a.e30" else None)
