"""`connectorctl kubeconfig`."""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.certificates import make_ca
from tests.connectorctl.cli_result import RunCli

NAME = "default/k8s-connector"
MAKE = f"kubeconfig {NAME} --confdir confdir"
FOREIGN = """\
apiVersion: v1
kind: Config
clusters: [{name: prod, cluster: {server: https://prod}}]
contexts: [{name: prod, context: {cluster: prod, user: prod}}]
users: [{name: prod, user: {token: t}}]
current-context: prod
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_kubeconfig_goes_to_stdout(run_cli: RunCli, connectors: Path) -> None:
    code, out, err = run_cli(MAKE)
    config = yaml.safe_load(out)
    assert (code, err) == (0, "")
    assert config["clusters"][0]["cluster"]["proxy-url"].startswith("http://default%2Fk8s-connector:eyJ")
    assert "REPLACE" not in out


def test_with_direct_the_proxy_is_the_server(run_cli: RunCli, connectors: Path) -> None:
    code, out, err = run_cli(f"{MAKE} --direct")
    config = yaml.safe_load(out)
    assert (code, err) == (0, "")
    assert config["clusters"][0]["cluster"]["server"] == f"https://127.0.0.1:8080/connectors/{NAME}"
    assert config["users"][0]["user"]["token"].startswith("eyJ")


def test_the_file_is_private(run_cli: RunCli, connectors: Path, workdir: Path) -> None:
    assert run_cli(f"{MAKE} -o team.kubeconfig") == (0, "", "wrote team.kubeconfig\n")
    assert mode(workdir / "team.kubeconfig") == 0o600
    assert yaml.safe_load((workdir / "team.kubeconfig").read_text())["kind"] == "Config"


def test_a_rotating_kubeconfig_has_its_token_in_a_file(run_cli: RunCli, connectors: Path, workdir: Path) -> None:
    assert run_cli(f"{MAKE} --rotating -o team.kubeconfig").code == 0
    config = yaml.safe_load((workdir / "team.kubeconfig").read_text())
    assert config["users"][0]["user"] == {"tokenFile": "context.token"}
    assert (workdir / "context.token").read_text().startswith("eyJ")
    assert mode(workdir / "context.token") == 0o600


@pytest.mark.parametrize(("form", "load"), [("json", json.loads), ("yaml", yaml.safe_load)])
def test_a_format_is_for_stdout(
    run_cli: RunCli, connectors: Path, workdir: Path, form: str, load: Callable[[str], Any]
) -> None:
    code, out, _ = run_cli(f"{MAKE} -o {form}")
    assert code == 0
    assert load(out)["kind"] == "Config"
    assert not (workdir / form).exists()


def test_a_file_with_foreign_contexts_stays(run_cli: RunCli, connectors: Path, workdir: Path) -> None:
    (workdir / "config").write_text(FOREIGN)
    code, out, err = run_cli(f"{MAKE} -o config")
    assert (code, out) == (1, "")
    assert "config has contexts that are not of Connectors (prod); keep them with --merge, or replace" in err
    assert (workdir / "config").read_text() == FOREIGN
    assert run_cli(f"{MAKE} -o config --force").code == 0
    assert "prod" not in (workdir / "config").read_text()
    assert run_cli(f"{MAKE} -o config").code == 0


def test_a_merge_goes_where_kubectl_reads(
    run_cli: RunCli, connectors: Path, workdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", "mine:other")
    (workdir / "mine").write_text(FOREIGN)
    result = run_cli(f"{MAKE} --merge")
    assert result == (0, "", f"wrote mine; its current context is {NAME}, which was prod\n")
    merged = yaml.safe_load((workdir / "mine").read_text())
    assert [context["name"] for context in merged["contexts"]] == ["prod", NAME]
    assert run_cli(f"{MAKE} --merge").err == f"wrote mine; its current context is {NAME}\n"
    assert run_cli(f"{MAKE} --merge -o fresh --context-name team").err == "wrote fresh; its current context is team\n"


def test_the_context_name_and_namespace_can_be_chosen(run_cli: RunCli, connectors: Path) -> None:
    config = yaml.safe_load(run_cli(f"{MAKE} --context-name team --default-namespace web").out)
    assert config["current-context"] == config["clusters"][0]["name"] == config["users"][0]["name"] == "team"
    assert config["contexts"][0]["context"]["namespace"] == "web"


def test_a_connector_named_twice_has_one_entry(run_cli: RunCli, connectors: Path) -> None:
    config = yaml.safe_load(run_cli(f"{MAKE} {NAME}").out)
    assert [context["name"] for context in config["contexts"]] == ["k8s"]


def test_an_exec_kubeconfig_has_no_token(run_cli: RunCli, connectors: Path) -> None:
    code, out, _ = run_cli(f"{MAKE} --exec")
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
        pytest.param(f"{MAKE} --rotating", 2, "needs -o FILE", id="rotating without a file"),
        pytest.param(f"{MAKE} --rotating -o -", 2, "needs -o FILE", id="rotating on stdout"),
        pytest.param(f"{MAKE} a/b --rotating -o f", 2, "a token of its own", id="rotating is for one of a folder"),
        pytest.param(f"{MAKE} --rotating --exec -o f", 2, "use --exec instead", id="two ways to renew"),
        pytest.param(f"{MAKE} --merge -o json", 2, "--merge is for files", id="a merge into stdout"),
        pytest.param(f"{MAKE} --ca ca.crt", 2, "--ca goes with --oidc", id="a CA without effect"),
        pytest.param(f"{MAKE} --context-name=", 2, "--context-name is empty", id="a name of nothing"),
        pytest.param(f"{MAKE} --audience x", 2, "--audience goes with --oidc", id="an audience without effect"),
        pytest.param(f"{MAKE} a/b --context-name x", 2, "is for one Connector", id="one name for two"),
        pytest.param(
            f"kubeconfig {NAME} --source connectors/k8s-connector.yaml",
            1,
            "name its folder, connectors",
            id="a file instead of a folder",
        ),
    ],
)
def test_a_failure_has_its_exit_code_and_reason(
    run_cli: RunCli, connectors: Path, line: str, code: int, message: str
) -> None:
    result = run_cli(line)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert message in result.err


def test_an_oidc_caller_needs_neither_a_token_nor_a_source(run_cli: RunCli, tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(make_ca().pem)
    code, out, err = run_cli(
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
        pytest.param("--oidc gitea", 2, "is not one of: github", id="another source"),
        pytest.param("--oidc github --proxy https://p", 2, "needs --proxy https://HOST and --ca", id="no CA"),
        pytest.param("--oidc github --ca ca.crt", 2, "needs --proxy https://HOST and --ca", id="no proxy"),
        pytest.param("--oidc github --proxy https://p --ca /absent", 1, "curl https://PROXY/ca.crt", id="no file"),
        pytest.param("--oidc github --proxy https://p --ca bad.crt", 1, "no whole PEM", id="no certificate"),
        pytest.param("--oidc github --proxy https://u@p --ca ca.crt", 1, "error: --proxy: is not", id="no proxy's URL"),
        pytest.param("--oidc github --proxy http://p --ca ca.crt", 1, "without TLS", id="a proxy without TLS"),
    ],
)
def test_oidc_requires_proxy_and_ca(
    run_cli: RunCli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: str, code: int, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ca.crt").write_bytes(make_ca().pem)
    (tmp_path / "bad.crt").write_text("none")
    result = run_cli(f"kubeconfig team-a/k8s {options}")
    assert result.code == code
    assert reason in result.err
