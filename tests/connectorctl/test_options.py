"""Options that several commands share."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connectorctl.invocation import Invocation
from connectorctl.option_values import CallerOptions, SourceOptions
from connectorctl.options import (
    ConnectorKeyParam,
    add_caller_options,
    add_format_option,
    add_source_options,
    parse_lifetime,
)


@click.command
@click.argument("key", type=ConnectorKeyParam())
@add_format_option("json", "wide")
@add_caller_options
@add_source_options
def probe(key: ObjectKey, form: str | None, source_options: SourceOptions, caller_options: CallerOptions) -> None:
    click.echo(repr((key, form, source_options, caller_options)))


def parse(line: str, **environment: str) -> tuple[int, str]:
    result = CliRunner().invoke(probe, line.split(), env=environment)
    return result.exit_code, result.output.strip()


KEY = ObjectKey("a", "k8s")


@pytest.mark.parametrize(
    ("line", "environment", "expected"),
    [
        pytest.param("a/k8s", {}, (KEY, None, SourceOptions(), CallerOptions()), id="defaults"),
        pytest.param(
            "a/k8s -o json --source kubernetes --kubeconfig k --context c",
            {},
            (KEY, "json", SourceOptions(source="kubernetes", kubeconfig="k", context="c"), CallerOptions()),
            id="source options",
        ),
        pytest.param(
            "a/k8s --service-account ci/robot --ttl 1h --confdir d",
            {},
            (
                KEY,
                None,
                SourceOptions(),
                CallerOptions(service_account=ObjectKey("ci", "robot"), ttl=3600, confdir=Path("d")),
            ),
            id="caller options",
        ),
        pytest.param(
            "a/k8s",
            {
                "CONNECTORCTL_SOURCE": "s",
                "CONNECTORCTL_CONFDIR": "d",
                "CONNECTORCTL_TTL": "1m",
                "CONNECTORCTL_SERVICE_ACCOUNT": "ci/robot",
            },
            (
                KEY,
                None,
                SourceOptions(source="s"),
                CallerOptions(service_account=ObjectKey("ci", "robot"), ttl=60, confdir=Path("d")),
            ),
            id="from the environment",
        ),
        pytest.param(
            "a/k8s --source t",
            {"CONNECTORCTL_SOURCE": "s"},
            (KEY, None, SourceOptions(source="t"), CallerOptions()),
            id="a flag wins",
        ),
    ],
)
def test_options_are_parsed(line: str, environment: dict[str, str], expected: tuple[object, ...]) -> None:
    assert parse(line, **environment) == (0, repr(expected))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("k8s", "'k8s': not of the form NAMESPACE/NAME", id="a name without namespace"),
        pytest.param("a/b --ttl never", "write it as 30m", id="an invalid duration"),
        pytest.param("a/b --ttl 0", "'0': is not between 1s and a year", id="no time at all"),
        pytest.param("a/b -o xml", "'xml' is not one of 'json', 'wide'", id="an unknown format"),
        pytest.param("a/b --kubeconfg c", "'--kubeconfig'", id="an option with a slip"),
    ],
)
def test_wrong_options_are_reported(line: str, message: str) -> None:
    code, output = parse(line)
    assert code == 2
    assert message in output


def test_parsed_values_are_returned_unchanged() -> None:
    assert ConnectorKeyParam().convert(KEY, None, None) == KEY


def test_connectors_are_completed_from_the_source_option(connectors: Path) -> None:
    context = click.Context(probe, obj=Invocation())
    context.params = {"source": "connectors"}
    completions = ConnectorKeyParam().shell_complete(context, probe.params[0], "default/")
    assert [item.value for item in completions] == ["default/k8s-connector"]
    assert ConnectorKeyParam().shell_complete(context, probe.params[0], "other/") == []


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 1800), ("1h", 3600), ("1h30m", 5400), ("90s", 90), ("600", 600), ("1h0m5s", 3605), ("8784h", 31622400)],
)
def test_a_lifetime_is_parsed(text: str, seconds: int) -> None:
    assert parse_lifetime(text) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("1d", 86400), ("30d", 30 * 86400), ("366d", 366 * 86400)])
def test_a_lifetime_can_be_days(text: str, seconds: int) -> None:
    assert parse_lifetime(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "0s",
        "500ms",
        "m",
        "0d",
        "d",
        "367d",
        "1.5d",
        "1h1d",
        "-5m",
        "30 m",
        "\N{ARABIC-INDIC DIGIT THREE}m",
        "8785h",
        "9" * 400,
    ],
)
def test_an_invalid_lifetime_is_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_lifetime(text)
