"""Publishing: all or nothing, one call at a time for each volume, and pods keep their content."""

import asyncio
import errno
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace

import jwt
import pytest
from grpc import StatusCode

from connector_csi import volumes
from connector_csi.failure import Failure
from connector_csi.publication import Publication
from connector_store.domain.callers.pod_token import TOKENS_KEY
from tests.connector_csi.lab import Lab, code
from tests.connector_csi.test_volume_renderer import KEY, NOT_ALLOWED, POD
from tests.fakes.waiting import until

KEY_OF_TOKENS = "k" * 32


async def test_a_volume_is_published_and_unpublished(lab: Lab) -> None:
    assert await lab.publish() is None
    assert lab.read("context.token") == "s3cret"
    assert lab.mounts.options[str(lab.target)] == (0o755, 0)
    assert "s3cret" not in "".join(path.read_text() for path in lab.folder.iterdir())
    assert await lab.unpublish() is None
    assert lab.is_clean
    assert await lab.unpublish() is None


async def test_the_group_of_the_pod_owns_the_mount(lab: Lab) -> None:
    assert await lab.publish(lab.publication(gid=os.getgid())) is None
    assert lab.mounts.options[str(lab.target)] == (0o750, os.getgid())
    assert (lab.target / "kubeconfig").stat().st_mode & 0o777 == 0o440


async def test_an_unchanged_republish_reviews_and_writes_nothing(lab: Lab) -> None:
    await lab.publish()
    checked_keys, data = list(lab.access.checked_keys), (lab.target / "..data").readlink()
    for _ in range(10):
        assert await lab.publish() is None
    assert lab.access.checked_keys == checked_keys
    assert (lab.target / "..data").readlink() == data
    assert len(lab.mounts.table[str(lab.target)]) == 1


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(
            lambda lab: lab.publication(connector_name="x"), StatusCode.ALREADY_EXISTS, id="another Connector"
        ),
        pytest.param(lambda lab: lab.publication(gid=5), StatusCode.ALREADY_EXISTS, id="another group"),
        pytest.param(lambda lab: lab.publication("n3w"), StatusCode.OK, id="another token is not a conflict"),
    ],
)
async def test_a_publish_with_other_arguments_is_a_conflict(
    lab: Lab, change: Callable[[Lab], Publication], expected: StatusCode
) -> None:
    await lab.publish()
    assert code(await lab.publish(change(lab))) is expected


async def test_a_published_volume_cannot_be_published_at_another_path(lab: Lab) -> None:
    await lab.publish()
    other = replace(lab.publication(), target_path=str(lab.target.with_name("other")))
    assert code(await lab.publish(other)) is StatusCode.FAILED_PRECONDITION
    await lab.unpublish()
    assert await lab.publish(other) is None


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        pytest.param(
            lambda lab: lab.access.results.update({KEY: NOT_ALLOWED}), StatusCode.PERMISSION_DENIED, id="no right"
        ),
        pytest.param(lambda lab: lab.cluster.synced.clear(), StatusCode.UNAVAILABLE, id="not synced"),
        pytest.param(lambda lab: setattr(lab.mounts, "refuse_mount", errno.EPERM), StatusCode.INTERNAL, id="no mount"),
        pytest.param(
            lambda lab: setattr(lab.mounts, "refuse_mount", errno.ENOMEM), StatusCode.RESOURCE_EXHAUSTED, id="no memory"
        ),
        pytest.param(lambda lab: lab.target.symlink_to("/etc"), StatusCode.INVALID_ARGUMENT, id="a symbolic link"),
    ],
)
async def test_a_failed_first_publish_leaves_nothing(
    lab: Lab, break_it: Callable[[Lab], None], expected: StatusCode
) -> None:
    break_it(lab)
    assert code(await lab.publish()) is expected
    lab.target.unlink(missing_ok=True)
    assert lab.is_clean
    assert lab.warnings.events == []


async def test_a_foreign_mount_is_left_alone(lab: Lab) -> None:
    lab.target.mkdir()
    (lab.target / "theirs").touch()
    lab.mounts.table[str(lab.target)] = ["/dev/sda1"]
    assert code(await lab.publish()) is StatusCode.INTERNAL
    assert code(await lab.unpublish()) is StatusCode.INTERNAL
    assert (lab.target / "theirs").exists()


async def test_calls_for_one_volume_exclude_each_other(lab: Lab) -> None:
    lab.access.gate = asyncio.Event()
    first = asyncio.ensure_future(lab.publish())
    await lab.access.waiting.wait()
    assert code(await lab.publish()) is StatusCode.ABORTED
    assert code(await lab.unpublish()) is StatusCode.ABORTED
    lab.access.gate.set()
    assert await first is None
    assert await lab.unpublish() is None


async def test_a_volume_is_not_published_during_its_unpublish(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.publish()
    started, resume, unmount = threading.Event(), threading.Event(), lab.mounts.unmount

    def slow_unmount(path: str) -> None:
        started.set()
        resume.wait(30)
        unmount(path)

    monkeypatch.setattr(lab.mounts, "unmount", slow_unmount)
    unpublish = asyncio.ensure_future(lab.unpublish())
    await until(started.is_set)
    try:
        assert code(await lab.publish()) is StatusCode.ABORTED
    finally:
        resume.set()
    assert await unpublish is None
    assert lab.is_clean


async def test_a_volume_that_was_unmounted_by_hand_is_created_again(lab: Lab) -> None:
    await lab.publish()
    lab.mounts.unmount(str(lab.target))
    shutil.rmtree(lab.target)
    lab.target.mkdir()
    assert await lab.publish() is None
    assert lab.read("context.token") == "s3cret"
    assert await lab.unpublish() is None
    assert lab.is_clean


async def test_a_cancelled_call_ends_before_the_next(lab: Lab) -> None:
    lab.access.gate = asyncio.Event()
    first = asyncio.ensure_future(lab.publish())
    await lab.access.waiting.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert code(await lab.unpublish()) is StatusCode.ABORTED
    lab.access.gate.set()
    await lab.volumes.close()
    assert lab.read("context.token") == "s3cret"
    assert await lab.unpublish() is None
    assert lab.is_clean


async def test_a_refused_unmount_is_reported_and_tried_again(lab: Lab) -> None:
    await lab.publish()
    lab.mounts.refuse_unmount = errno.EBUSY
    assert code(await lab.unpublish()) is StatusCode.INTERNAL
    assert not (lab.target / "context.token").exists()
    lab.mounts.refuse_unmount = None
    assert await lab.unpublish() is None
    assert lab.is_clean


async def test_foreign_files_in_an_unmounted_target_path_are_not_removed(lab: Lab) -> None:
    lab.target.mkdir()
    (lab.target / "theirs").touch()
    failure = await lab.unpublish()
    assert failure is not None
    assert "not the driver's" in failure.message


async def test_a_target_path_elsewhere_is_not_unpublished(lab: Lab) -> None:
    assert code(await lab.volumes.unpublish("csi-1", "/etc")) is StatusCode.INVALID_ARGUMENT


def another(lab: Lab) -> Publication:
    """Return a second volume of the pod."""
    target = lab.target.parent.with_name("second") / "mount"
    target.parent.mkdir()
    return replace(lab.publication(), volume_id="csi-2", target_path=str(target))


async def test_a_full_node_keeps_its_volumes_and_accepts_another_after_an_unpublish(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(volumes, "MAX_VOLUMES", 1)
    second = another(lab)
    assert await lab.publish() is None
    failure = await lab.publish(second)
    assert code(failure) is StatusCode.RESOURCE_EXHAUSTED
    assert await lab.publish(lab.publication("n3w")) is None
    assert lab.read("context.token") == "n3w"
    lab.restart()
    assert code(await lab.publish(second)) is StatusCode.RESOURCE_EXHAUSTED
    await lab.unpublish()
    assert await lab.publish(second) is None


async def test_parallel_publishes_do_not_exceed_the_maximum(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volumes, "MAX_VOLUMES", 1)
    lab.access.gate = asyncio.Event()
    first = asyncio.ensure_future(lab.publish())
    await lab.access.waiting.wait()
    assert code(await lab.publish(another(lab))) is StatusCode.RESOURCE_EXHAUSTED
    lab.access.gate.set()
    assert await first is None


async def test_a_longer_requested_lifetime_is_reported(lab: Lab) -> None:
    token = jwt.encode({"iat": 0, "exp": 1800}, KEY_OF_TOKENS)
    await lab.publish(lab.publication(token, token_expiration="60m"))
    [(reason, note)] = lab.warnings.events
    assert reason == "TokenExpirationShortened"
    assert "3600s" in note
    assert "1800s" in note


async def test_a_shorter_requested_lifetime_is_reported(lab: Lab) -> None:
    token = jwt.encode({"iat": 0, "exp": 1800}, KEY_OF_TOKENS)
    await lab.publish(lab.publication(token, token_expiration="10m"))
    [(reason, note)] = lab.warnings.events
    assert reason == "TokenExpirationLengthened"
    assert "600s is shorter" in note


async def test_the_actual_lifetime_is_not_reported(lab: Lab) -> None:
    token = jwt.encode({"iat": 0, "exp": 1800}, KEY_OF_TOKENS)
    await lab.publish(lab.publication(token, token_expiration="30m"))
    assert lab.warnings.events == []


async def test_attributes_without_effect_are_reported_once(lab: Lab) -> None:
    publication = lab.publication(configuration_params='{"kubeconfig": {"a": "b"}}')
    publication = replace(publication, context={**publication.context, "csi.storage.k8s.io/mine": "x"})
    for _ in range(2):
        await lab.publish(publication)
    assert [reason for reason, _ in lab.warnings.events] == ["VolumeAttributeIgnored"] * 2
    notes = " ".join(note for _, note in lab.warnings.events)
    assert "configuration.params" in notes
    assert "csi.storage.k8s.io/mine" in notes


async def test_the_token_expiry_is_reported_while_the_volume_exists(lab: Lab) -> None:
    await lab.publish(lab.publication(jwt.encode({"iat": 0, "exp": 1800}, KEY_OF_TOKENS)))
    assert b"token_expiry_timestamp_seconds 1800.0" in lab.metrics.render()
    await lab.unpublish()
    assert b"token_expiry_timestamp_seconds 0.0" in lab.metrics.render()


async def test_the_record_of_a_deleted_pod_is_deleted_at_the_next_unpublish(lab: Lab) -> None:
    await lab.publish()
    other = replace(
        lab.publication(), volume_id="csi-2", target_path=lab.publication().target_path.replace("/uid/", "/uid-2/")
    )
    (lab.pods / "uid-2" / "volumes" / "kubernetes.io~csi" / "connector").mkdir(parents=True)
    token = jwt.encode({"iat": 0, "exp": 1800}, KEY_OF_TOKENS)
    assert await lab.publish(replace(other, secrets=lab.publication(token).secrets)) is None
    assert b"token_expiry_timestamp_seconds 1800.0" in lab.metrics.render()
    lab.access.results[KEY] = NOT_ALLOWED
    assert await lab.publish(other) is None
    assert b"connector_csi_volumes_stale 1.0" in lab.metrics.render()
    assert b"connector_csi_volumes 2.0" in lab.metrics.render()
    del lab.mounts.table[other.target_path]
    (lab.pods / "uid-2").rename(lab.pods.with_name("vanished"))
    await lab.unpublish()
    # No alert stays for a volume that does not exist any more.
    for name in (b"connector_csi_volumes", b"connector_csi_volumes_stale", b"token_expiry_timestamp_seconds"):
        assert name + b" 0.0" in lab.metrics.render()


def test_the_repr_of_a_publication_hides_the_token(lab: Lab) -> None:
    publication = replace(lab.publication(), context=POD | {TOKENS_KEY: "s3cret"})
    assert "s3cret" not in repr(publication)


async def test_after_a_denied_request_the_volume_has_only_an_error_file_until_the_pod_may_use_it(lab: Lab) -> None:
    lab.access.results[KEY] = NOT_ALLOWED
    lab.refused_pods.results[KEY] = Failure(
        code=StatusCode.PERMISSION_DENIED, message="joe denied the request", is_decided=True
    )
    for _ in range(2):
        assert await lab.publish() is None
        assert {path.name for path in lab.target.iterdir() if not path.name.startswith("..")} == {".error.json"}
        assert lab.warnings.events == [("AccessDenied", "the volume has only .error.json: joe denied the request")]
    assert "joe denied the request" in lab.read(".error.json")
    lab.access.results.clear()
    assert await lab.publish() is None
    assert lab.read("context.token") == "s3cret"
    assert not (lab.target / ".error.json").exists()


async def test_a_volume_that_could_not_be_created_after_a_denial_is_not_stale(lab: Lab) -> None:
    lab.access.results[KEY] = NOT_ALLOWED
    lab.refused_pods.results[KEY] = Failure(code=StatusCode.PERMISSION_DENIED, message="no", is_decided=True)
    lab.mounts.refuse_mount = errno.ENOMEM
    assert code(await lab.publish()) is StatusCode.RESOURCE_EXHAUSTED
    assert lab.metrics.stale_volumes._value.get() == 0
