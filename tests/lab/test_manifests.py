"""What the product reads of the manifests that tests and measurements write."""

import stat
from pathlib import Path

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target
from connector_store.folder.folder_watch import FolderWatch
from connector_store.store import Store
from lab.certificates import make_ca
from lab.manifests import connector, secret, write_manifests


def test_they_are_read_as_a_connector_with_the_token_of_its_secret(tmp_path: Path) -> None:
    ca = make_ca().pem.decode()
    write_manifests(
        tmp_path / "connectors",
        connector("k8s", "https://h:6443", namespace="team-a"),
        secret("k8s", namespace="team-a", token="t", ca=ca),
    )
    store = Store()
    assert FolderWatch(tmp_path / "connectors", store, system_namespace="sys").load_once() == ()
    found = store.get(ObjectKey("team-a", "k8s"))
    assert isinstance(found, Target)
    assert (str(found.address), found.ca) == ("https://h:6443", ca.encode())


def test_what_is_given_stands_in_the_spec() -> None:
    made = connector("k8s", "https://h", secret="other", auth={"name": "clientCertificateAuth"})
    assert made["spec"]["auth"] == {"name": "clientCertificateAuth"}
    assert made["metadata"] == {"name": "k8s"}
    assert connector("k8s", "https://h", secret="other")["spec"]["auth"]["secretRef"] == {"name": "other"}


def test_the_folder_is_for_its_owner_and_holds_whole_files_only(tmp_path: Path) -> None:
    folder = tmp_path / "connectors"
    for token in "ab":
        write_manifests(folder, secret("k8s", token=token, ca="pem"), file="k8s.yaml")
    assert [each.name for each in folder.iterdir()] == ["k8s.yaml"]
    assert list(tmp_path.iterdir()) == [folder]
    assert [stat.S_IMODE(each.stat().st_mode) for each in (folder, folder / "k8s.yaml")] == [0o700, 0o600]
