import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.settings import Settings
from connector_store.kube import shared_settings
from connector_store.kube.client import KubeClient
from connector_store.kube.resources import CONFIG_MAPS, ROLE_BINDINGS
from connector_store.kube.shared_settings import SharedSettings
from tests.fakes.api_server import FakeApiServer, refusal
from tests.fakes.waiting import until

POD = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
CONFIG_MAP = {
    "metadata": {"name": "connectors-config", "namespace": "connectors-system"},
    "data": {"targets-deny": "10.0.0.0/8"},
}


async def read(server: FakeApiServer, **more: Any) -> Settings:
    reading = {key: more.pop(key) for key in ("until_valid", "on_problem") if key in more}
    arguments: dict[str, Any] = {"explicit": {}, "environ": POD} | more
    async with KubeClient(server.configuration) as client:
        return await SharedSettings(client, "addons", **arguments).read(initial_backoff=0.01, **reading)


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


def config(**data: str) -> dict[str, Any]:
    return CONFIG_MAP | {"data": {key.replace("_", "-"): value for key, value in data.items()}}


def binding(namespace: str, name: str = "connectors-proxy-namespace", *, day: int = 1) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": f"2026-01-{day:02}T00:00:00Z"}
    return {"metadata": metadata, "roleRef": {}, "subjects": []}


@asynccontextmanager
async def following(server: FakeApiServer, **more: Any) -> AsyncIterator[tuple[SharedSettings, list[Settings]]]:
    """Follow the settings. The list gets each new value."""
    async with KubeClient(server.configuration) as client:
        shared = SharedSettings(client, "addons", **{"explicit": {}, "environ": POD} | more)
        await shared.read()
        changes: list[Settings] = []
        shared.subscribe(changes.append)
        task = asyncio.create_task(shared.follow())
        try:
            yield shared, changes
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def test_live_settings_are_followed_and_others_wait_for_a_restart(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.put(CONFIG_MAPS, config(targets_deny="10.0.0.0/8", drain="30"))
    async with following(server, explicit={"log-format": "json"}) as (shared, changes):
        await server.put(
            CONFIG_MAPS,
            config(targets_deny="192.0.2.0/24", drain="90", namespaces="team-a", log_format="text", probe_interval="5"),
        )
        await until(lambda: shared.current.namespaces == ("team-a",))
        (settings,) = changes
        assert settings == shared.current
        assert ([str(each) for each in settings.targets_deny], settings.probe_interval) == (["192.0.2.0/24"], 5.0)
        assert (settings.drain, settings.log_format) == (30.0, "json")
    assert caplog.messages == [
        'configmaps "connectors-config" in namespace "connectors-system": restart this program to apply drain'
    ]


async def test_a_config_map_that_changes_nothing_is_not_reported(server: FakeApiServer) -> None:
    await server.put(CONFIG_MAPS, config(targets_deny="10.0.0.0/8"))
    async with following(server) as (shared, changes):
        await until(lambda: any(path.endswith("/configmaps") for path in server.watched_paths))
        await server.put(CONFIG_MAPS, config(targets_deny="10.0.0.0/8", audience="connectors-proxy"))
        await server.put(CONFIG_MAPS, config(targets_deny="10.0.0.0/8", expiry_warning="5"))
        await until(lambda: shared.current.expiry_warning == 5)
        assert len(changes) == 1


async def test_a_config_map_that_is_wrong_or_deleted_leaves_the_settings_as_they_are(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    await server.put(CONFIG_MAPS, config(targets_deny="10.0.0.0/8"))
    async with following(server) as (shared, changes):
        await server.put(CONFIG_MAPS, config(targets_deny="everything", namespaces="team-a"))
        await until(lambda: shared.is_rejected)
        await server.put(CONFIG_MAPS, config(targets_deny="10.0.0.0/8"))
        await until(lambda: not shared.is_rejected)
        await server.delete(CONFIG_MAPS, "connectors-config", "connectors-system")
        await until(lambda: shared.is_rejected)
        assert not changes
        assert [str(each) for each in shared.current.targets_deny] == ["10.0.0.0/8"]
        await server.put(CONFIG_MAPS, config())
        await until(lambda: shared.current.targets_deny == () and not shared.is_rejected)
    wrong, deleted = (each for each in caplog.messages if "stay in effect" in each)
    assert "connectors-config key targets-deny" in wrong
    assert "was deleted" in deleted


async def test_a_config_map_that_never_was_is_not_missed_and_is_followed_when_it_comes(
    server: FakeApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with following(server) as (shared, _):
        await until(lambda: any(path.endswith("/configmaps") for path in server.watched_paths))
        assert not shared.is_rejected
        await server.put(CONFIG_MAPS, config(targets_deny="10.0.0.0/8", targets_denny="1"))
        await until(lambda: shared.current.targets_deny != ())
    (unknown,) = caplog.messages
    assert "targets-denny is not a setting" in unknown


def namespaces_of(shared: SharedSettings) -> tuple[str, ...] | None:
    return shared.current.namespaces


async def test_role_bindings_select_the_namespaces(server: FakeApiServer) -> None:
    await server.put(CONFIG_MAPS, config(namespaces="RoleBinding"))
    await server.put(ROLE_BINDINGS, binding("team-b"))
    await server.put(ROLE_BINDINGS, binding("team-c", name="another"))
    async with following(server) as (shared, _):
        assert namespaces_of(shared) == ("team-b",), "before the program is ready"
        await server.put(ROLE_BINDINGS, binding("team-a"))
        await until(lambda: namespaces_of(shared) == ("team-a", "team-b"))
        await server.put(CONFIG_MAPS, config(namespaces="RoleBinding", expiry_warning="5"))
        await until(lambda: shared.current.expiry_warning == 5)
        assert namespaces_of(shared) == ("team-a", "team-b")
        await server.delete(ROLE_BINDINGS, "connectors-proxy-namespace", "team-b")
        await until(lambda: namespaces_of(shared) == ("team-a",))
    queries = [query for _, path, query in server.requests if path.endswith("/rolebindings")]
    assert {each["fieldSelector"] for each in queries} == {"metadata.name=connectors-proxy-namespace"}


async def test_of_too_many_role_bindings_the_oldest_select_the_namespaces(
    server: FakeApiServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shared_settings, "MAX_NAMESPACES", 2)
    await server.put(CONFIG_MAPS, config(namespaces="RoleBinding"))
    await server.put(ROLE_BINDINGS, binding("team-b", day=1))
    await server.put(ROLE_BINDINGS, binding("team-c", day=3))
    async with following(server) as (shared, _):
        assert namespaces_of(shared) == ("team-b", "team-c")
        assert not caplog.messages
        await server.put(ROLE_BINDINGS, binding("team-a", day=4))
        await until(lambda: caplog.messages)
        assert namespaces_of(shared) == ("team-b", "team-c")
        assert namespaces_of(shared) == (await read(server)).namespaces, "after a restart, too"
        await server.delete(ROLE_BINDINGS, "connectors-proxy-namespace", "team-b")
        await until(lambda: namespaces_of(shared) == ("team-a", "team-c"))
        await server.put(ROLE_BINDINGS, binding("team-b", day=5))
        await server.put(ROLE_BINDINGS, binding("team-c", day=6))
        await until(lambda: namespaces_of(shared) == ("team-a", "team-b"))
    assert caplog.messages[0] == (
        '3 namespaces have rolebindings "connectors-proxy-namespace", but at most 2 are served; '
        "the newest are not, such as team-a; leave the setting namespaces empty to serve all"
    )


async def test_the_way_in_which_namespaces_are_selected_is_followed(server: FakeApiServer) -> None:
    def watches_bindings() -> bool:
        return any(path.endswith("/rolebindings") for path in server.watched_paths)

    await server.put(CONFIG_MAPS, config(namespaces="team-a,team-z"))
    await server.put(ROLE_BINDINGS, binding("team-b"))
    async with following(server) as (shared, changes):
        await server.put(CONFIG_MAPS, config(namespaces="RoleBinding"))
        await until(lambda: shared.current.namespaces == ("team-b",))
        namespaces: list[tuple[str, ...] | None] = [each.namespaces for each in changes]
        assert namespaces == [("team-a", "team-z"), ("team-b",)], "never all of them"
        await server.put(CONFIG_MAPS, config(namespaces=""))
        await until(lambda: shared.current.namespaces is None and not watches_bindings())
        await server.put(ROLE_BINDINGS, binding("team-c"))
        await server.put(CONFIG_MAPS, config(namespaces="team-a"))
        await until(lambda: shared.current.namespaces == ("team-a",))


async def test_without_the_right_to_read_role_bindings_nothing_is_guessed(server: FakeApiServer) -> None:
    await server.put(CONFIG_MAPS, config(namespaces="RoleBinding"))
    refusals = first(2, lambda: refusal(403, "Forbidden", "no right yet"))
    server.faults.append(lambda request: refusals(request) if request.path.endswith("/rolebindings") else None)
    problems: list[str] = []
    assert (await read(server, on_problem=problems.append)).namespaces == ()
    assert problems[0].startswith('rolebindings "connectors-proxy-namespace", which select the namespaces, cannot be')


async def test_outside_of_a_pod_settings_that_may_not_be_read_are_not_followed(server: FakeApiServer) -> None:
    server.faults.append(first(1, lambda: refusal(403, "", "no")))
    async with following(server, environ={}):
        await server.put(CONFIG_MAPS, config(targets_deny="10.0.0.0/8"))
    assert [query.get("watch") for _, _, query in server.requests] == [None]
