"""A running proxy whose wall clock moves: clients still get through, with verified certificates.

Only the wall clock of the proxy and of its clients moves, with libfaketime. The monotonic clock, the target and the
file system keep theirs. libfaketime does not work with libuv, so the proxy runs on asyncio's event loop, as mitmdump
does.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.folder.caller_tokens import SigningKey
from lab.certificates import KeyPair, make_ca, make_leaf
from lab.targets import TargetServer
from tests.addons import aged_client
from tests.cluster.proxy.running_proxy import AUDIENCE, RunningProxy
from tests.fakes.manifests import connector, secret

pytestmark = pytest.mark.slow

DAY: Final = 24 * 3600
KEY: Final = ObjectKey("team-a", "k8s")
TIMEOUT: Final = 60.0
ROUTES: Final = {"tunnel": 200, "path": 200, "alias": 200}
"""Status of the response by each route of `aged_client`."""


class WallClock:
    """Offset of the wall clock of all programs that run with `environment`."""

    def __init__(self, library: Path, file: Path) -> None:
        self._file = file
        self.seconds = 0
        self.move(0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def move(self, seconds: int) -> None:
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"{seconds:+d}\n")
        draft.replace(self._file)
        self.seconds = seconds

    def now(self) -> float:
        return time.time() + self.seconds


@pytest.fixture
def clock(tmp_path: Path) -> WallClock:
    libraries = [*Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")]
    if not libraries:
        pytest.skip("libfaketime is not installed; install it with: scripts/install --node")
    return WallClock(libraries[0], tmp_path / "offset")


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
        pid = proxy.process.pid
        yield proxy
    # libfaketime leaves them when its process ends by a signal.
    for path in Path("/dev/shm").glob(f"*faketime_*_{pid}"):
        path.unlink()


def call(proxy: RunningProxy, target: TargetServer, clock: WallClock) -> dict[str, object]:
    """Return the status of the response by each route, or the error."""
    token = SigningKey.load_or_create(proxy.confdir).issue(KEY, ttl=3600, now=clock.now(), audience=AUDIENCE)
    arguments = {"port": proxy.port, "target": f"127.0.0.1:{target.port}", "key": str(KEY), "token": token}
    command = [sys.executable, aged_client.__file__, str(proxy.confdir / "mitmproxy-ca-cert.pem")]
    output = subprocess.run(
        command,
        input=json.dumps(arguments),
        env=os.environ | clock.environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=TIMEOUT,
    )
    results: dict[str, object] = json.loads(output.stdout)
    return results


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
    assert call(proxy, target, clock) == ROUTES
    clock.move(seconds)
    assert call(proxy, target, clock) == ROUTES
    assert proxy.admin("/readyz")[0] == 200
