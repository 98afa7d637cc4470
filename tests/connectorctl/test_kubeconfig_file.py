"""Updates of a user's kubeconfig file."""

import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from connector_store.domain.base.errors import ParseError
from connectorctl.kubeconfig_fields import MAX_FILE_SIZE
from connectorctl.kubeconfig_file import check_replaceable, default_file, merge_into


def config(
    *names: str,
    proxy: str | None = "http://team-a%2Fk8s:token@127.0.0.1:8080",
    server: str = "https://x",
    **fields: object,
) -> dict[str, Any]:
    cluster = {"server": server} | ({"proxy-url": proxy} if proxy is not None else {})
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": cluster} for name in names],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}} for name in names],
        "users": [{"name": name, "user": {"token": "t"}} for name in names],
        "current-context": names[0] if names else "",
        **fields,
    }


FOREIGN = config("prod", "dev", proxy="http://corporate:3128", preferences={"colors": True})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config"


def put(path: Path, value: object) -> None:
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))


def read(path: Path) -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load(path.read_text())
    return config


def names(config: Mapping[str, Any], key: str) -> list[str]:
    return [entry["name"] for entry in config[key]]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("", id="an empty file"),
        pytest.param(config(), id="a kubeconfig without contexts"),
        pytest.param(config("k8s"), id="one of our contexts"),
        pytest.param(
            config("k8s", proxy=None, server="https://proxy.example.com/connectors/team-a/k8s"), id="a direct one"
        ),
        pytest.param(
            config("k8s", proxy=None, server="https://c-k8s.team-a.svc.cluster.local"),
            id="one of the Connector's Service",
        ),
        pytest.param({**config("k8s"), "users": None}, id="with a null for a list"),
    ],
)
def test_a_file_with_only_our_contexts_can_be_replaced(path: Path, value: object) -> None:
    put(path, value)
    check_replaceable(path)


def test_a_missing_file_and_a_device_can_be_written(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "absent")
    check_replaceable(Path("/dev/null"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(
            FOREIGN, r"contexts that are not of Connectors \(prod, dev\); keep them with --merge", id="foreign contexts"
        ),
        pytest.param(
            {**FOREIGN, "contexts": [*FOREIGN["contexts"], *config("k8s")["contexts"]]},
            "prod, dev",
            id="foreign and our contexts",
        ),
        pytest.param(config(*map(str, range(9)), proxy="x"), r"0, 1, 2, 3, 4, …", id="many foreign contexts"),
        pytest.param(config("k8s", proxy="http://[x"), "k8s", id="a proxy that is not a URL"),
        pytest.param(config("k8s", proxy=None), "k8s", id="a foreign server"),
        pytest.param(config("k8s", proxy=None, server="https://[x"), "k8s", id="a server that is not a URL"),
        pytest.param(config("k8s", proxy=None, server="https://c-k8s.example"), "k8s", id="a host with our prefix"),
        pytest.param(
            config("k8s", proxy="http://corporate:3128", server="https://x/connectors/team-a/k8s"),
            "k8s",
            id="our server through a foreign proxy",
        ),
        pytest.param({**config("k8s"), "clusters": [{"name": "k8s"}]}, "k8s", id="a cluster without content"),
        pytest.param("kind: Pod\n", "is not a kubeconfig", id="another object"),
        pytest.param("- a\n", "is not a kubeconfig", id="a list"),
        pytest.param("clusters: text\n", "is not a kubeconfig", id="a text instead of a list"),
        pytest.param("a: ]", "is not YAML", id="not YAML"),
        pytest.param("[\n" * 10_000, "is not YAML", id="nesting without end"),
    ],
)
def test_foreign_contexts_are_not_replaced(path: Path, value: object, message: str) -> None:
    put(path, value)
    with pytest.raises(ParseError, match=message):
        check_replaceable(path)


def test_a_merge_keeps_foreign_entries_and_returns_the_previous_context(path: Path) -> None:
    put(path, FOREIGN)
    path.chmod(0o644)
    assert merge_into(path, config("team-a/k8s"), force=False) == "prod"
    merged = read(path)
    for key in ("clusters", "contexts", "users"):
        assert names(merged, key) == ["prod", "dev", "team-a/k8s"]
        assert merged[key][:2] == FOREIGN[key]
    assert merged["current-context"] == "team-a/k8s"
    assert merged["preferences"] == {"colors": True}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [each.name for each in path.parent.iterdir()] == ["config"]


def test_a_merge_twice_is_the_same_as_once(path: Path) -> None:
    put(path, FOREIGN)
    merge_into(path, config("team-a/k8s"), force=False)
    once = read(path)
    assert merge_into(path, config("team-a/k8s"), force=False) == "team-a/k8s"
    assert read(path) == once


def test_a_merge_creates_the_file_and_its_folder(tmp_path: Path) -> None:
    path = tmp_path / ".kube" / "config"
    assert merge_into(path, config("team-a/k8s"), force=False) is None
    assert read(path) == config("team-a/k8s")
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_merge_leaves_a_link_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    put(real, FOREIGN)
    link.symlink_to(real)
    merge_into(link, config("team-a/k8s"), force=False)
    assert link.is_symlink()
    assert "team-a/k8s" in names(read(real), "contexts")


def test_a_merge_replaces_a_link_that_leads_to_itself(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(link)
    merge_into(link, config("team-a/k8s"), force=False)
    assert names(read(link), "contexts") == ["team-a/k8s"]


def test_a_foreign_entry_is_replaced_only_by_force(path: Path) -> None:
    put(path, FOREIGN)
    with pytest.raises(ParseError, match="has an entry dev that is not of a Connector"):
        merge_into(path, config("dev"), force=False)
    assert read(path) == FOREIGN
    merge_into(path, config("dev"), force=True)
    assert names(read(path), "users") == ["prod", "dev"]


def test_two_programs_do_not_write_at_once(path: Path) -> None:
    put(path, FOREIGN)
    lock = path.with_name("config.lock")
    lock.touch()
    with pytest.raises(ParseError, match="another program changes the kubeconfig"):
        merge_into(path, config("k8s"), force=False)
    assert lock.exists()


def test_a_file_that_is_too_large_is_not_read(path: Path) -> None:
    put(path, "a: 1\n# " + "x" * MAX_FILE_SIZE)
    with pytest.raises(ParseError, match=f"is longer than {MAX_FILE_SIZE} bytes, not a kubeconfig"):
        check_replaceable(path)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Path.home() / ".kube" / "config"),
        ({"KUBECONFIG": ""}, Path.home() / ".kube" / "config"),
        ({"KUBECONFIG": ":a:b"}, Path("a")),
    ],
)
def test_the_default_file_is_that_of_kubectl(environ: dict[str, str], expected: Path) -> None:
    assert default_file(environ) == expected
