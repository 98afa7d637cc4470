"""The load generator, the target and the measuring, small, on stock mitmdump: the one peer that is always there."""

import os
import shutil
from collections.abc import Iterator

import pytest

from bench.before import BEFORE, compute_changes
from bench.cases import Case, make_cases
from bench.checkout import ROOT, find_checkout
from bench.compare import PEERS, compare, start_checkout
from bench.measure import measure
from bench.peers.connector_proxy import accepts_tls, start_proxy
from bench.peers.endpoint import Endpoint
from bench.peers.stock import mitmdump, no_proxy
from bench.testbed import Testbed, open_testbed
from bench.where import profile, shares

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("go") and "CI" not in os.environ, reason="the load generator needs Go"),
]


@pytest.fixture(scope="module")
def scene() -> Iterator[Testbed]:
    with open_testbed() as made:
        yield made


@pytest.fixture(scope="module")
def peer(scene: Testbed) -> Iterator[Endpoint]:
    started = mitmdump(scene)
    yield started
    started.process.stop()


@pytest.mark.parametrize("case", make_cases(seconds=0.3, size=1 << 20, streams=3), ids=lambda case: case.name)
def test_every_case_gives_positive_figures(scene: Testbed, peer: Endpoint, case: Case) -> None:
    figures = case.figures(measure(scene, peer, case.mode, peak=False, **case.flags))
    assert figures
    assert all(value >= 0 for value in figures.values())


@pytest.mark.parametrize("protocol", ["websocket", "SPDY/3.1"])
def test_output_over_an_upgrade_arrives_whole(scene: Testbed, peer: Endpoint, protocol: str) -> None:
    assert measure(scene, peer, "exec", bytes=1 << 20, protocol=protocol).result["bytes"] == 1 << 20


def test_a_watch_counts_its_events(scene: Testbed, peer: Endpoint) -> None:
    assert measure(scene, peer, "watch", query="events=500").result["events"] == 500


def test_without_a_proxy_the_caller_holds_the_credential(scene: Testbed) -> None:
    target = no_proxy(scene)
    try:
        assert measure(scene, target, "warm", duration="100ms").result["errors"] == 0
    finally:
        target.process.stop()


def test_ours_serves_with_and_without_connect_and_a_profile_says_where_the_time_goes(scene: Testbed) -> None:
    case = next(case for case in make_cases(seconds=0.3, size=1, streams=1) if case.name == "direct, new connection")
    peer = start_proxy(scene)
    try:
        for each in (peer, peer.direct):
            assert each is not None
            assert case.figures(measure(scene, each, case.mode, peak=False, **case.flags))
    finally:
        peer.process.stop()
    found = shares(*profile(scene, case))
    assert {"the kernel", "TLS", "addons/net/tcp.py"} <= found.keys()
    assert 0 < found["the kernel"] < 1
    assert sum(found.values()) == pytest.approx(1)


def test_a_profile_of_a_download_is_one_of_its_bytes(scene: Testbed) -> None:
    case = next(case for case in make_cases(seconds=1, size=1 << 30, streams=1) if case.name == "down")
    found = shares(*profile(scene, case))
    assert {"the kernel", "TLS", "addons/net/tls.py"} <= found.keys()
    assert sum(found.values()) == pytest.approx(1)


def test_another_checkout_takes_turns_with_this_one() -> None:
    chosen = [
        case for case in make_cases(seconds=0.2, size=1, streams=1) if case.name in ("warm, 8 clients", "direct, warm")
    ]
    peers = {name: PEERS[name] for name in ("ours", "ours, mitmdump")} | {BEFORE: start_checkout(find_checkout(ROOT))}
    report = compare(peers, chosen, rounds=2)
    assert not report["failures"]
    assert {case.name: set(report["raw"][case.name]) for case in chosen} == {case.name: set(peers) for case in chosen}
    assert {change.case for change in compute_changes(report["raw"])} == {case.name for case in chosen}


@pytest.mark.parametrize(
    ("address", "there"),
    [
        pytest.param("target", True, id="where there is TLS at the port"),
        pytest.param("faulty", False, id="where there is none"),
    ],
)
def test_a_checkout_without_the_direct_door_is_not_asked_there(scene: Testbed, address: str, there: bool) -> None:
    proxy = Endpoint(
        name="a proxy", process=scene.target_process, proxy=getattr(scene, address), target="", ca=scene.target_ca.cert
    )
    assert accepts_tls(proxy) is there


def test_a_proxy_that_puts_no_credential_on_the_wire_measures_nothing(scene: Testbed) -> None:
    direct = Endpoint(
        name="direct", process=scene.target_process, proxy="", target=scene.target, ca=scene.target_ca.cert
    )
    with pytest.raises(RuntimeError, match="answer 401"):
        measure(scene, direct, "warm", duration="100ms")
