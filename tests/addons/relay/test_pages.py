"""Pages of the proxy itself."""

import base64
import json
from typing import Literal

import pytest
import yaml

from addons.access.caller_checks import AccessContext
from addons.relay.pages import Page, Pages
from connector_store.domain.base.headers import Header, Headers
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import AccessResult, Granted, Identity, Refused, Unavailable
from connector_store.domain.credential.bearer_token import BEARER_TOKEN_SECRET, BearerToken
from connector_store.domain.decision.decide import ProxyLimits
from connector_store.domain.decision.denial import Deny
from connector_store.domain.kubeconfig.proxy_service import alias_url
from connector_store.domain.objects.models import Address, Connector, InvalidConnector, Secret, Target
from connector_store.store import Store
from tests.fakes.target_tokens import fixed_target_tokens

KEY = ObjectKey("team-a", "k8s")
BROKEN = ObjectKey("team-a", "broken")
GRANTED = Granted(identity=Identity(user="u"))


class FakeAccess:
    """Access that returns the given results. `checks` lists the calls of `check`."""

    revocation_count = 0

    def __init__(self) -> None:
        self.result: AccessResult = GRANTED
        self.cached_result: AccessResult | None = None
        self.checks: list[tuple[str, ObjectKey]] = []

    def check_cached(self, token: str, key: ObjectKey) -> AccessResult | None:
        return self.cached_result

    async def check(self, token: str, key: ObjectKey, source_ip: str = "") -> AccessResult:
        self.checks.append((token, key))
        return self.result

    async def recheck_token(self, token: str, identity: Identity) -> AccessResult:
        raise AssertionError("no live connections here")

    async def recheck_use(
        self, token: str, identity: Identity, key: ObjectKey
    ) -> Literal[True] | Refused | Unavailable:
        raise AssertionError("no live connections here")


class Proxy:
    def __init__(self) -> None:
        self.access = FakeAccess()
        self.ca: bytes | None = b"PEM\n"
        self.store = Store()
        self.store.replace(
            "test",
            [
                Connector(key=KEY, class_name="k8s", address=Address(host="h", port=6443), secret_name="s"),
                Secret(key=ObjectKey("team-a", "s"), type=BEARER_TOKEN_SECRET, credential=BearerToken("target-canary")),
                InvalidConnector(
                    key=BROKEN, class_name="k8s", reason="AddressInvalid", message="spec.address: no host"
                ),
            ],
        )
        self.pages = Pages(
            access_context=AccessContext(
                unsynced=self.store.unsynced_sources,
                access=self.access,
                target_tokens=fixed_target_tokens(self.store.get),
                policy=ProxyLimits(),
            ),
            ca=lambda: self.ca,
            proxy_url=self.url,
        )

    async def url(self, target: Target, host: str) -> str:
        return f"http://{host}" if host else alias_url(target.key, "cluster.local")

    async def get(self, target: bytes, *headers: Header, method: bytes = b"GET") -> Page | Deny:
        return await self.pages.respond(method, target, Headers(headers), "192.0.2.1")

    async def get_refusal(self, target: bytes, *headers: Header, method: bytes = b"GET") -> Deny:
        response = await self.get(target, *headers, method=method)
        assert isinstance(response, Deny)
        return response


def basic(user: str = "team-a%2Fk8s", token: str = "caller-token") -> Header:
    return b"Authorization", b"Basic " + base64.b64encode(f"{user}:{token}".encode())


async def test_anyone_gets_the_ca() -> None:
    assert await Proxy().get(b"/ca.crt") == Page(content_type=b"application/x-pem-file", body=b"PEM\n")


async def test_a_caller_gets_a_kubeconfig_without_the_credential() -> None:
    proxy = Proxy()
    page = await proxy.get(b"/kubeconfig", basic())
    assert isinstance(page, Page)
    cluster = yaml.safe_load(page.body)["clusters"][0]["cluster"]
    assert cluster["server"] == "https://h:6443"
    assert cluster["proxy-url"] == "http://team-a%2Fk8s:caller-token@c-k8s.team-a.svc.cluster.local:80"
    assert b"target-canary" not in page.body
    assert proxy.access.checks == [("caller-token", KEY)]


@pytest.mark.parametrize("query", [b"direct", b"x=1&direct"])
async def test_for_direct_access_the_kubeconfig_has_the_proxy_as_server(query: bytes) -> None:
    page = await Proxy().get(b"/kubeconfig?" + query, basic())
    assert isinstance(page, Page)
    config = yaml.safe_load(page.body)
    assert config["clusters"][0]["cluster"].keys() == {"server", "certificate-authority-data"}
    assert config["clusters"][0]["cluster"]["server"] == "https://c-k8s.team-a.svc.cluster.local"
    assert config["users"][0]["user"] == {"token": "caller-token"}


async def test_a_cached_access_result_needs_no_check() -> None:
    proxy = Proxy()
    proxy.access.cached_result = GRANTED
    assert isinstance(await proxy.get(b"/kubeconfig", basic()), Page)
    assert proxy.access.checks == []


async def test_the_host_header_becomes_the_proxy_url() -> None:
    page = await Proxy().get(b"/kubeconfig", basic(), (b"Host", b"127.0.0.1:8080"))
    assert isinstance(page, Page)
    assert b"@127.0.0.1:8080" in page.body


@pytest.mark.parametrize("host", [b"a b:c", b"h/../x", b"u:p@h", b"[::1"])
async def test_an_invalid_host_is_refused(host: bytes) -> None:
    assert (await Proxy().get_refusal(b"/kubeconfig", basic(), (b"Host", host))).status == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param([], 401, id="no credentials"),
        pytest.param([(b"Authorization", b"Bearer x")], 401, id="another scheme"),
        pytest.param([basic(), basic()], 401, id="credentials twice"),
        pytest.param([basic(token="x")], 401, id="the password that defers authentication into a tunnel"),
    ],
)
async def test_without_usable_credentials_a_caller_gets_401(headers: list[Header], status: int) -> None:
    proxy = Proxy()
    response = await proxy.get_refusal(b"/kubeconfig", *headers)
    assert response.status == status
    assert (b"WWW-Authenticate", b'Basic realm="connectors"') in response.headers
    assert proxy.access.checks == []


@pytest.mark.parametrize(
    ("result", "status"),
    [
        pytest.param(Refused(check="token", reason="expired"), 401, id="a bad token"),
        pytest.param(Refused(check="use", reason="no"), 403, id="a caller without the right"),
        pytest.param(Unavailable(reason="down", retry_after=3), 503, id="an unavailable API server"),
    ],
)
async def test_the_access_result_decides(result: AccessResult, status: int) -> None:
    proxy = Proxy()
    proxy.access.result = result
    assert (await proxy.get_refusal(b"/kubeconfig", basic())).status == status


async def test_an_unknown_connector_and_a_forbidden_one_look_the_same() -> None:
    proxy = Proxy()
    missing = await proxy.get_refusal(b"/kubeconfig", basic("team-a/gone"))
    proxy.access.result = Refused(check="use", reason="no")
    forbidden = await proxy.get_refusal(b"/kubeconfig", basic("team-a/gone"))
    assert missing == forbidden


async def test_an_unusable_connector_is_refused_with_the_field_to_fix() -> None:
    response = await Proxy().get_refusal(b"/kubeconfig", basic("team-a/broken"))
    assert response.status == 503
    assert "spec.address" in json.loads(response.body)["message"]


async def test_before_the_first_sync_and_without_a_ca_pages_get_503() -> None:
    proxy = Proxy()
    proxy.store.expect("more")
    assert (await proxy.get_refusal(b"/kubeconfig", basic())).status == 503
    proxy.ca = None
    assert (await proxy.get_refusal(b"/ca.crt")).status == 503


@pytest.mark.parametrize(
    ("method", "target"),
    [(b"GET", b"/"), (b"GET", b"/ca.crt/"), (b"POST", b"/ca.crt"), (b"GET", b"*"), (b"GET", b"/CA.crt")],
)
async def test_other_paths_and_methods_get_404(method: bytes, target: bytes) -> None:
    assert (await Proxy().get_refusal(target, method=method)).status == 404


async def test_head_and_a_query_are_accepted() -> None:
    assert isinstance(await Proxy().get(b"/ca.crt?x", method=b"HEAD"), Page)
