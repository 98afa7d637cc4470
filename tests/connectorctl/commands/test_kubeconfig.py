"""`connectorctl kubeconfig`."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.certificates import make_ca
from tests.connectorctl.typed import Type

NAME = "default/k8s-connector"
MAKE = f"kubeconfig {NAME} --confdir confdir"
FILE = "connectors/k8s-connector.yaml"
THEIRS = """\
apiVersion: v1
kind: Config
clusters: [{name: prod, cluster: {server: https://prod}}]
contexts: [{name: prod, context: {cluster: prod, user: prod}}]
users: [{name: prod, user: {token: t}}]
current-context: prod
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_goes_to_stdout(typed: Type, connectors: Path) -> None:
    code, out, err = typed(MAKE)
    config = yaml.safe_load(out)
    assert (code, err) == (0, "")
    assert config["clusters"][0]["cluster"]["proxy-url"].startswith("http://default%2Fk8s-connector:eyJ")
    assert "REPLACE" not in out


def test_directly_the_proxy_is_the_server(typed: Type, connectors: Path) -> None:
    code, out, err = typed(f"{MAKE} --direct")
    config = yaml.safe_load(out)
    assert (code, err) == (0, "")
    assert config["clusters"][0]["cluster"]["server"] == f"https://127.0.0.1:8080/connectors/{NAME}"
    assert config["users"][0]["user"]["token"].startswith("eyJ")


def test_it_goes_to_a_private_file(typed: Type, connectors: Path, place: Path) -> None:
    assert typed(f"{MAKE} -o team.kubeconfig") == (0, "", "wrote team.kubeconfig\n")
    assert mode(place / "team.kubeconfig") == 0o600
    assert yaml.safe_load((place / "team.kubeconfig").read_text())["kind"] == "Config"


def test_a_rotating_one_has_its_token_beside_it(typed: Type, connectors: Path, place: Path) -> None:
    assert typed(f"{MAKE} --rotating -o team.kubeconfig").code == 0
    config = yaml.safe_load((place / "team.kubeconfig").read_text())
    assert config["users"][0]["user"] == {"tokenFile": "context.token"}
    assert (place / "context.token").read_text().startswith("eyJ")
    assert mode(place / "context.token") == 0o600


@pytest.mark.parametrize(("form", "read"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_a_form_is_one_of_stdout_and_no_file(
    typed: Type, connectors: Path, place: Path, form: str, read: Callable[[str], Any]
) -> None:
    code, out, _ = typed(f"{MAKE} -o {form}")
    assert code == 0
    assert read(out)["kind"] == "Config"
    assert not (place / form).exists()


def test_a_file_with_other_contexts_stays_as_it_is(typed: Type, connectors: Path, place: Path) -> None:
    (place / "config").write_text(THEIRS)
    code, out, err = typed(f"{MAKE} -o config")
    assert (code, out) == (1, "")
    assert "config: holds contexts that are not of Connectors (prod); add to it with --merge, or --force" in err
    assert (place / "config").read_text() == THEIRS
    assert typed(f"{MAKE} -o config --force").code == 0
    assert "prod" not in (place / "config").read_text()
    assert typed(f"{MAKE} -o config").code == 0


def test_a_merge_goes_where_kubectl_reads(
    typed: Type, connectors: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "mine:other")
    (place / "mine").write_text(THEIRS)
    done = typed(f"{MAKE} --merge")
    assert done == (0, "", f"wrote mine; its current context is {NAME}, which was prod\n")
    merged = yaml.safe_load((place / "mine").read_text())
    assert [each["name"] for each in merged["contexts"]] == ["prod", NAME]
    assert typed(f"{MAKE} --merge").err == f"wrote mine; its current context is {NAME}\n"
    assert typed(f"{MAKE} --merge -o fresh --context-name team").err == "wrote fresh; its current context is team\n"


def test_names_and_namespaces_are_the_users_to_choose(typed: Type, connectors: Path) -> None:
    config = yaml.safe_load(typed(f"{MAKE} --context-name team --default-namespace web").out)
    assert config["current-context"] == config["clusters"][0]["name"] == config["users"][0]["name"] == "team"
    assert config["contexts"][0]["context"]["namespace"] == "web"


def test_a_connector_that_is_named_twice_is_there_once(typed: Type, connectors: Path) -> None:
    config = yaml.safe_load(typed(f"{MAKE} {NAME}").out)
    assert [each["name"] for each in config["contexts"]] == ["k8s"]


def test_one_that_renews_itself_holds_no_token(typed: Type, connectors: Path) -> None:
    code, out, _ = typed(f"{MAKE} --exec")
    assert code == 0
    assert "eyJ" not in out
    config = yaml.safe_load(out)
    assert config["users"][0]["user"]["exec"]["args"][:2] == ["credential", NAME]
    assert config["clusters"][0]["cluster"]["proxy-url"].startswith("http://default%2Fk8s-connector:x@")


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        pytest.param(f"kubeconfig {NAME} --confdir nowhere", 1, "start the proxy once", id="a proxy that never ran"),
        pytest.param(f"{MAKE} --proxy x", 1, "error: --proxy: is not the URL", id="a proxy of no URL"),
        pytest.param(f"{MAKE} --proxy http://[::1", 1, "error: --proxy: is not a URL", id="a proxy of half a URL"),
        pytest.param(f"{MAKE} --proxy=", 1, "error: --proxy: is not the URL", id="a proxy of nothing"),
        pytest.param(f"{MAKE} -o absent/f", 1, "absent/f: No such file or directory", id="a folder missing"),
        pytest.param(f"{MAKE} --rotating", 2, "needs -o FILE", id="rotating needs a place for the token"),
        pytest.param(f"{MAKE} --rotating -o -", 2, "needs -o FILE", id="rotating has no place on stdout"),
        pytest.param(f"{MAKE} a/b --rotating -o f", 2, "a token of its own", id="rotating is for one of a folder"),
        pytest.param(f"{MAKE} --rotating --exec -o f", 2, "--exec alone", id="two ways to renew"),
        pytest.param(f"{MAKE} --merge -o json", 2, "--merge is for files", id="a merge into stdout"),
        pytest.param(f"{MAKE} --ca ca.crt", 2, "--ca goes with --oidc", id="a CA that would do nothing"),
        pytest.param(f"{MAKE} --context-name=", 2, "--context-name is empty", id="a name of nothing"),
        pytest.param(f"{MAKE} --audience x", 2, "--audience goes with --oidc", id="an audience that would do nothing"),
        pytest.param(f"{MAKE} a/b --context-name x", 2, "is for one Connector", id="one name for two"),
        pytest.param(
            f"kubeconfig {NAME} --source connectors/k8s-connector.yaml",
            1,
            "name its folder, connectors",
            id="a file for a folder",
        ),
    ],
)
def test_a_failure_has_its_code_and_says_why(typed: Type, connectors: Path, line: str, code: int, message: str) -> None:
    done = typed(line)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert message in done.err


def test_a_caller_from_outside_gets_one_without_a_token_and_without_a_source(typed: Type, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(make_ca().pem)
    code, out, err = typed(
        f"kubeconfig team-a/k8s --oidc github --proxy https://proxy.example --ca {tmp_path}/ca.crt --audience mine"
    )
    assert (code, err) == (0, "")
    config = yaml.safe_load(out)
    assert config["clusters"][0]["cluster"]["server"] == "https://proxy.example/connectors/team-a/k8s"
    plugin = config["users"][0]["user"]["exec"]
    assert plugin["args"] == ["credential", "--oidc", "github", "--audience", "mine"]


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        pytest.param("--oidc gitea", 2, "is none of: github", id="another source"),
        pytest.param("--oidc github --proxy https://p", 2, "needs --proxy https://HOST and --ca", id="no CA"),
        pytest.param("--oidc github --ca ca.crt", 2, "needs --proxy https://HOST and --ca", id="no proxy"),
        pytest.param("--oidc github --proxy https://p --ca /absent", 1, "curl https://PROXY/ca.crt", id="no file"),
        pytest.param("--oidc github --proxy https://p --ca bad.crt", 1, "no whole PEM", id="no certificate"),
        pytest.param("--oidc github --proxy https://u@p --ca ca.crt", 1, "error: --proxy: is not", id="no proxy's URL"),
        pytest.param("--oidc github --proxy http://p --ca ca.crt", 1, "in clear", id="a proxy without TLS"),
    ],
)
def test_what_a_caller_from_outside_has_to_say(
    typed: Type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, code: int, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.crt").write_bytes(make_ca().pem)
    (tmp_path / "bad.crt").write_text("none")
    found = typed(f"kubeconfig team-a/k8s {options}")
    assert found.code == code
    assert reason in found.err
