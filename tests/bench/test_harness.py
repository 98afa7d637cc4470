"""Small runs of the load generator, the target and the measurements on mitmdump, the peer that is always installed."""

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

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("go") and "CI" not in os.environ, reason="the load generator needs Go"),
]


@pytest.fixture(scope="module")
def testbed() -> Iterator[Testbed]:
    with open_testbed() as running:
        yield running


@pytest.fixture(scope="module")
def peer(testbed: Testbed) -> Iterator[Endpoint]:
    started = mitmdump(testbed)
    yield started
    started.process.stop()


@pytest.mark.parametrize("case", make_cases(seconds=1, size=1 << 20, streams=3), ids=lambda case: case.name)
def test_every_case_gives_positive_figures(testbed: Testbed, peer: Endpoint, case: Case) -> None:
    figures = case.figures(measure(testbed, peer, case.mode, peak=False, **case.flags))
    assert figures
    assert all(value >= 0 for value in figures.values())


@pytest.mark.parametrize("protocol", ["websocket", "SPDY/3.1"])
def test_output_over_an_upgrade_arrives_whole(testbed: Testbed, peer: Endpoint, protocol: str) -> None:
    assert measure(testbed, peer, "exec", bytes=1 << 20, protocol=protocol).result["bytes"] == 1 << 20


def test_a_watch_counts_its_events(testbed: Testbed, peer: Endpoint) -> None:
    assert measure(testbed, peer, "watch", query="events=500").result["events"] == 500


def test_without_a_proxy_the_client_has_the_credential(testbed: Testbed) -> None:
    target = no_proxy(testbed)
    try:
        assert measure(testbed, target, "warm", duration="100ms").result["errors"] == 0
    finally:
        target.process.stop()


def test_our_proxy_serves_connect_tunnels_and_direct_access(testbed: Testbed) -> None:
    case = next(case for case in make_cases(seconds=0.3, size=1, streams=1) if case.name == "direct, new connection")
    peer = start_proxy(testbed)
    try:
        for endpoint in (peer, peer.direct):
            assert endpoint is not None
            assert case.figures(measure(testbed, endpoint, case.mode, peak=False, **case.flags))
    finally:
        peer.process.stop()


def test_another_checkout_takes_turns_with_this_one() -> None:
    cases = [
        case for case in make_cases(seconds=0.2, size=1, streams=1) if case.name in ("warm, 8 clients", "direct, warm")
    ]
    peers = {name: PEERS[name] for name in ("ours", "ours, mitmdump")} | {BEFORE: start_checkout(find_checkout(ROOT))}
    report = compare(peers, cases, rounds=2)
    assert not report["failures"]
    assert {case.name: set(report["raw"][case.name]) for case in cases} == {case.name: set(peers) for case in cases}
    assert {change.case for change in compute_changes(report["raw"])} == {case.name for case in cases}


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        pytest.param("target", True, id="the port accepts TLS"),
        pytest.param("faulty", False, id="the handshake fails"),
    ],
)
def test_support_of_direct_access_is_detected_by_tls_at_the_port(
    testbed: Testbed, address: str, expected: bool
) -> None:
    proxy = Endpoint(
        name="a proxy",
        process=testbed.target_process,
        proxy=getattr(testbed, address),
        target="",
        ca=testbed.target_ca.cert,
    )
    assert accepts_tls(proxy) is expected


def test_a_proxy_that_adds_no_credential_is_an_error(testbed: Testbed) -> None:
    direct = Endpoint(
        name="direct", process=testbed.target_process, proxy="", target=testbed.target, ca=testbed.target_ca.cert
    )
    with pytest.raises(RuntimeError, match="answer 401"):
        measure(testbed, direct, "warm", duration="100ms")
