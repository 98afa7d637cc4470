import asyncio
import contextlib
import logging
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.request_info import parse_request
from connector_store.domain.objects.models import Target, Unusable
from connector_store.domain.permissions.evaluator import Allowed
from connector_store.domain.permissions.request_attributes import RequestAttributes
from connector_store.folder.folder_watch import REMOVAL_GRACE, SOURCE_NAME, FolderWatch
from connector_store.store import Store
from tests.fakes.clock import FakeClock

KEY = ObjectKey("default", "k8s")
CONNECTOR = """\
apiVersion: connectors.alauda.io/v1alpha1
kind: Connector
metadata: {name: k8s}
spec:
  connectorClassName: k8s
  address: https://h:6443
  auth: {secretRef: {name: s}}
"""
SECRET = """\
apiVersion: v1
kind: Secret
metadata: {name: s}
type: connectors.cpaas.io/bearer-token
stringData: {token: one}
"""
DEADLINE = 120.0
"""Seconds that a change may take on a busy machine."""


def source(folder: Path, clock: FakeClock | None = None) -> tuple[FolderWatch, Store]:
    store = Store(expected=[SOURCE_NAME])
    return FolderWatch(folder, store, system_namespace="sys", now=clock or FakeClock()), store


def authorization(store: Store) -> bytes | None:
    target = store.get(KEY)
    return target.credential.authorization if isinstance(target, Target) and target.credential else None


def test_a_folder_fills_the_store(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{SECRET}---\n{CONNECTOR}")
    directory, store = source(tmp_path)
    assert not store.synced
    assert directory.load_once() == ()
    assert store.synced
    assert authorization(store) == b"Bearer one"


VIEW = """\
  permissions: {allow: [{clusterRole: view}]}
"""
ROLE = """\
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: view}
rules:
- {apiGroups: [""], resources: [secrets], verbs: [get]}
"""


def allows(store: Store, target: str) -> bool:
    resolved = store.get(KEY)
    assert isinstance(resolved, Target)
    assert resolved.permissions is not None
    return isinstance(resolved.permissions.evaluate(RequestAttributes(info=parse_request("GET", target, ""))), Allowed)


def test_roles_are_built_in_until_a_manifest_takes_their_place(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{SECRET}---\n{CONNECTOR}{VIEW}")
    clock = FakeClock()
    directory, store = source(tmp_path, clock)
    assert directory.load_once() == ()
    assert (allows(store, "/api/v1/pods"), allows(store, "/api/v1/namespaces/a/secrets/b")) == (True, False)
    (tmp_path / "role.yaml").write_text(ROLE)
    assert directory.load_once() == ()
    assert (allows(store, "/api/v1/pods"), allows(store, "/api/v1/namespaces/a/secrets/b")) == (False, True)
    (tmp_path / "role.yaml").unlink()
    directory.load_once()
    clock.now += REMOVAL_GRACE
    directory.load_once()
    assert allows(store, "/api/v1/pods")


def test_a_missing_role_is_a_problem_of_the_connector(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{SECRET}---\n{CONNECTOR}{VIEW.replace('view', 'vieww')}")
    directory, store = source(tmp_path)
    assert [str(each).removeprefix(f"{tmp_path}/") for each in directory.load_once()] == [
        'a.yaml:14: Connector default/k8s: spec.permissions: clusterroles.rbac.authorization.k8s.io "vieww" not found; '
        "create it, or change spec.permissions.allow[0].clusterRole"
    ]
    assert isinstance(store.get(KEY), Unusable)


def test_an_unknown_field_is_reported_once_and_makes_the_connector_unusable(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{SECRET}---\n{CONNECTOR}  caCertSecretReff: {{name: ca}}\n")
    directory, store = source(tmp_path)
    assert [str(each).removeprefix(f"{tmp_path}/") for each in directory.load_once()] == [
        "a.yaml:14: Connector default/k8s: spec.caCertSecretReff: unknown field; did you mean caCertSecretRef?"
    ]
    unusable = store.get(KEY)
    assert isinstance(unusable, Unusable)
    assert unusable.reason == "UnknownField"


def test_an_empty_folder_is_synced(tmp_path: Path) -> None:
    directory, store = source(tmp_path)
    assert directory.load_once() == ()
    assert store.synced


def test_a_rotated_secret_is_used(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{SECRET}---\n{CONNECTOR}")
    directory, store = source(tmp_path)
    directory.load_once()
    (tmp_path / "a.yaml").write_text(f"{SECRET.replace('one', 'another')}---\n{CONNECTOR}")
    directory.load_once()
    assert authorization(store) == b"Bearer another"


def test_an_object_is_removed_one_second_after_it_disappeared(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{SECRET}---\n{CONNECTOR}")
    clock = FakeClock()
    directory, store = source(tmp_path, clock)
    directory.load_once()
    (tmp_path / "a.yaml").unlink()
    directory.load_once()
    clock.now += REMOVAL_GRACE / 2
    directory.load_once()
    assert authorization(store) == b"Bearer one"
    clock.now += REMOVAL_GRACE / 2
    directory.load_once()
    assert store.get(KEY) is None


def test_an_object_that_is_back_within_a_second_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"{SECRET}---\n{CONNECTOR}")
    clock = FakeClock()
    directory, store = source(tmp_path, clock)
    directory.load_once()
    for name in ("b.yaml", "c.yaml"):
        path = path.rename(tmp_path / f"{name}.moving")
        clock.now += REMOVAL_GRACE / 2
        directory.load_once()
        path = path.rename(tmp_path / name)
        clock.now += REMOVAL_GRACE / 4
        directory.load_once()
        assert authorization(store) == b"Bearer one"


def test_problems_of_files_and_of_connectors_are_found_together(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(CONNECTOR)
    (tmp_path / "b.yaml").write_text(f"{CONNECTOR.replace('k8s}', 'two}')}---\na: b: c")
    directory, _ = source(tmp_path)
    assert [str(each).removeprefix(f"{tmp_path}/") for each in directory.load_once()] == [
        'a.yaml:7: Connector default/k8s: spec.auth.secretRef.name: secrets "s" not found in namespace "default"; '
        "create it with type connectors.cpaas.io/bearer-token",
        'b.yaml:7: Connector default/two: spec.auth.secretRef.name: secrets "s" not found in namespace "default"; '
        "create it with type connectors.cpaas.io/bearer-token",
        "b.yaml:9: is not YAML: mapping values are not allowed in this context",
    ]


def test_a_bad_secret_is_reported_once_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{CONNECTOR}---\n{SECRET.replace('one', 'a b')}")
    directory, store = source(tmp_path)
    assert [(each.subject, each.line) for each in directory.load_once()] == [("Secret default/s", 13)]
    assert isinstance(store.get(KEY), Unusable)


def test_the_first_of_two_files_with_the_same_object_is_used(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{SECRET}---\n{CONNECTOR}")
    (tmp_path / "b.yaml").write_text(SECRET.replace("one", "two"))
    directory, store = source(tmp_path)
    assert [str(each).removeprefix(f"{tmp_path}/") for each in directory.load_once()] == [
        f"b.yaml:1: Secret default/s: is also in {tmp_path}/a.yaml:1, which is used; remove one"
    ]
    assert authorization(store) == b"Bearer one"


def test_no_problem_shows_a_token(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"{SECRET.replace('one', 's3cret s3cret')}---\n: s3cret: s3cret: [")
    directory, _ = source(tmp_path)
    problems = directory.load_once()
    assert len(problems) == 2
    assert "s3cret" not in repr(problems)


async def eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not holds():  # noqa: ASYNC110 - files and the store have no event to wait for
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def following(folder: Path) -> AsyncIterator[tuple[FolderWatch, Store]]:
    """Run a watch that polls more often than usual."""
    store = Store(expected=[SOURCE_NAME])
    directory = FolderWatch(folder, store, system_namespace="sys")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("connector_store.folder.folder_watch.POLL_INTERVAL", 0.05)
        patch.setattr("connector_store.folder.folder_watch.REMOVAL_GRACE", 0.2)
        task = asyncio.get_running_loop().create_task(directory.run())
        try:
            await eventually(lambda: store.synced)
            yield directory, store
            assert not task.done()
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def test_changes_are_read(tmp_path: Path) -> None:
    async with following(tmp_path) as (_, store):
        (tmp_path / "s.yaml").write_text(SECRET)
        (tmp_path / "c.yaml").write_text(CONNECTOR)
        await eventually(lambda: authorization(store) == b"Bearer one")
        (tmp_path / "new").write_text(SECRET.replace("one", "two"))
        (tmp_path / "new").rename(tmp_path / "s.yaml")
        await eventually(lambda: authorization(store) == b"Bearer two")
        (tmp_path / "c.yaml").unlink()
        await eventually(lambda: store.get(KEY) is None)


async def test_a_folder_that_is_created_late_or_again_is_watched(tmp_path: Path) -> None:
    folder = tmp_path / "connectors"
    async with following(folder) as (directory, store):
        assert directory.problems
        for token in ("one", "two"):
            folder.mkdir()
            (folder / "a.yaml").write_text(f"{SECRET.replace('one', token)}---\n{CONNECTOR}")
            expected = f"Bearer {token}".encode()
            await eventually(lambda expected=expected: authorization(store) == expected)  # type: ignore[misc]  # typed by its default
            assert not directory.problems
            shutil.rmtree(folder)
            await eventually(lambda: store.get(KEY) is None)


async def test_a_link_with_a_new_target_is_read_again(tmp_path: Path) -> None:
    for token in ("one", "two"):
        (tmp_path / token).mkdir()
        (tmp_path / token / "a.yaml").write_text(f"{SECRET.replace('one', token)}---\n{CONNECTOR}")
    link = tmp_path / "link"
    link.symlink_to("one")
    async with following(link) as (_, store):
        assert authorization(store) == b"Bearer one"
        (tmp_path / "next").symlink_to("two")
        (tmp_path / "next").rename(link)
        await eventually(lambda: authorization(store) == b"Bearer two")


async def test_each_problem_is_logged_once_while_it_lasts(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="connector_store.folder.folder_watch")
    (tmp_path / "a.yaml").write_text("a: b: c")
    async with following(tmp_path) as (_, store):
        for number in range(3):
            (tmp_path / "b.yaml").write_text(SECRET.replace("name: s", f"name: s{number}"))
            await eventually(lambda: store.secret(ObjectKey("default", f"s{number}")) is not None)  # noqa: B023 - awaited
        (tmp_path / "a.yaml").write_text("")
        await eventually(lambda: "fixed" in caplog.text)
    assert caplog.text.count("is not YAML") == 1


async def test_a_folder_that_cannot_be_watched_is_logged_once_for_each_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """watchfiles raises this error. tests/addons/test_start.py uses a folder that is really not readable."""
    reasons = ["Permission denied (os error 13)"] * 2 + ["No space left on device (os error 28)"]
    raised = asyncio.Event()

    def refused(*_: object, **__: object) -> None:
        if not reasons:
            raised.set()
            raise OSError("No space left on device (os error 28)")
        raise OSError(reasons.pop(0))

    monkeypatch.setattr("connector_store.folder.folder_watch.awatch", refused)
    (tmp_path / "a.yaml").write_text(f"{SECRET}---\n{CONNECTOR}")
    async with following(tmp_path) as (_, store):
        await asyncio.wait_for(raised.wait(), DEADLINE)
        assert authorization(store) == b"Bearer one"
    messages = [
        each.getMessage().rpartition(": ")[2] for each in caplog.records if "cannot be watched" in each.getMessage()
    ]
    assert messages == ["Permission denied (os error 13)", "No space left on device (os error 28)"]
