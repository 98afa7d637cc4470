"""The files of a volume: the list of the API page, without excluded files."""

from collections.abc import Mapping
from dataclasses import replace

import yaml
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.domain.kubeconfig.volume_files import (
    BUILT_IN_FILES,
    IN_CLUSTER,
    REQUIRED_FILES,
    render_files,
)
from connector_store.domain.objects.builtin import CONFIGURATIONS
from connector_store.domain.objects.models import Address

ENTRY = KubeconfigEntry(
    key=ObjectKey("team-a", "k8s"),
    address=Address(host="192.168.1.100", port=6443),
    proxy="http://c-k8s.team-a.svc.cluster.local",
    ca=b"PEM\n",
    token="tok",
)
URL = "http://team-a%2Fk8s:tok@c-k8s.team-a.svc.cluster.local:80"


def rendered(configurations: list[str], *other_entries: KubeconfigEntry) -> Mapping[str, bytes]:
    return render_files([ENTRY, *other_entries], configurations, namespace="web")


def test_the_built_in_files_exist_by_default() -> None:
    assert rendered([]) == {
        "context.token": b"tok",
        "ca.crt": b"PEM\n",
        "ca.cert": b"PEM\n",
        "context.proxy.caCert": b"PEM\n",
        "connector.status.proxyAddress": b"http://c-k8s.team-a.svc.cluster.local",
        "http.proxy": URL.encode(),
        "https.proxy": URL.encode(),
        ".env": (
            f"http_proxy={URL}\nhttps_proxy={URL}\nHTTP_PROXY={URL}\nHTTPS_PROXY={URL}\n"
            "no_proxy=localhost,127.0.0.1,::1\n"
        ).encode(),
    }


def test_configurations_are_files_with_their_name() -> None:
    files = rendered(["kubeconfig", "kubeconfig-rotating"])
    assert yaml.safe_load(files["kubeconfig"])["users"][0]["user"] == {"token": "fake-token"}
    assert yaml.safe_load(files["kubeconfig-rotating"])["users"][0]["user"] == {"tokenFile": "context.token"}


def test_with_several_connectors_the_built_in_files_are_for_the_first() -> None:
    files = rendered(["kubeconfig"], replace(ENTRY, key=ObjectKey("team-b", "other")))
    assert files["http.proxy"] == URL.encode()
    assert len(yaml.safe_load(files["kubeconfig"])["clusters"]) == 2


@given(st.sets(st.sampled_from(BUILT_IN_FILES)), st.sets(st.sampled_from(CONFIGURATIONS)))
def test_every_file_exists_unless_it_is_excluded(excluded_files: set[str], configurations: set[str]) -> None:
    files = render_files([ENTRY], sorted(configurations), excluded_files, namespace="web")
    in_cluster_files = {"token", "namespace"} if IN_CLUSTER in configurations else set()
    assert set(files) == (set(BUILT_IN_FILES) - excluded_files) | (configurations - {IN_CLUSTER}) | in_cluster_files


def test_the_direct_kubeconfig_reads_the_files_next_to_it() -> None:
    config = yaml.safe_load(rendered(["kubeconfig-direct"])["kubeconfig-direct"])
    assert config["clusters"][0]["cluster"] == {
        "server": "https://c-k8s.team-a.svc.cluster.local",
        "certificate-authority": "ca.crt",
    }
    assert config["users"][0]["user"] == {"tokenFile": "context.token"}


def test_in_cluster_has_the_files_of_a_service_account() -> None:
    files = rendered(["in-cluster"])
    assert (files["token"], files["ca.crt"], files["namespace"]) == (b"tok", b"PEM\n", b"web")
    assert "in-cluster" not in files


def test_files_that_a_kubeconfig_reads_are_required() -> None:
    for name in set(CONFIGURATIONS) - {IN_CLUSTER}:
        config = yaml.safe_load(rendered([name])[name])
        references = (
            config["users"][0]["user"].get("tokenFile"),
            config["clusters"][0]["cluster"].get("certificate-authority"),
        )
        assert REQUIRED_FILES.get(name, ()) == tuple(filter(None, references))
    assert REQUIRED_FILES[IN_CLUSTER] == ("ca.crt",)


def test_required_files_are_built_in() -> None:
    assert REQUIRED_FILES.keys() <= set(CONFIGURATIONS)
    assert {file for files in REQUIRED_FILES.values() for file in files} <= set(BUILT_IN_FILES)
