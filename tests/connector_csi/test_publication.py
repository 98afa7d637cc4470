"""Parsing of kubelet's requests. test_node.py sends them over a real socket."""

from pathlib import Path

import pytest

from connector_csi.failure import Failure
from connector_csi.publication import MAX_GID, Publication, parse_publication
from connector_store.domain.callers.pod_token import TOKENS_KEY
from tests.connector_csi.test_node_service import Change, request
from tests.connector_csi.test_volume_renderer import CONTEXT, POD, SECRETS


@pytest.mark.parametrize(("text", "gid"), [("", None), ("0", 0), ("4242", 4242), (str(MAX_GID), MAX_GID)])
def test_a_group_is_a_number(text: str, gid: int | None) -> None:
    call = request(Path("/t"))
    call.volume_capability.mount.volume_mount_group = text
    publication = parse_publication(call)
    assert isinstance(publication, Publication)
    assert publication.gid == gid


@pytest.mark.parametrize("text", ["x", "-1", "1 ", "\u0663", str(MAX_GID + 1)])
def test_other_text_is_not_a_group(text: str) -> None:
    call = request(Path("/t"))
    call.volume_capability.mount.volume_mount_group = text
    assert isinstance(parse_publication(call), Failure)


def test_the_repr_hides_the_token() -> None:
    publication = parse_publication(request(Path("/t")))
    assert "s3cret" not in repr(publication)


def test_the_digest_covers_immutable_fields() -> None:
    def digest(context: dict[str, str], gid: int | None = None) -> str:
        return Publication(volume_id="v", target_path="/t", gid=gid, context=context, secrets=SECRETS).digest

    assert digest(CONTEXT) == digest(POD | {TOKENS_KEY: "other"} | CONTEXT)
    assert digest(CONTEXT) != digest(CONTEXT | {"connector.name": "other"})
    assert digest(CONTEXT) != digest(CONTEXT, 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda r: setattr(r.volume_capability.mount, "fs_type", "ext4"), "leave csi.fsType out", id="fsType"
        ),
        pytest.param(lambda r: r.volume_capability.mount.mount_flags.append("ro"), "mount options", id="mount options"),
        pytest.param(lambda r: r.secrets.update({"key": "s3cret"}), "nodePublishSecretRef", id="a Secret"),
    ],
)
def test_fields_without_effect_are_refused(change: Change, message: str) -> None:
    call = request(Path("/t"))
    change(call)
    failure = parse_publication(call)
    assert isinstance(failure, Failure)
    assert message in failure.message
    assert "s3cret" not in failure.message
