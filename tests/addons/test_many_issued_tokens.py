"""1,000 Connectors that issue tokens: one TokenRequest each, one more for each renewal, and bounded memory."""

import collections
import http.client
import json
import re
import ssl
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import jwt
import pytest

from connector_store.domain.base.names import ObjectKey
from lab.targets import CA, OK_RESPONSE, run_target
from lab.waiting import wait_until
from tests.cluster.proxy.running_proxy import WAIT_TIMEOUT, RunningProxy
from tests.fakes.manifests import connector, secret

pytestmark = [pytest.mark.slow, pytest.mark.waits, pytest.mark.timeout(1800)]

CONNECTORS: Final = 1000
CLIENTS: Final = 4
FIRST_LIFETIMES: Final = (30.0, 90.0, 360.0)
"""Lifetimes of the first tokens in seconds, for machines that are more and more busy. Later tokens live for an hour."""
GROWTH: Final = 20_000
"""Maximum growth in kB for 1,000 Connectors in use (tokens, TLS contexts and sessions). The usual growth is 5,000."""
TOKEN: Final = re.compile(rb"^POST /api/v1/namespaces/ci/serviceaccounts/(a\d+)/token ")
USED: Final = re.compile(rb"^GET .*\r\nAuthorization: Bearer ([^\r]+)\r\n", re.DOTALL | re.IGNORECASE)


class IssuingTarget:
    """Target that issues tokens. It counts TokenRequests by account and records the tokens of requests."""

    def __init__(self, lifetime: float) -> None:
        self.lifetime = lifetime
        self.token_request_counts: Counter[str] = Counter()
        self.unexpected_heads: list[bytes] = []
        self.used_tokens: collections.deque[bytes] = collections.deque()

    def __call__(self, head: bytes) -> bytes:
        if (token_request_counts := TOKEN.search(head)) is None:
            if (used_tokens := USED.search(head)) is None:
                self.unexpected_heads.append(head)
            else:
                self.used_tokens.append(used_tokens[1])
            return OK_RESPONSE
        account = token_request_counts[1].decode()
        self.token_request_counts[account] += 1
        claims = {
            "sub": account,
            "iat": 0,
            "exp": self.lifetime,
            "jti": f"{account}-{self.token_request_counts[account]}",
            "pad": "x" * 600,
        }
        body = json.dumps({"status": {"token": jwt.encode(claims, "x" * 32, algorithm="HS256")}}).encode()
        return b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def manifest(number: int, address: str) -> dict[str, Any]:
    server = connector(f"c{number}", address)
    params = [{"name": "serviceAccount", "value": f"ci/a{number}"}]
    server["spec"]["auth"] |= {"name": "serviceAccountTokenAuth", "params": params}
    return server


def ask(proxy: RunningProxy, context: ssl.SSLContext, share: int) -> None:
    """Send one request to each Connector of a share, on one connection for direct access."""
    connection = http.client.HTTPSConnection("127.0.0.1", proxy.port, context=context, timeout=WAIT_TIMEOUT)
    for number in range(share, CONNECTORS, CLIENTS):
        key = ObjectKey("team-a", f"c{number}")
        headers = {"Authorization": f"Bearer {proxy.token(key)}"}
        connection.request("GET", f"/connectors/{key}/api/v1/pods", headers=headers)
        response = connection.getresponse()
        body = response.read()
        assert (response.status, body) == (200, b"ok")
    connection.close()


def test_each_connector_costs_one_token_request_and_one_for_each_renewal(tmp_path: Path) -> None:
    lifetimes = (each for each in FIRST_LIFETIMES if is_early_enough(tmp_path / f"{each:.0f}", each))
    assert next(lifetimes, None), "the machine is too busy"


def is_early_enough(home: Path, lifetime: float) -> bool:
    """Return False if the first round takes so long that tokens with this lifetime are renewed during it."""
    issuer, proxy = IssuingTarget(lifetime), RunningProxy(home)
    with run_target(issuer) as target, ThreadPoolExecutor(CLIENTS) as pool:
        proxy.write("k8s.yaml", secret(ca=CA.pem), *(manifest(number, target.address) for number in range(CONNECTORS)))
        with proxy:
            context = ssl.create_default_context(cadata=proxy.ca_pem().decode())

            def round_of_all() -> None:
                for done in [pool.submit(ask, proxy, context, share) for share in range(CLIENTS)]:
                    done.result()

            before, started_at = proxy.resident(), time.monotonic()
            round_of_all()
            if time.monotonic() - started_at > 0.65 * lifetime:
                return False
            expires_at = time.monotonic() + lifetime
            assert set(issuer.token_request_counts.values()) == {1}
            assert len(issuer.token_request_counts) == CONNECTORS
            after_first_round = proxy.resident()
            issuer.lifetime = 3600
            wait_until(lambda: time.monotonic() > expires_at, "the end of the first tokens", timeout=2 * lifetime)
            # A request with a token that is due renews it in the background. One with an expired token waits for a
            # new one.
            for _ in range(2):
                round_of_all()
                wait_until(lambda: set(issuer.token_request_counts.values()) == {2}, "the second token of each")
            assert issuer.unexpected_heads == []
            assert len(set(issuer.used_tokens)) <= 2 * CONNECTORS
            assert len(issuer.used_tokens) == 3 * CONNECTORS
            assert after_first_round - before < GROWTH
            assert proxy.resident() - after_first_round < GROWTH
    return True
