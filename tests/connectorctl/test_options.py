"""Options that several commands share."""

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from connector_store.domain.base.names import ObjectKey
from connectorctl.invocation import Invocation
from connectorctl.options import (
    CallerOptions,
    ConnectorKeyParam,
    SourceOptions,
    add_caller_options,
    add_format_option,
    add_source_options,
)


@click.command
@click.argument("key", type=ConnectorKeyParam())
@add_format_option("json", "wide")
@add_caller_options
@add_source_options
def probe(key: ObjectKey, form: str | None, where: SourceOptions, caller: CallerOptions) -> None:
    click.echo(repr((key, form, where, caller)))


def read(line: str, **environment: str) -> tuple[int, str]:
    done = CliRunner().invoke(probe, line.split(), env=environment)
    return done.exit_code, done.output.strip()


KEY = ObjectKey("a", "k8s")


@pytest.mark.parametrize(
    ("line", "environment", "expected"),
    [
        pytest.param("a/k8s", {}, (KEY, None, SourceOptions(), CallerOptions()), id="defaults"),
        pytest.param(
            "a/k8s -o json --source kubernetes --kubeconfig k --context c",
            {},
            (KEY, "json", SourceOptions(source="kubernetes", kubeconfig="k", context="c"), CallerOptions()),
            id="where",
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
            id="whose token",
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
def test_options_are_read(line: str, environment: dict[str, str], expected: tuple[object, ...]) -> None:
    assert read(line, **environment) == (0, repr(expected))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("k8s", "'k8s': not of the form NAMESPACE/NAME", id="a name without namespace"),
        pytest.param("a/b --ttl never", "write it as 30m", id="a duration that is none"),
        pytest.param("a/b --ttl 0", "'0': is not between 1s and a year", id="no time at all"),
        pytest.param("a/b -o xml", "'xml' is not one of 'json', 'wide'", id="a form that there is not"),
        pytest.param("a/b --kubeconfg c", "'--kubeconfig'", id="an option with a slip"),
    ],
)
def test_what_is_wrong_is_said(line: str, message: str) -> None:
    code, output = read(line)
    assert code == 2
    assert message in output


def test_values_that_are_read_already_stay_as_they_are() -> None:
    assert ConnectorKeyParam().convert(KEY, None, None) == KEY


def test_names_of_connectors_are_completed_from_the_source_of_the_line(connectors: Path) -> None:
    context = click.Context(probe, obj=Invocation())
    context.params = {"source": "connectors"}
    found = ConnectorKeyParam().shell_complete(context, probe.params[0], "default/")
    assert [each.value for each in found] == ["default/k8s-connector"]
    assert ConnectorKeyParam().shell_complete(context, probe.params[0], "other/") == []
