"""Content of a volume after a republish, and after a restart of the driver or the node."""

import errno
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from grpc import StatusCode

from connector_csi.publication import Publication
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.callers.access import Unavailable
from connector_store.domain.callers.pod_token import TOKENS_KEY
from connector_store.domain.objects.models import InvalidConnector
from tests.connector_csi.lab import SINCE, Lab, code
from tests.connector_csi.test_volume_renderer import KEY, NOT_ALLOWED, connector


async def test_a_new_token_ca_or_address_replaces_the_content(lab: Lab) -> None:
    await lab.publish()
    assert await lab.publish(lab.publication("n3w")) is None
    assert lab.read("context.token") == "n3w"
    lab.cluster.ca = b"other"
    assert await lab.publish(lab.publication("n3w")) is None
    assert lab.read("ca.crt") == "other"
    lab.cluster.connectors[KEY] = connector(host="moved")
    assert await lab.publish(lab.publication("n3w")) is None
    assert "https://moved:6443" in lab.read("kubeconfig")


@pytest.mark.parametrize(
    "break_it",
    [
        pytest.param(lambda lab: lab.access.results.update({KEY: NOT_ALLOWED}), id="the right is taken away"),
        pytest.param(lambda lab: lab.access.results.update({KEY: Unavailable(reason="down")}), id="no API server"),
        pytest.param(lambda lab: lab.cluster.connectors.clear(), id="the Connector is gone"),
        pytest.param(lambda lab: setattr(lab.cluster, "ca", None), id="no CA"),
    ],
)
async def test_a_failed_republish_keeps_the_content_and_is_reported_once(
    lab: Lab, break_it: Callable[[Lab], None], caplog: pytest.LogCaptureFixture
) -> None:
    await lab.publish()
    break_it(lab)
    for _ in range(3):
        assert await lab.publish(lab.publication("n3w")) is None
    assert lab.read("context.token") == "s3cret"
    [(reason, note)] = lab.warnings.events
    assert reason == "ConnectorNotRefreshed"
    assert note.startswith("old content is kept: ")
    error = json.loads(lab.read(".error.json"))
    assert error["since"] == SINCE
    [problem] = error["problems"]
    assert problem["connector"] is None
    assert note.endswith(problem["message"])
    assert b"connector_csi_volumes_stale 1.0" in lab.metrics.render()
    assert b"connector_csi_republish_failures_total{" in lab.metrics.render()
    for text in (note, caplog.text, lab.metrics.render().decode(), json.dumps(error)):
        assert "s3cret" not in text
        assert "n3w" not in text


async def test_a_service_that_becomes_foreign_is_removed_and_reported(lab: Lab) -> None:
    await lab.publish()
    assert "@c-k8s.team-a.svc.cluster.local:80" in lab.read("kubeconfig")
    lab.cluster.foreign_services.add(KEY)
    assert await lab.publish() is None
    assert "c-k8s" not in lab.read("kubeconfig") + lab.read(".env") + lab.read("connector.status.proxyAddress")
    [(reason, note)] = lab.warnings.events
    assert reason == "ProxyServiceNotUsed"
    assert note.startswith('services "c-k8s" in namespace "team-a" is not seen')
    lab.cluster.foreign_services.clear()
    assert await lab.publish() is None
    assert "@c-k8s.team-a.svc.cluster.local:80" in lab.read("kubeconfig")
    assert len(lab.warnings.events) == 1


async def test_a_failure_is_reported_again_after_a_success(lab: Lab) -> None:
    await lab.publish()
    for _ in range(2):
        lab.access.results[KEY] = NOT_ALLOWED
        await lab.publish(lab.publication("n3w"))
        lab.access.results.clear()
        await lab.publish()
    assert len(lab.warnings.events) == 2


async def test_a_republish_without_a_token_is_suppressed(lab: Lab) -> None:
    await lab.publish()
    assert await lab.publish(replace(lab.publication(), secrets={})) is None
    [(_, note)] = lab.warnings.events
    assert "tokenRequests" in note


async def test_a_full_tmpfs_keeps_the_old_content(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    await lab.publish()

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "x", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert await lab.publish(lab.publication("n3w")) is None
        lab.restart()
        other = replace(lab.publication(), volume_id="csi-2", target_path=str(lab.target.with_name("second")))
        failure = await lab.publish(other)
    assert code(failure) is StatusCode.RESOURCE_EXHAUSTED
    assert lab.read("context.token") == "s3cret"
    assert list(lab.mounts.table) == [str(lab.target)]
    assert not lab.target.with_name("second").exists()


async def test_a_restarted_driver_continues_with_its_volumes(lab: Lab) -> None:
    await lab.publish()
    lab.restart()
    assert b"connector_csi_volumes 1.0" in lab.metrics.render()
    lab.access.results[KEY] = NOT_ALLOWED
    assert await lab.publish() is None
    assert lab.read("context.token") == "s3cret"
    assert code(await lab.publish(lab.publication(connector_name="other"))) is StatusCode.ALREADY_EXISTS
    assert await lab.unpublish() is None
    assert lab.is_clean


async def test_a_mount_without_a_record_gets_a_new_record(lab: Lab) -> None:
    await lab.publish()
    for path in lab.folder.iterdir():
        path.unlink()
    lab.restart()
    assert await lab.publish(lab.publication("n3w")) is None
    assert lab.read("context.token") == "n3w"
    assert list(lab.folder.iterdir())


async def test_the_record_of_a_deleted_pod_is_deleted(lab: Lab) -> None:
    await lab.publish()
    (lab.target.parent).rename(lab.pods / "moved")
    lab.mounts.table.clear()
    lab.restart()
    assert list(lab.folder.iterdir()) == []


async def test_the_volume_is_created_again_after_a_reboot(lab: Lab) -> None:
    await lab.publish()
    lab.mounts.table.clear()
    for path in lab.target.rglob("*"):
        if path.is_symlink() or path.is_file():
            path.unlink()
    lab.restart()
    assert await lab.publish(lab.publication("n3w")) is None
    assert lab.read("context.token") == "n3w"


OTHER = ObjectKey("team-b", "other")
THIRD = ObjectKey("team-b", "third")


@pytest.fixture
def several(lab: Lab) -> Publication:
    """A volume of three Connectors."""
    lab.cluster.connectors |= {each: connector(each, host=each.name) for each in (OTHER, THIRD)}
    publication = lab.publication(configuration_names="kubeconfig,kubeconfig-rotating")
    attributes = {key: value for key, value in publication.context.items() if key != "connector.name"}
    return replace(publication, context=attributes | {"connectors": f"k8s,{OTHER},{THIRD}"})


def with_token(publication: Publication, token: str = "n3w") -> Publication:
    return replace(publication, secrets={TOKENS_KEY: json.dumps({"connectors-proxy": {"token": token}})})


def clusters(lab: Lab, file: str = "kubeconfig") -> dict[str, dict[str, str]]:
    return {each["name"]: each["cluster"] for each in yaml.safe_load(lab.read(file))["clusters"]}


@pytest.mark.parametrize("failing", [KEY, OTHER], ids=["the first", "another"])
@pytest.mark.parametrize(
    ("break_it", "code_name"),
    [
        pytest.param(lambda lab, key: lab.access.results.update({key: NOT_ALLOWED}), "PERMISSION_DENIED", id="refused"),
        pytest.param(lambda lab, key: lab.cluster.connectors.pop(key), "PERMISSION_DENIED", id="gone"),
        pytest.param(
            lambda lab, key: lab.cluster.connectors.update(
                {key: InvalidConnector(key=key, class_name="k8s", reason="AddressInvalid", message="spec.address: bad")}
            ),
            "FAILED_PRECONDITION",
            id="rejected",
        ),
    ],
)
async def test_one_failing_connector_does_not_affect_others(
    lab: Lab, several: Publication, failing: ObjectKey, break_it: Callable[[Lab, ObjectKey], object], code_name: str
) -> None:
    assert await lab.publish(several) is None
    before = clusters(lab)
    break_it(lab, failing)
    lab.cluster.connectors[THIRD] = connector(THIRD, host="moved")
    lab.cluster.ca = b"other"
    for _ in range(2):
        assert await lab.publish(with_token(several)) is None
    after = clusters(lab)
    assert after[str(failing)]["server"] == before[str(failing)]["server"]
    assert after[str(THIRD)]["server"] == "https://moved:6443"
    for each in after.values():
        assert ":n3w@" in each["proxy-url"]
    assert (lab.read("context.token"), lab.read("ca.crt")) == ("n3w", "other")
    [problem] = json.loads(lab.read(".error.json"))["problems"]
    assert (problem["connector"], problem["code"]) == (str(failing), code_name)
    [(reason, note)] = lab.warnings.events
    assert reason == "ConnectorNotRefreshed"
    assert note.startswith(f"Connector {failing} keeps what it had: ")
    assert b"connector_csi_volumes_stale 1.0" in lab.metrics.render()
    assert b'republish_failures_total{code="%s"} 2.0' % code_name.encode() in lab.metrics.render()
    for text in (lab.read(".error.json"), note):
        assert "s3cret" not in text
        assert "n3w" not in text


async def test_after_a_success_the_content_is_fresh_and_the_error_is_removed(lab: Lab, several: Publication) -> None:
    await lab.publish(several)
    lab.access.results[OTHER] = NOT_ALLOWED
    await lab.publish(with_token(several))
    lab.access.results.clear()
    lab.cluster.connectors[OTHER] = connector(OTHER, host="moved")
    assert await lab.publish(with_token(several)) is None
    assert clusters(lab)[str(OTHER)]["server"] == "https://moved:6443"
    assert not (lab.target / ".error.json").exists()
    assert b"connector_csi_volumes_stale 0.0" in lab.metrics.render()


async def test_a_restarted_driver_remembers_endpoints(lab: Lab, several: Publication) -> None:
    await lab.publish(several)
    lab.restart()
    del lab.cluster.connectors[OTHER]
    assert await lab.publish(with_token(several)) is None
    assert clusters(lab)[str(OTHER)]["server"] == "https://other:6443"
    assert lab.read("context.token") == "n3w"


async def test_a_first_publish_is_all_or_nothing(lab: Lab, several: Publication) -> None:
    lab.access.results[OTHER] = NOT_ALLOWED
    assert code(await lab.publish(several)) is StatusCode.PERMISSION_DENIED
    assert lab.is_clean


async def test_the_host_of_a_deleted_connector_is_removed(lab: Lab) -> None:
    await lab.publish()
    lab.cluster.connectors.clear()
    lab.cluster.foreign_services.add(KEY)
    assert await lab.publish(lab.publication("n3w")) is None
    files = "".join(path.read_text() for path in (lab.target / "..data").iterdir() if path.name != ".error.json")
    assert "c-k8s" not in files
    assert "@connectors-proxy.connectors-system.svc.cluster.local:80" in files
    assert "https://target:6443" in files
    before = lab.read("kubeconfig")
    assert await lab.publish(lab.publication("n3wer")) is None
    assert lab.read("kubeconfig") == before


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"digest": "of an older release"}, id="an older one"),
        pytest.param({"version": 3}, id="a later one"),
    ],
)
async def test_a_record_of_another_release_is_replaced(lab: Lab, fields: dict[str, object]) -> None:
    await lab.publish()
    [path] = lab.folder.iterdir()
    path.write_text(json.dumps({"volume_id": "csi-1", "target": str(lab.target)} | fields))
    lab.restart()
    assert await lab.publish(lab.publication("n3w")) is None
    assert lab.read("context.token") == "n3w"
    assert lab.warnings.events == []
    lab.restart()
    assert code(await lab.publish(lab.publication(connector_name="other"))) is StatusCode.ALREADY_EXISTS


async def test_a_failing_volume_of_another_release_stays_unchanged(lab: Lab) -> None:
    await lab.publish()
    [path] = lab.folder.iterdir()
    path.write_text(json.dumps({"volume_id": "csi-1", "target": str(lab.target)}))
    lab.restart()
    lab.cluster.connectors.clear()
    assert await lab.publish(lab.publication("n3w")) is None
    assert lab.read("context.token") == "s3cret"
    assert "does not exist" in lab.read(".error.json")
