"""OIDC tokens of a job or a pod."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connector_store.domain.base.errors import ParseError
from connectorctl.oidc_token import parse_token_provider
from lab.oidc_issuer import TestIssuer

AUDIENCE = "connectors"


@pytest.fixture(scope="module")
def runner() -> Iterator[TestIssuer]:
    """A fake of the token service of GitHub's runners."""
    with TestIssuer() as issuer:
        issuer.responses["/token?api-version=2.0&audience=connectors"] = (
            200,
            {},
            json.dumps({"value": "a.b.c"}).encode(),
        )
        issuer.responses["/token?api-version=3&audience=connectors"] = (200, {}, b'{"count": 0}')
        yield issuer


def github_environment(runner: TestIssuer, version: str = "2.0") -> dict[str, str]:
    return {
        "ACTIONS_ID_TOKEN_REQUEST_URL": f"{runner.url}/token?api-version={version}",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "runner-token-canary",
    }


@pytest.fixture
def trusted(runner: TestIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ca.pem"
    path.write_bytes(runner.ca.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


@pytest.mark.usefixtures("trusted")
def test_github_gets_the_token_from_its_runner(runner: TestIssuer) -> None:
    assert parse_token_provider("github").fetch(github_environment(runner), AUDIENCE) == "a.b.c"


def test_gitlab_has_the_token_in_a_variable() -> None:
    assert parse_token_provider("gitlab").fetch({"CONNECTORS_ID_TOKEN": "a.b.c\n"}, AUDIENCE) == "a.b.c"
    assert parse_token_provider("gitlab:MINE").fetch({"MINE": "d.e.f"}, AUDIENCE) == "d.e.f"


def test_a_pod_has_the_token_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text("a.b.c\n")
    monkeypatch.chdir(tmp_path)
    provider = parse_token_provider("file:token")
    assert provider.text == f"file:{tmp_path}/token"
    assert provider.fetch({}, AUDIENCE) == "a.b.c"


@pytest.mark.slow
def test_a_command_prints_the_token() -> None:
    provider = parse_token_provider(f"command:{sys.executable} -c \"print('a.b.c')\"")
    assert provider.fetch({}, AUDIENCE) == "a.b.c"


@pytest.mark.slow
def test_a_command_can_print_an_exec_credential(tmp_path: Path) -> None:
    """A stand-in for kubelogin and other credential plugins of kubectl."""
    plugin = tmp_path / "plugin"
    plugin.write_text(
        "#!/bin/sh\n"
        'test "$1" = get-token && echo "log in at https://issuer.example" >&2 &&\n'
        """echo '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential",'\n"""
        """echo '"status":{"token":"a.b.c"}}'\n"""
    )
    plugin.chmod(0o755)
    assert parse_token_provider(f"command:{plugin} get-token").fetch({}, AUDIENCE) == "a.b.c"


@pytest.mark.parametrize("text", ["", "github:x", "gitea", "file:", "command: ", "GITHUB"])
def test_an_unknown_provider_is_refused(text: str) -> None:
    with pytest.raises(ParseError, match="is not one of: github"):
        parse_token_provider(text)


@pytest.mark.parametrize(
    ("text", "environ", "reason"),
    [
        pytest.param("github", {}, "permissions: id-token: write", id="no permission at GitHub"),
        pytest.param(
            "github",
            {"ACTIONS_ID_TOKEN_REQUEST_URL": "http://h/?a", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t"},
            "not an https URL",
            id="a runner without TLS",
        ),
        pytest.param(
            "github",
            {"ACTIONS_ID_TOKEN_REQUEST_URL": "https://127.0.0.1:1/?a", "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "t"},
            "does not answer",
            id="no runner there",
        ),
        pytest.param("gitlab", {}, "id_tokens: {CONNECTORS_ID_TOKEN: {aud: connectors}}", id="no token of GitLab"),
        pytest.param("gitlab", {"CONNECTORS_ID_TOKEN": "a b"}, "is not a token", id="a variable of another kind"),
        pytest.param("file:/does/not/exist", {}, "No such file", id="no file"),
        pytest.param("command:/does/not/exist", {}, "No such file", id="no such command", marks=pytest.mark.slow),
        pytest.param("command:false", {}, "exit code 1", id="a command that fails", marks=pytest.mark.slow),
        pytest.param("command:true", {}, "is not a token", id="a command that prints nothing", marks=pytest.mark.slow),
        pytest.param("command:'", {}, "No closing quotation", id="half a quotation"),
    ],
)
def test_the_reason_for_a_missing_token_is_reported(text: str, environ: dict[str, str], reason: str) -> None:
    with pytest.raises(ParseError) as error:
        parse_token_provider(text).fetch(environ, AUDIENCE)
    assert reason in str(error.value)


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize(
    ("version", "reason"),
    [
        pytest.param("1", "the runner answered 404; the job needs permissions", id="a refusal"),
        pytest.param("3", "answer has no token", id="an answer without a token"),
    ],
)
def test_a_runner_without_a_token_is_reported(runner: TestIssuer, version: str, reason: str) -> None:
    with pytest.raises(ParseError) as error:
        parse_token_provider("github").fetch(github_environment(runner, version), AUDIENCE)
    assert reason in str(error.value)
    assert "canary" not in str(error.value)
