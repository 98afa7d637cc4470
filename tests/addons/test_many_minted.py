"""1,000 Connectors that mint: one TokenRequest each, one more for each renewal, and memory that is bounded."""

import collections
import http.client
import json
import re
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import jwt
import pytest

from connector_store.domain.base.names import ObjectKey
from lab.targets import CA, OK_RESPONSE, TargetServer, run_target
from lab.waiting import wait_until
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy
from tests.fakes.manifests import connector, secret

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

CONNECTORS: Final = 1000
CLIENTS: Final = 4
FIRST: Final = 12.0
"""Seconds that the first tokens live; those that replace them live an hour."""
GROWTH: Final = 20_000
"""kB for what is held of 1,000 Connectors in use (tokens, TLS contexts and sessions); it is about 5,000."""
TOKEN: Final = re.compile(rb"^POST /api/v1/namespaces/ci/serviceaccounts/(a\d+)/token ")
USED: Final = re.compile(rb"^GET .*\r\nAuthorization: Bearer ([^\r]+)\r\n", re.DOTALL | re.IGNORECASE)


class Granting:
    """A target that mints: how often by account, and which tokens requests had."""

    def __init__(self) -> None:
        self.life = FIRST
        self.asked: Counter[str] = Counter()
        self.wrong: list[bytes] = []
        self.used: collections.deque[bytes] = collections.deque()

    def __call__(self, head: bytes) -> bytes:
        if (asked := TOKEN.search(head)) is None:
            if (used := USED.search(head)) is None:
                self.wrong.append(head)
            else:
                self.used.append(used[1])
            return OK_RESPONSE
        account = asked[1].decode()
        self.asked[account] += 1
        claims = {
            "sub": account,
            "iat": 0,
            "exp": self.life,
            "jti": f"{account}-{self.asked[account]}",
            "pad": "x" * 600,
        }
        body = json.dumps({"status": {"token": jwt.encode(claims, "x" * 32, algorithm="HS256")}}).encode()
        return b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.fixture
def server() -> Iterator[tuple[TargetServer, Granting]]:
    granting = Granting()
    with run_target(granting) as made:
        yield made, granting


def manifest(number: int, address: str) -> dict[str, Any]:
    made = connector(f"c{number}", address)
    params = [{"name": "serviceAccount", "value": f"ci/a{number}"}]
    made["spec"]["auth"] |= {"name": "serviceAccountTokenAuth", "params": params}
    return made


def ask(proxy: RunningProxy, context: ssl.SSLContext, share: int) -> None:
    """One request to each Connector of a share, on one connection to the direct door."""
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, context=context, timeout=WAIT_TIMEOUT)
    for number in range(share, CONNECTORS, CLIENTS):
        key = ObjectKey("team-a", f"c{number}")
        headers = {"Authorization": f"Bearer {proxy.token(key)}"}
        connection.request("GET", f"/connectors/{key}/api/v1/pods", headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        assert (answer.status, body) == (200, b"ok")
    connection.close()


def test_each_costs_one_request_for_a_token_and_one_for_each_renewal(
    server: tuple[TargetServer, Granting], tmp_path: Path
) -> None:
    made, granting = server
    proxy = RunningProxy(tmp_path)
    proxy.write("k8s.yaml", secret(ca=CA.pem), *(manifest(number, made.address) for number in range(CONNECTORS)))
    with proxy, ThreadPoolExecutor(CLIENTS) as pool:
        context = ssl.create_default_context(cadata=proxy.ca_pem().decode())

        def round_of_all() -> None:
            for done in [pool.submit(ask, proxy, context, share) for share in range(CLIENTS)]:
                done.result()

        before = proxy.resident()
        round_of_all()
        ended = time.monotonic() + FIRST
        assert set(granting.asked.values()) == {1}
        assert len(granting.asked) == CONNECTORS
        held = proxy.resident()
        granting.life = 3600
        wait_until(lambda: time.monotonic() > ended, "the end of the first tokens")
        # Both renew: those that find a token, beside it, and those whose token has ended meanwhile.
        for _ in range(2):
            round_of_all()
            wait_until(lambda: set(granting.asked.values()) == {2}, "the second token of each")
        assert granting.wrong == []
        assert len(set(granting.used)) <= 2 * CONNECTORS
        assert len(granting.used) == 3 * CONNECTORS
        assert held - before < GROWTH
        assert proxy.resident() - held < GROWTH
