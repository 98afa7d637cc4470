"""Clients of many languages take the proxy for the API server, by the files of a service account and by kubeconfigs.

Some speak TLS to it as a proxy, too.
"""

import subprocess

import pytest

from lab.waiting import wait_until
from tests.clients.client_runs import CLIENT_METHODS, ClientRuns, run_name

PATIENCE = 600.0
"""Seconds for a client to see that its token was replaced, most a minute: all of them at once, on a busy machine."""
NAMES = [run_name(client, way) for client, way in CLIENT_METHODS]
RENEWED = [run_name(client, way) for client, way in CLIENT_METHODS if way.can_renew]
WRITES = {"patch", "create", "update"}


@pytest.mark.parametrize("name", NAMES)
def test_a_client_gets_lists_writes_and_watches(world: ClientRuns, name: str) -> None:
    run = world.runs[name]
    assert run.has_begun(), run.output()
    # The proxy writes its lines a little later than its answers.
    wait_until(
        lambda: carried_all(world.audited_verbs(run), run.client), f"the proxy to say what it has carried for {name}"
    )


def carried_all(verbs: set[str], client: str) -> bool:
    return {"get", "list"} <= verbs and bool(verbs & WRITES) and ("watch" in verbs or client == "ansible")


@pytest.mark.parametrize("name", RENEWED)
def test_it_keeps_working_after_its_token_was_renewed(renewed: ClientRuns, name: str) -> None:
    """Only with the second token it can see what was written after the end of the first, and answer."""
    run = renewed.runs[name]
    try:
        code = run.process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        pytest.fail(run.output()[-4000:])
    assert code == 0, run.output()[-4000:]
    assert renewed.state_of(run) == "fourth"
