"""Each private name of mitmproxy that the proxy uses is there, and does what the proxy needs."""

import inspect
from typing import Any

import pytest
from mitmproxy import exceptions
from mitmproxy.addonmanager import AddonManager
from mitmproxy.hooks import Hook, RunningHook
from mitmproxy.options import Options
from mitmproxy.proxy.layers.http import _hooks
from mitmproxy.proxy.mode_servers import RegularInstance
from mitmproxy.test import taddons

from addons.net import mitmproxy_private as private


@pytest.mark.parametrize("name", [each for each in private.__all__ if each.startswith("Http")])
def test_a_hook_has_a_flow(name: str) -> None:
    hook = getattr(private, name)
    assert hook is getattr(_hooks, name)
    assert issubclass(hook, Hook)
    assert list(inspect.signature(hook).parameters) == ["flow"]


def test_options_that_are_not_declared_yet_keep_their_texts() -> None:
    options = Options()
    options.set("later=one", defer=True)
    options.update_defer(parsed="two")
    assert {name: list(texts) for name, texts in private.deferred_values(options).items()} == {"later": ["one"]}


def test_an_option_parses_its_text() -> None:
    options = Options()
    assert private.parse_value(options, "listen_port", ["8080"]) == 8080
    with pytest.raises(exceptions.OptionsError):
        private.parse_value(options, "listen_port", ["none"])
    assert private.is_text_option(options, "listen_host")
    assert not private.is_text_option(options, "http2")


def test_an_option_is_unset_until_it_is_set() -> None:
    options = Options()
    assert private.is_unset(options, "listen_host")
    assert not private.is_unset(options, "unknown")
    options.update(listen_host="127.0.0.1")
    assert not private.is_unset(options, "listen_host")


async def test_methods_of_the_addon_manager_are_called_through_the_instance() -> None:
    calls: list[str] = []

    def call(addon: Any) -> Any:
        calls.append(addon)
        return addon

    async def trigger_event(event: Hook) -> None:
        calls.append("event")

    with taddons.context() as context:
        addons: AddonManager = context.master.addons
        remove = addons.remove
        private.replace_methods(addons, register=call, remove=call, trigger_event=trigger_event)
        addons.register("register")
        addons.remove("remove")
        await addons.trigger_event(RunningHook())
        assert calls == ["register", "remove", "event"]
        addons.remove = remove  # type: ignore[method-assign]  # the context removes its own addons


def test_a_server_instance_has_its_servers() -> None:
    instance = RegularInstance.__new__(RegularInstance)
    private.set_servers(instance, ["server"])
    assert instance.is_running
    assert private.get_servers(instance) == ["server"]
