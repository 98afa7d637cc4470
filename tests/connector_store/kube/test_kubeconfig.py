"""A kubeconfig means the same as for kubectl."""

import json
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from connector_store.kube import config_loader
from connector_store.kube.configuration import CredentialError


def write(tmp_path: Path, user: dict, **cluster: object) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1:6443/prefix", **cluster}}],
        "users": [{"name": "u", "user": user}, {"name": "v", "user": {"token": "other"}}],
        "contexts": [
            {"name": "x", "context": {"cluster": "c", "user": "u"}},
            {"name": "y", "context": {"cluster": "c", "user": "v"}},
            {"name": "z", "context": {"cluster": "c"}},
        ],
        "current-context": "x",
    }
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(document))
    return str(path)


def text(tmp_path: Path, content: str) -> str:
    (tmp_path / "kubeconfig").write_text(content)
    return str(tmp_path / "kubeconfig")


def plugin(tmp_path: Path, status: dict | None, *, code: int = 0) -> dict:
    """Write an exec plugin that counts its runs in a file next to it."""
    script = tmp_path / "plugin"
    answer = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status}
    script.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(tmp_path / 'runs')!r}, 'a').write('x')\n"
        f"print({json.dumps(answer)!r})\nsys.exit({code})\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(script), "env": None}}


def shaped(**more: object) -> dict:
    """Return a user with an exec plugin of these values. The plugin would print nothing."""
    return {"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "true", **more}}


def read(path: str) -> str:
    return Path(path).read_text()


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text())


async def test_a_kubeconfig(tmp_path: Path) -> None:
    path = write(tmp_path, {"token": "t"}, **{"proxy-url": "http://p:1", "tls-server-name": "n"})
    configuration = await config_loader.load_configuration(kubeconfig=path)
    assert (configuration.host, await configuration.authorization()) == ("https://192.0.2.1:6443/prefix", "Bearer t")
    assert (configuration.proxy, configuration.tls_server_name) == ("http://p:1", "n")


async def test_the_environment_names_the_kubeconfig_and_a_context_picks_one(tmp_path: Path) -> None:
    environ = {"KUBECONFIG": write(tmp_path, {"token": "t"})}
    assert await (await config_loader.load_configuration("y", environ=environ)).authorization() == "Bearer other"


async def test_a_token_file_wins_and_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("one\n")
    now = [1000.0]
    path = write(tmp_path, {"tokenFile": "token", "token": "inline"})
    configuration = await config_loader.load_configuration(kubeconfig=path, clock=lambda: now[0])
    assert await configuration.authorization() == "Bearer one"
    (tmp_path / "token").write_text("two\n")
    assert await configuration.authorization() == "Bearer one"
    now[0] += 61
    assert await configuration.authorization() == "Bearer two"


@pytest.mark.slow
async def test_a_plugin_without_expiry_runs_once(tmp_path: Path) -> None:
    configuration = await config_loader.load_configuration(kubeconfig=write(tmp_path, plugin(tmp_path, {"token": "p"})))
    assert await configuration.authorization() == "Bearer p"
    assert runs(tmp_path) == 1


@pytest.mark.slow
async def test_a_plugin_runs_again_before_its_credential_expires(tmp_path: Path) -> None:
    now = [1_700_000_000.0]
    status = {"token": "p", "expirationTimestamp": "2023-11-14T22:23:20Z"}  # in ten minutes
    configuration = await config_loader.load_configuration(
        kubeconfig=write(tmp_path, plugin(tmp_path, status)), now=lambda: now[0]
    )
    now[0] += 530
    await configuration.authorization()
    assert runs(tmp_path) == 1
    now[0] += 20
    await configuration.authorization()
    assert runs(tmp_path) == 2


@pytest.mark.slow
async def test_a_plugin_that_fails_later_is_an_error_and_runs_again_after_a_minute(tmp_path: Path) -> None:
    now = [1_700_000_000.0]
    status = {"token": "p", "expirationTimestamp": "2023-11-14T22:23:20Z"}  # in ten minutes
    configuration = await config_loader.load_configuration(
        kubeconfig=write(tmp_path, plugin(tmp_path, status)), now=lambda: now[0]
    )
    plugin(tmp_path, status, code=3)
    now[0] += 550
    with pytest.raises(CredentialError, match="returned 3"):
        await configuration.authorization()
    assert await configuration.authorization() == "Bearer p"
    plugin(tmp_path, {"token": "q"})
    now[0] += 61
    assert await configuration.authorization() == "Bearer q"


@pytest.mark.slow
async def test_a_plugin_may_give_a_certificate(tmp_path: Path) -> None:
    status = {"clientCertificateData": "cert", "clientKeyData": "key"}
    configuration = await config_loader.load_configuration(kubeconfig=write(tmp_path, plugin(tmp_path, status)))
    assert configuration.cert_file is not None
    assert configuration.key_file is not None
    assert read(configuration.cert_file) == "cert"
    assert read(configuration.key_file) == "key"


@pytest.mark.slow
def test_reads_none_of_the_modules_that_the_image_leaves_out() -> None:
    program = (
        "import re, sys, connector_store.kube.kubeconfig\n"
        "sys.exit(any(re.search(r'^kubernetes[.](aio[.])?client[.](models|api)[.]', name) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.parametrize(
    ("make_file", "context", "reason"),
    [
        pytest.param(lambda path: str(path / "none"), None, "not found", id="no such file"),
        pytest.param(lambda path: write(path, {"token": "t"}), "nope", 'has no context "nope"', id="no such context"),
        pytest.param(lambda path: write(path, {"token": "t"}), "z", "user", id="a context without a user"),
        pytest.param(lambda path: text(path, "a: ["), None, "line 1", id="no YAML"),
        pytest.param(lambda path: text(path, ""), None, "no access", id="an empty file"),
        pytest.param(lambda path: text(path, "clusters: 1"), None, "no access", id="another shape"),
        pytest.param(lambda path: write(path, {"tokenFile": "none"}), None, "none", id="no such token file"),
        pytest.param(
            lambda path: write(path, {"token": "t", "as": "jane"}), None, "/as: is not supported", id="impersonation"
        ),
        pytest.param(
            lambda path: write(path, plugin(path, None, code=3)),
            None,
            "returned 3",
            id="a plugin that fails",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            lambda path: write(path, plugin(path, {})),
            None,
            "neither token",
            id="a plugin that gives nothing",
            marks=pytest.mark.slow,
        ),
    ],
)
async def test_says_what_is_missing(tmp_path: Path, make_file, context: str | None, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        await config_loader.load_configuration(context, kubeconfig=make_file(tmp_path))


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        pytest.param({"exec": "canary"}, ": is not a mapping", id="no mapping"),
        pytest.param({"exec": {"command": "true"}}, "/apiVersion: is missing", id="a field missing"),
        pytest.param(shaped(command=5), "/command: is not a string; write it in quotes", id="a command"),
        pytest.param(shaped(args="-x"), "/args: is not a list", id="arguments in one"),
        pytest.param(shaped(args=["-p", 1]), "/args[1]: is not a string; write it in quotes", id="an argument"),
        pytest.param(shaped(env={"A": "canary"}), "/env: is not a list", id="variables as a mapping"),
        pytest.param(shaped(env=["canary"]), "/env[0]: is not a mapping", id="a variable in one"),
        pytest.param(shaped(env=[{"name": "A", "value": 1}]), "/env[0]/value: is not a string; write it in quotes",
                     id="a variable"),
        pytest.param(shaped(command="/absent/plugin"), "/command: /absent/plugin: No such file or directory",
                     id="a command that is not there", marks=pytest.mark.slow),
    ],
)  # fmt: skip
async def test_a_plugin_of_another_shape_is_named_by_file_and_field(tmp_path: Path, user: dict, reason: str) -> None:
    path = write(tmp_path, user)
    with pytest.raises(ValueError, match="no access") as refused:
        await config_loader.load_configuration(kubeconfig=path)
    assert str(refused.value) == f"no access to an API server: {path}: users[u]/user/exec{reason}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param("5", "", id="no object"),
        pytest.param("", "failed to decode process output", id="nothing"),
        pytest.param('{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": 3}',
                     "its answer's status is not an object", id="no status"),
        pytest.param('{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status":'
                     ' {"token": "canary", "expirationTimestamp": "soon"}}',
                     "its answer's expirationTimestamp is no time", id="no time"),
    ],
)  # fmt: skip
async def test_a_plugin_that_answers_something_else_is_named_by_file_and_field(
    tmp_path: Path, answer: str, reason: str
) -> None:
    path = write(tmp_path, shaped(command="echo", args=[answer]))
    with pytest.raises(ValueError, match="no access") as refused:
        await config_loader.load_configuration(kubeconfig=path)
    assert str(refused.value).startswith(f"no access to an API server: {path}: users[u]/user/exec: {reason}")
    assert "canary" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"a: [", id="an open bracket"),
        pytest.param(b"[1", id="YAML's error of four lines"),
        pytest.param(b"\xff\xfe\xfd", id="no text"),
        pytest.param(b"- 1", id="a list"),
        pytest.param(b"5", id="a number"),
        pytest.param(b"users: [{name: u, token: canary}]\ncontexts: [{name: x, context: {user: u}}]\n"
                     b"current-context: x", id="a user without a user"),
        pytest.param(b"users: [{nme: u, user: {token: canary}}, {name: v}]", id="an entry without a name"),
        pytest.param(b"users: [{name: u}, {user: {token: canary}}]", id="a second one without"),
        pytest.param(b"users: [{user: {token: canary}}]", id="one alone without"),
    ],
)  # fmt: skip
async def test_an_invalid_kubeconfig_is_an_error_of_one_line_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "kubeconfig"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no access") as refused:
        await config_loader.load_configuration(kubeconfig=str(path))
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert "canary" not in str(refused.value)
