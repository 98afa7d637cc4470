"""Callers whose tokens other issuers have signed, through the running proxy on a folder."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from addons.server.callers import with_issuers
from addons.server.cluster import UnavailableAccess
from connector_store.domain.base.errors import ParseError
from connector_store.domain.config.settings import Settings
from lab.oidc_issuer import SigningKey, TestIssuer
from tests.fakes.manifests import write
from tests.fakes.proxy import ClientConnection, Proxy, running_proxy
from tests.fakes.target import FakeTarget, TargetConnection
from tests.fakes.waiting import PATIENCE, until

KEY = "team-a/k8s"
REPOSITORY = "github:repo:org/app:ref:refs/heads/main"


@pytest.fixture
def issuer() -> Iterator[TestIssuer]:
    with TestIssuer() as test_issuer:
        yield test_issuer


def trust(path: Path, issuer: TestIssuer, prefix: str = "github:") -> None:
    entry = {
        "issuer": {
            "url": issuer.url,
            "audiences": ["connectors"],
            "certificateAuthority": issuer.ca.pem.decode(),
        },
        "claimMappings": {
            "username": {"claim": "sub", "prefix": prefix},
            "groups": {"claim": "groups_direct", "prefix": "gitlab:"},
        },
    }
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [entry]}
    path.write_text(json.dumps(document))


def bind(folder: Path, *subjects: dict[str, Any]) -> None:
    """A RoleBinding to connectors-user, which is there without a manifest."""
    binding = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "ci", "namespace": "team-a"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "connectors-user"},
        "subjects": list(subjects),
    }
    write(folder, binding, file="binding.yaml")


@asynccontextmanager
async def serving(folder: Path, confdir: Path, issuer: TestIssuer, **settings: str) -> AsyncIterator[Proxy]:
    file = confdir / "authentication.yaml"
    trust(file, issuer)
    async with running_proxy(folder, confdir, connector_authentication=str(file), **settings) as proxy:
        yield proxy


async def status(proxy: Proxy, target: FakeTarget, token: str) -> tuple[int, str]:
    stream, response = await proxy.connect(f"127.0.0.1:{target.port}", f"{KEY}:{token}")
    stream.close()
    return response.status, response.phrase


@pytest.mark.parametrize(
    ("subject", "issue"),
    [
        pytest.param(
            {"kind": "User", "name": REPOSITORY},
            lambda issuer: issuer.issue_github_token("org/app"),
            id="GitHub Actions",
        ),
        pytest.param(
            {"kind": "Group", "name": "gitlab:group"},
            lambda issuer: issuer.issue_gitlab_token("group/app"),
            id="GitLab",
        ),
    ],
)
async def test_a_pipeline_of(
    folder: Path, confdir: Path, target: FakeTarget, issuer: TestIssuer, subject: dict[str, Any], issue: Any
) -> None:
    bind(folder, subject)
    async with serving(folder, confdir, issuer) as proxy:
        assert (await status(proxy, target, issue(issuer)))[0] == 200
        stranger = issuer.issue_github_token("somebody/else")
        assert (await status(proxy, target, stranger))[0] == 403
        assert (await status(proxy, target, issuer.issue_token(sub="repo:org/app", aud="x")))[0] == 407
        assert (await status(proxy, target, proxy.token(KEY)))[0] == 200


def test_the_clusters_own_issuer_ends_the_start(tmp_path: Path, issuer: TestIssuer) -> None:
    trust(tmp_path / "authentication.yaml", issuer)
    config: Any = SimpleNamespace(authentication=tmp_path / "authentication.yaml", recheck=30, outage_grace=0)
    access: Any = UnavailableAccess()
    with_issuers(config, Settings(), access, access, ["https://other.example"], time.time)
    with pytest.raises(ParseError, match="is the issuer of this cluster's own tokens"):
        with_issuers(config, Settings(), access, access, [issuer.url], time.time)


@pytest.mark.slow  # a refusal is remembered for 3 s
async def test_changed_rights_take_effect(folder: Path, confdir: Path, target: FakeTarget, issuer: TestIssuer) -> None:
    async with serving(folder, confdir, issuer, connector_recheck="0.2") as proxy:
        token = issuer.issue_github_token("org/app")
        assert (await status(proxy, target, token))[0] == 403
        bind(folder, {"kind": "User", "name": REPOSITORY})
        await until_status(proxy, target, token, 200)
        (folder / "binding.yaml").unlink()
        await until_status(proxy, target, token, 403)


async def until_status(proxy: Proxy, target: FakeTarget, token: str, expected_status: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while (await status(proxy, target, token))[0] != expected_status:  # noqa: ASYNC110 - asks until it is so
            await asyncio.sleep(0.05)


@pytest.mark.slow  # an unknown key waits for the issuer's next asking
async def test_a_key_rotation_under_load_refuses_no_caller(
    folder: Path, confdir: Path, target: FakeTarget, issuer: TestIssuer
) -> None:
    bind(folder, {"kind": "User", "name": REPOSITORY})
    async with serving(folder, confdir, issuer) as proxy:
        before = await asyncio.gather(*(status(proxy, target, issuer.issue_github_token()) for _ in range(20)))
        issuer.rotate("k2")
        after = await asyncio.gather(*(status(proxy, target, issuer.issue_github_token()) for _ in range(20)))
    assert {each for each, _ in (*before, *after)} == {200}
    assert issuer.requested_paths.count("/keys") == 2


async def test_an_unreachable_issuer_is_named_and_its_callers_are_refused(
    folder: Path, confdir: Path, target: FakeTarget, issuer: TestIssuer
) -> None:
    bind(folder, {"kind": "User", "name": REPOSITORY})
    max_age = 600.0
    async with serving(folder, confdir, issuer, connector_jwks_max_age=str(max_age), connector_recheck="0.1") as proxy:
        before = issuer.issue_github_token()
        assert (await status(proxy, target, before))[0] == 200
        issuer.unavailable = True
        access: Any = proxy.context.access_context.access
        keys = access._issuers[issuer.url].keys
        keys._fetched_at -= max_age
        keys._attempted_at -= max_age
        await until_status(proxy, target, issuer.issue_github_token(), 503)
        # Nor does one that was good before, for longer than a right is remembered.
        await until_status(proxy, target, before, 503)
        code, phrase = await status(proxy, target, issuer.issue_github_token())
        assert code == 503
        assert f"issuer {issuer.url} cannot be asked for its keys" in phrase
        assert (await status(proxy, target, proxy.token(KEY)))[0] == 200


async def test_issuers_that_are_removed_from_the_file_are_no_longer_accepted(
    folder: Path, confdir: Path, target: FakeTarget, issuer: TestIssuer
) -> None:
    bind(folder, {"kind": "User", "name": REPOSITORY})
    async with serving(folder, confdir, issuer) as proxy:
        token = issuer.issue_github_token()
        assert (await status(proxy, target, token))[0] == 200
        trust(confdir / "authentication.yaml", issuer, prefix="other:")
        await until_status(proxy, target, token, 403)


async def test_a_token_signed_with_another_key_is_refused(
    folder: Path, confdir: Path, target: FakeTarget, issuer: TestIssuer, read_output: Callable[[], str]
) -> None:
    bind(folder, {"kind": "User", "name": REPOSITORY})
    async with serving(folder, confdir, issuer) as proxy:
        claims = {"iss": issuer.url, "aud": "connectors", "exp": 1e10, "sub": "repo:org/app:ref:refs/heads/main"}
        assert (await status(proxy, target, SigningKey("k1").sign(claims)))[0] == 407
        assert (await status(proxy, target, issuer.issue_github_token()))[0] == 200
        await until(lambda: f'"user":"{REPOSITORY}"' in read_output())


LIFETIMES = (6, 20, 60)
"""Lifetimes of a token in seconds. A busy machine may need a later one for a connection that is open before its end."""
WATCH = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.slow  # waits until a token expires
@pytest.mark.parametrize("caller", ["an issuer's token", "a token of the folder"])
async def test_a_live_connection_ends_with_the_token_of_its_caller(
    folder: Path, confdir: Path, target: FakeTarget, issuer: TestIssuer, caller: str
) -> None:
    async def serve(conversation: TargetConnection) -> None:
        await conversation.read_head()
        await conversation.send(WATCH)
        await conversation.read_some()

    target.handler = serve
    bind(folder, {"kind": "User", "name": "github:me"})
    async with serving(folder, confdir, issuer, connector_recheck="0.2") as proxy:
        authority, is_issuers = f"127.0.0.1:{target.port}", caller == "an issuer's token"
        request = f"GET /api/v1/pods?watch=1 HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode()

        async def open_watch(lifetime: int) -> ClientConnection | None:
            """Return the connection, or None if the token expired before the watch began."""
            token = issuer.issue_token(sub="me", ttl=lifetime) if is_issuers else proxy.token(KEY, ttl=lifetime)
            stream, response = await proxy.connect(authority, f"{KEY}:{token}")
            if response.status != 200:
                return None
            try:
                await proxy.start_tls(stream, "127.0.0.1")
                await stream.send(request)
                return stream if (await stream.read_head())[0] == 200 else None
            except (OSError, EOFError):
                return None

        for lifetime in LIFETIMES:
            if stream := await open_watch(lifetime):
                break
        assert stream is not None
        assert b"its caller's token has expired" in await stream.read_to_eof()
