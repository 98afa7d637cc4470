"""The file with the issuers is read at start and after each change."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from connector_store.domain.base.errors import ParseError
from connector_store.domain.callers.authentication_config import Issuer
from connector_store.folder import authentication_file
from connector_store.folder.authentication_file import MAX_FILE_BYTES, AuthenticationFile
from tests.fakes.waiting import until

ONE = """\
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: https://ci.example
    audiences: [connectors]
  claimMappings:
    username: {claim: sub, prefix: 'ci:'}
"""
NONE = ONE[: ONE.index("jwt:")]


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authentication_file, "POLL_MS", 50)


class Applied:
    def __init__(self) -> None:
        self.all: list[list[str]] = []

    def __call__(self, issuers: Sequence[Issuer]) -> None:
        self.all.append([each.url for each in issuers])


@asynccontextmanager
async def followed(path: Path) -> AsyncIterator[Applied]:
    applied = Applied()
    file = AuthenticationFile(path, applied)
    file.load()
    running = asyncio.ensure_future(file.run())
    try:
        yield applied
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "auth.yaml: No such file", id="no file"),
        pytest.param("a: [", "auth.yaml:2: ", id="no YAML"),
        pytest.param("", "has 0 YAML documents", id="an empty file"),
        pytest.param(ONE + "---\n" + ONE, "has 2 YAML documents", id="two documents"),
        pytest.param(ONE.replace("https:", "http:"), "auth.yaml:5: jwt[0].issuer.url: is not an https", id="a field"),
        pytest.param(ONE.replace("claim: sub", "expression: claims.sub"), "auth.yaml:8: jwt[0]", id="an expression"),
        pytest.param("#" * (MAX_FILE_BYTES + 1), "larger than", id="too large"),
    ],
)
def test_an_invalid_file_is_an_error_with_its_line(tmp_path: Path, content: str | None, reason: str) -> None:
    path = tmp_path / "auth.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ParseError) as error:
        AuthenticationFile(path, Applied()).load()
    assert error.value.path == "connector_authentication"
    assert reason in error.value.reason


def test_the_clusters_own_issuer_is_an_error_with_its_line(tmp_path: Path) -> None:
    path, applied = tmp_path / "auth.yaml", Applied()
    path.write_text(ONE)
    with pytest.raises(ParseError, match=r"auth\.yaml:5: jwt\[0\]\.issuer\.url: is the issuer of this cluster's own"):
        AuthenticationFile(path, applied, disallowed_issuers=["https://ci.example"]).load()
    assert applied.all == []


async def test_a_change_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "auth.yaml"
    path.write_text(ONE)
    async with followed(path) as applied:
        path.write_text(NONE)
        await until(lambda: len(applied.all) > 1)
    assert applied.all == [["https://ci.example"], []]


async def test_a_mounted_configmap_is_followed_through_its_links(tmp_path: Path) -> None:
    for name, content in (("..1", ONE), ("..2", NONE)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "auth.yaml").write_text(content)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "auth.yaml").symlink_to("..data/auth.yaml")
    async with followed(tmp_path / "auth.yaml") as applied:
        (tmp_path / "..data_tmp").symlink_to("..2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await until(lambda: len(applied.all) > 1)
    assert applied.all[-1] == []


async def test_a_mounted_configmap_without_the_key_names_no_issuers(tmp_path: Path) -> None:
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
    (tmp_path / "..2" / "auth.yaml").write_text(ONE)

    def publish(version: str) -> None:
        (tmp_path / "..data_tmp").symlink_to(version)
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")

    publish("..1")
    async with followed(tmp_path / "auth.yaml") as applied:
        publish("..2")
        (tmp_path / "auth.yaml").symlink_to("..data/auth.yaml")
        await until(lambda: len(applied.all) > 1)
        publish("..1")
        await until(lambda: len(applied.all) > 2)
    assert applied.all == [[], ["https://ci.example"], []]


async def test_after_an_invalid_change_the_previous_issuers_stay_in_effect(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "auth.yaml"
    path.write_text(ONE)
    async with followed(path) as applied:
        path.write_text(ONE.replace("sub", ""))
        await until(lambda: "stay in effect" in caplog.text)
        path.write_text(ONE.replace("sub", "").replace("connectors", "other"))
        path.unlink()
        await until(lambda: "No such file" in caplog.text)
        path.write_text(ONE + "# again\n")
        await until(lambda: len(applied.all) > 1)
    assert applied.all == [["https://ci.example"]] * 2


async def test_a_folder_that_is_removed_and_created_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "mounted"
    folder.mkdir()
    path = folder / "auth.yaml"
    path.write_text(ONE)
    async with followed(path) as applied:
        path.unlink()
        folder.rmdir()
        await until(lambda: "stay in effect" in caplog.text)
        folder.mkdir()
        path.write_text(NONE)
        await until(lambda: len(applied.all) > 1)
    assert applied.all[-1] == []
