from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.settings import Settings
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import CONFIG_MAPS
from connector_store.kube.shared_settings import read_settings
from tests.fakes.api_server import FakeApiServer, refusal

POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
CONFIG_MAP = {
    "metadata": {"name": "connectors-config", "namespace": "connectors-system"},
    "data": {"targets-deny": "10.0.0.0/8"},
}


@pytest.fixture
async def server() -> AsyncIterator[FakeApiServer]:
    async with FakeApiServer().serving() as server:
        yield server


async def read(server: FakeApiServer, **more: Any) -> Settings:
    arguments: dict[str, Any] = {"explicit": {}, "environ": POD, "initial_backoff": 0.01} | more
    async with KubeClient(server.configuration) as client:
        return await read_settings(client, **arguments)


def first(count: int, answer: Callable[[], web.Response]) -> Callable[[web.Request], web.Response | None]:
    """Return a fault for the first `count` requests."""
    remaining = iter(range(count))

    def fault(request: web.Request) -> web.Response | None:
        return answer() if next(remaining, None) is not None else None

    return fault


async def test_the_settings_are_those_of_the_config_map(server: FakeApiServer) -> None:
    await server.put(CONFIG_MAPS, CONFIG_MAP)
    settings = await read(server, explicit={"audience": "mine"})
    assert ([str(each) for each in settings.targets_deny], settings.audience) == (["10.0.0.0/8"], "mine")
    assert settings.in_cluster
    assert not (await read(server, in_cluster=False)).in_cluster


async def test_the_config_map_is_read_with_list(server: FakeApiServer) -> None:
    await read(server, environ=POD | {"CONNECTORS_SYSTEM_NAMESPACE": "other"})
    ((method, path, query),) = server.requests
    assert (method, path) == ("GET", "/api/v1/namespaces/other/configmaps")
    assert query["fieldSelector"] == "metadata.name=connectors-config"


async def test_without_a_config_map_the_defaults_apply(server: FakeApiServer) -> None:
    assert await read(server) == Settings(in_cluster=True)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(lambda: refusal(403, "Forbidden", "no right yet"), id="403"),
        pytest.param(lambda: refusal(401, "Unauthorized", "who is that"), id="401"),
        pytest.param(lambda: refusal(500, "InternalError", "etcd"), id="500"),
        pytest.param(lambda: refusal(429, "TooManyRequests", "later", {"Retry-After": "0"}), id="429"),
        pytest.param(lambda: web.Response(text="<html>"), id="no JSON"),
    ],
)
async def test_in_a_pod_nothing_is_guessed(
    server: FakeApiServer, answer: Callable[[], web.Response], caplog: pytest.LogCaptureFixture
) -> None:
    await server.put(CONFIG_MAPS, CONFIG_MAP)
    server.faults.append(first(3, answer))
    problems: list[str] = []
    settings = await read(server, on_problem=problems.append)
    assert [str(each) for each in settings.targets_deny] == ["10.0.0.0/8"]
    assert len(problems) == 3
    assert 'configmaps "connectors-config" in namespace "connectors-system" cannot be read' in problems[0]
    assert len([each for each in caplog.messages if "cannot be read" in each]) == 1


@pytest.mark.parametrize("status", [401, 403])
async def test_outside_of_a_pod_a_missing_right_means_defaults_and_is_logged(
    server: FakeApiServer, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    await server.put(CONFIG_MAPS, CONFIG_MAP)
    server.faults.append(first(1, lambda: refusal(status, "", "no")))
    settings = await read(server, environ={})
    assert settings.targets_deny == ()
    assert "the defaults apply" in caplog.text


async def test_outside_of_a_pod_a_failed_read_is_retried(server: FakeApiServer) -> None:
    await server.put(CONFIG_MAPS, CONFIG_MAP)
    server.faults.append(first(2, lambda: refusal(503, "", "no")))
    assert (await read(server, environ={})).targets_deny != ()


async def test_an_invalid_config_map_is_an_error_or_is_read_again(server: FakeApiServer) -> None:
    await server.put(CONFIG_MAPS, CONFIG_MAP | {"data": {"access": "nonsense"}})
    with pytest.raises(ParseError, match="connectors-config key access"):
        await read(server)
    fixed = False

    def mend(problem: str) -> None:
        nonlocal fixed
        assert "connectors-config key access" in problem
        if not fixed:
            fixed = True
            server.faults.append(lambda request: web.json_response({"items": [{"data": {"access": "get:connectors"}}]}))

    settings = await read(server, until_valid=True, on_problem=mend)
    assert str(settings.access) == "get:connectors"


async def test_an_invalid_environment_is_an_error(server: FakeApiServer) -> None:
    with pytest.raises(ParseError, match="CONNECTORS_ACCESS"):
        await read(server, environ=POD | {"CONNECTORS_ACCESS": "nonsense"}, until_valid=True)
    assert not server.requests


async def test_keys_without_effect_are_logged_with_the_likely_setting(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    data = {"targets-denny": "10.0.0.0/8", "enable-b": "true", "enable-a": "true"}
    await server.put(CONFIG_MAPS, CONFIG_MAP | {"data": data})
    settings = await read(server)
    assert (settings.targets_deny, settings.unknown_keys) == ((), ("targets-denny",))
    source = 'configmaps "connectors-config" in namespace "connectors-system"'
    assert caplog.messages == [
        f"{source}: key targets-denny is not a setting and has no effect; did you mean targets-deny?",
        f"{source}: feature flags of the Alauda product have no effect: enable-a, enable-b",
    ]
