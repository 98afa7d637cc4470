"""A running proxy whose wall clock moves: clients still get through, with verified certificates.

Only the wall clock of the proxy and of its clients moves. `tests/cluster/test_aging.py` has the same in a cluster.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.folder.signing_key import SigningKey
from lab.certificates import KeyPair, make_ca, make_leaf
from lab.targets import TargetServer
from lab.wall_clock import DAY, WallClock
from tests.addons.aged_client import ALL_SERVED, call_each_route
from tests.cluster.proxy.running_proxy import AUDIENCE, RunningProxy
from tests.fakes.manifests import connector, secret

pytestmark = pytest.mark.slow

KEY: Final = ObjectKey("team-a", "k8s")


@pytest.fixture(scope="module")
def lasting_ca() -> KeyPair:
    return make_ca("target CA", days=800)


@pytest.fixture
def target(lasting_ca: KeyPair) -> Iterator[TargetServer]:
    server = TargetServer(make_leaf(lasting_ca, ["127.0.0.1"], days=800))
    yield server
    server.close()


@pytest.fixture
def proxy(tmp_path: Path, clock: WallClock, target: TargetServer, lasting_ca: KeyPair) -> Iterator[RunningProxy]:
    proxy = RunningProxy(tmp_path / "proxy", environment=clock.environment)
    proxy.write("k8s.yaml", connector("k8s", target.address), secret(ca=lasting_ca.pem))
    with proxy:
        yield proxy


def call(proxy: RunningProxy, target: TargetServer, clock: WallClock) -> dict[str, object]:
    """Return the status of the response by each route, or the error."""
    token = SigningKey.load_or_create(proxy.confdir).issue(KEY, ttl=3600, now=clock.now(), audience=AUDIENCE)
    return call_each_route(
        proxy.confdir / "mitmproxy-ca-cert.pem",
        port=proxy.port,
        target=f"127.0.0.1:{target.port}",
        key=KEY,
        token=token,
        environment=clock.environment,
    )


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(DAY, id="a day"),
        pytest.param(200 * DAY, id="200 days"),
        pytest.param(400 * DAY, id="400 days"),
        pytest.param(-3600, id="an hour back"),
    ],
)
def test_clients_get_through_after_the_wall_clock_moved(
    proxy: RunningProxy, target: TargetServer, clock: WallClock, seconds: int
) -> None:
    assert call(proxy, target, clock) == ALL_SERVED
    clock.move(seconds)
    assert call(proxy, target, clock) == ALL_SERVED
    assert proxy.admin("/readyz")[0] == 200
