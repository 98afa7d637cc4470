"""The files of a volume: the API page's list, and nothing that was left out."""

from collections.abc import Mapping
from dataclasses import replace

import yaml
from hypothesis import given
from hypothesis import strategies as st

from connector_store.domain.base.names import ObjectKey
from connector_store.domain.kubeconfig.kubeconfig import KubeconfigEntry
from connector_store.domain.kubeconfig.volume_files import (
    BUILT_IN_FILES,
    CONFIGURATIONS,
    IN_CLUSTER,
    IN_CLUSTER_FILES,
    REQUIRED_FILES,
    render_files,
)
from connector_store.domain.objects.models import Address

ENTRY = KubeconfigEntry(
    key=ObjectKey("team-a", "k8s"),
    address=Address(host="192.168.1.100", port=6443),
    proxy="http://c-k8s.team-a.svc.cluster.local",
    ca=b"PEM\n",
    token="tok",
)
URL = "http://team-a%2Fk8s:tok@c-k8s.team-a.svc.cluster.local:80"


def rendered(configurations: list[str], *more: KubeconfigEntry) -> Mapping[str, bytes]:
    return render_files([ENTRY, *more], configurations, namespace="web")


def test_the_built_in_files_are_there_without_being_asked_for() -> None:
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


def test_configurations_are_files_of_their_name() -> None:
    files = rendered(["kubeconfig", "kubeconfig-rotating"])
    assert yaml.safe_load(files["kubeconfig"])["users"][0]["user"] == {"token": "fake-token"}
    assert yaml.safe_load(files["kubeconfig-rotating"])["users"][0]["user"] == {"tokenFile": "context.token"}


def test_of_several_connectors_the_built_in_files_know_the_first() -> None:
    files = rendered(["kubeconfig"], replace(ENTRY, key=ObjectKey("team-b", "other")))
    assert files["http.proxy"] == URL.encode()
    assert len(yaml.safe_load(files["kubeconfig"])["clusters"]) == 2


@given(st.sets(st.sampled_from(BUILT_IN_FILES)), st.sets(st.sampled_from(CONFIGURATIONS)))
def test_every_file_is_there_unless_it_was_left_out(left_out: set[str], wanted: set[str]) -> None:
    files = render_files([ENTRY], sorted(wanted), left_out, namespace="web")
    own = set(IN_CLUSTER_FILES) if IN_CLUSTER in wanted else set()
    assert set(files) == (set(BUILT_IN_FILES) - left_out) | (wanted - {IN_CLUSTER}) | own


def test_directly_a_kubeconfig_reads_the_files_beside_it() -> None:
    config = yaml.safe_load(rendered(["kubeconfig-direct"])["kubeconfig-direct"])
    assert config["clusters"][0]["cluster"] == {
        "server": "https://c-k8s.team-a.svc.cluster.local",
        "certificate-authority": "ca.crt",
    }
    assert config["users"][0]["user"] == {"tokenFile": "context.token"}


def test_in_cluster_a_program_finds_what_it_looks_for_at_its_accounts_path() -> None:
    files = rendered(["in-cluster"])
    assert (files["token"], files["ca.crt"], files["namespace"]) == (b"tok", b"PEM\n", b"web")
    assert "in-cluster" not in files


def test_what_a_kubeconfig_reads_is_known_to_be_needed() -> None:
    for name in set(CONFIGURATIONS) - {IN_CLUSTER}:
        config = yaml.safe_load(rendered([name])[name])
        read = (
            config["users"][0]["user"].get("tokenFile"),
            config["clusters"][0]["cluster"].get("certificate-authority"),
        )
        assert REQUIRED_FILES.get(name, ()) == tuple(filter(None, read))
    assert REQUIRED_FILES[IN_CLUSTER] == ("ca.crt",)


def test_what_a_configuration_reads_is_a_built_in_file() -> None:
    assert REQUIRED_FILES.keys() <= set(CONFIGURATIONS)
    assert {each for files in REQUIRED_FILES.values() for each in files} <= set(BUILT_IN_FILES)
