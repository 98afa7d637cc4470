"""The manifests of tests and measurements, as the product reads them."""

import stat
from pathlib import Path

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.objects.models import Target
from connector_store.folder.folder_watch import FolderWatch
from connector_store.store import Store
from lab.certificates import make_ca
from lab.manifests import connector, secret, write_manifests


def test_the_product_reads_them_as_a_connector_with_a_secret(tmp_path: Path) -> None:
    ca = make_ca().pem.decode()
    write_manifests(
        tmp_path / "connectors",
        connector("k8s", "https://h:6443", namespace="team-a"),
        secret("k8s", namespace="team-a", token="t", ca=ca),
    )
    store = Store()
    assert FolderWatch(tmp_path / "connectors", store, system_namespace="sys").load_once() == ()
    target = store.get(ObjectKey("team-a", "k8s"))
    assert isinstance(target, Target)
    assert (str(target.address), target.ca) == ("https://h:6443", ca.encode())


def test_arguments_override_fields_of_the_spec() -> None:
    manifest = connector("k8s", "https://h", secret="other", auth={"name": "clientCertificateAuth"})
    assert manifest["spec"]["auth"] == {"name": "clientCertificateAuth"}
    assert manifest["metadata"] == {"name": "k8s"}
    assert connector("k8s", "https://h", secret="other")["spec"]["auth"]["secretRef"] == {"name": "other"}


def test_the_folder_belongs_to_its_owner_and_has_whole_files_only(tmp_path: Path) -> None:
    folder = tmp_path / "connectors"
    for token in "ab":
        write_manifests(folder, secret("k8s", token=token, ca="pem"), file="k8s.yaml")
    assert [path.name for path in folder.iterdir()] == ["k8s.yaml"]
    assert list(tmp_path.iterdir()) == [folder]
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "k8s.yaml")] == [0o700, 0o600]
