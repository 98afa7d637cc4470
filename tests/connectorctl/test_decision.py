"""Options and output that `approve` and `deny` share."""

import json
from typing import Literal

import click
import pytest
from click.testing import CliRunner

from connector_store.domain.base.names import ObjectKey
from connectorctl import decision
from connectorctl.decision import add_decision_options, print_decision
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions

KEY = ObjectKey("a", "prod-1")


@click.command
@add_decision_options
def probe(**values: object) -> None:
    click.echo(repr(sorted(values.items())))


def test_the_options_are_those_of_the_request_and_the_source() -> None:
    defaults = {"policy": None, "comment": None, "form": None, "source_options": SourceOptions(source="kubernetes")}
    result = CliRunner().invoke(probe, ["a/prod-1"])
    assert result.output.strip() == repr(sorted({"request": KEY, **defaults}.items()))
    result = CliRunner().invoke(
        probe, ["a/prod-1", "--policy", "on-call", "--comment", "fine", "-o", "yaml", "--context", "c"]
    )
    source_options = SourceOptions(source="kubernetes", context="c")
    values = {"request": KEY, "policy": "on-call", "comment": "fine", "form": "yaml", "source_options": source_options}
    assert result.output.strip() == repr(sorted(values.items()))


@pytest.mark.parametrize(
    ("spec", "asked"),
    [
        ({"duration": "1h", "reason": "INC-7"}, "jane asked for a/prod for 1h: INC-7\n"),
        ({"reason": "INC-7"}, "jane asked for a/prod: INC-7\n"),
        ({"duration": "1h", "reason": "a\x1b[2J\u202eb\nc"}, "jane asked for a/prod for 1h: a?[2J?b?c\n"),
    ],
    ids=["with a duration", "without a duration", "hostile text"],
)
@pytest.mark.parametrize("verdict", ["Approved", "Denied"])
def test_what_was_decided_is_printed(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    spec: dict[str, str],
    asked: str,
    verdict: Literal["Approved", "Denied"],
) -> None:
    fields = {"subject": {"kind": "User", "name": "jane"}, "connectorRef": {"name": "prod"}, **spec}
    request = {"metadata": {"name": "prod-1", "namespace": "a"}, "spec": fields}
    approval = {"metadata": {"name": "prod-1-x"}}
    monkeypatch.setattr(decision, "run_in_cluster", lambda *_: (request, approval))

    def run(form: str | None) -> tuple[str, str]:
        print_decision(Invocation(), SourceOptions(), KEY, verdict, policy=None, comment=None, form=form)
        return capsys.readouterr()

    assert run(None) == (f"accessrequests.connectors.alauda.io a/prod-1 {verdict.lower()}\n", asked)
    out, err = run("json")
    assert (json.loads(out), err) == (approval, asked)
