"""The command line -> one value."""

from pathlib import Path

import pytest

from connector_store.domain.names import ObjectKey
from connectorctl.arguments import Arguments, parse_arguments

KEY = ObjectKey("team-a", "k8s")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("init", Arguments(command="init")),
        ("init here", Arguments(command="init", folder=Path("here"))),
        ("check here", Arguments(command="check", folder=Path("here"))),
        ("token team-a/k8s", Arguments(command="token", keys=(KEY,))),
        ("token team-a/k8s --ttl 1h", Arguments(command="token", keys=(KEY,), ttl=3600)),
        (
            "kubeconfig team-a/k8s team-b/k8s --proxy http://p:80 -o f",
            Arguments(
                command="kubeconfig",
                keys=(KEY, ObjectKey("team-b", "k8s")),
                proxy="http://p:80",
                output=Path("f"),
            ),
        ),
        (
            "kubeconfig team-a/k8s --rotating -o f --confdir c",
            Arguments(command="kubeconfig", keys=(KEY,), rotating=True, output=Path("f"), confdir=Path("c")),
        ),
        (
            "token team-a/k8s --source kubernetes --service-account ci/default --kubeconfig k --context c",
            Arguments(
                command="token",
                keys=(KEY,),
                source="kubernetes",
                service_account=ObjectKey("ci", "default"),
                kubeconfig="k",
                context="c",
            ),
        ),
        ("status -n team-a", Arguments(command="status", namespace="team-a")),
    ],
)
def test_a_line_is_read(line: str, expected: Arguments) -> None:
    assert parse_arguments(line.split(), plugin=False) == expected


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("", "COMMAND", id="a command is needed"),
        pytest.param("nothing", "invalid choice", id="an unknown command"),
        pytest.param("token", "NAMESPACE/NAME", id="a token is for a Connector"),
        pytest.param("token k8s", "not of the form NAMESPACE/NAME", id="a name without namespace"),
        pytest.param("token a/b c/d", "c/d", id="a token is for one Connector"),
        pytest.param("kubeconfig a/b --ttl never", "write it as 30m", id="a duration that is none"),
        pytest.param("kubeconfig a/b --rotating", "needs -o FILE", id="rotating needs a place for the token"),
        pytest.param("kubeconfig a/b --rotating -o -", "needs -o FILE", id="rotating has no place on stdout"),
        pytest.param("status --ttl 5m", "--ttl", id="a flag of another command"),
    ],
)
def test_a_line_that_is_wrong_ends_with_code_2(line: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(line.split(), plugin=False)
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert message in err
    assert not out


def test_the_plugin_calls_itself_as_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_arguments(["--help"], plugin=True)
    assert ended.value.code == 0
    assert "usage: kubectl connector" in capsys.readouterr().out
