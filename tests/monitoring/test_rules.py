"""monitoring/ as it is written: names that exist, runbooks that are there, and one source for the operator's object."""

import json
import re
import subprocess
import sys

import pytest
import yaml

from tests.docs.pages import DOCS, ROOT, names, section
from tests.monitoring.queries import MONITORING, panels, queried_expression, rules

ALERTS = [each for each in rules() if "alert" in each]
RECORDED = {each["record"] for each in rules() if "record" in each}
SERIES = re.compile(r"\b(?:connector|process)_\w+")
OF_PROMETHEUS = {"process_resident_memory_bytes", "process_cpu_seconds_total", "process_open_fds"}
QUESTIONS = [pytest.param(queried_expression(each), id=each.get("alert") or each["record"]) for each in rules()]
QUESTIONS += [pytest.param(expression, id=title) for title, expression in panels()]


@pytest.mark.parametrize("expression", QUESTIONS)
def test_every_series_of_a_query_is_documented(expression: str) -> None:
    documented = names(section("telemetry.md", "Metrics")) | OF_PROMETHEUS
    series = {
        re.sub(r"_bucket$", "", each)
        for each in SERIES.findall(re.sub(r"\bconnector(_\w+)?:\w+(:\w+)?", "", expression))
    }
    assert series <= documented
    assert set(re.findall(r"\bconnector(?:_\w+)?:\w+:\w+", expression)) <= RECORDED


@pytest.mark.parametrize("alert", ALERTS, ids=lambda each: each["alert"])
def test_an_alert_says_what_it_means_and_what_to_do(alert: dict) -> None:
    assert alert["labels"]["severity"] in ("info", "warning", "critical")
    assert alert["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks.md#{alert['alert'].lower()}"
    assert alert["for"]


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    written = re.findall(r"^## (\w+)$", (DOCS / "runbooks.md").read_text(), re.MULTILINE)
    assert written == [each["alert"] for each in ALERTS]


def test_every_alert_is_tested_to_fire_and_to_be_silent() -> None:
    tests = yaml.safe_load((MONITORING / "rules.test.yaml").read_text())["tests"]
    alert_tests = [one for each in tests for one in each.get("alert_rule_test", [])]
    everything = {each["alert"] for each in ALERTS}
    assert {each["alertname"] for each in alert_tests if "exp_alerts" in each} == everything
    assert {each["alertname"] for each in alert_tests if "exp_alerts" not in each} == everything


@pytest.mark.slow
def test_the_operators_object_is_what_the_script_writes() -> None:
    program = "import monitoring, sys; sys.stdout.write(monitoring.render_rule())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "scripts", capture_output=True, text=True, check=True
    )
    assert (ROOT / "deploy/components/prometheusrule/prometheusrule.yaml").read_text() == done.stdout
    groups = yaml.safe_load(done.stdout)["spec"]["groups"]
    assert groups == yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]


def test_the_boards_panels_are_distinct_and_do_not_overlap() -> None:
    board = json.loads((MONITORING / "dashboard.json").read_text())
    assert len({each["id"] for each in board["panels"]}) == len(board["panels"])
    occupied: set[tuple[int, int]] = set()
    for each in board["panels"]:
        place = each["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & occupied, each["title"]
        assert max(x for x, _ in cells) < 24
        occupied |= cells
