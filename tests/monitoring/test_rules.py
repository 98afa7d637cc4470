"""monitoring/ as it is written: names that exist, runbooks that are there, and one source for the operator's object."""

import re
import subprocess
import sys

import pytest
import yaml

from tests.docs.pages import DOCS, ROOT, names, section
from tests.monitoring.queries import MONITORING, board, board_panels, panels, queried_expression, rules

ALERTS = [each for each in rules() if "alert" in each]
RECORDED = {each["record"] for each in rules() if "record" in each}
SERIES = re.compile(r"\b(?:connector|process)_\w+")
OF_PROMETHEUS = {
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_start_time_seconds",
}
VARIABLES = {"datasource", "namespace", "name", "pod"}
QUERIES = [queried_expression(each) for each in rules()] + [expression for _, expression in panels()]
OPTIONS = {
    "connector_admin",
    "connector_changed",
    "connector_max_unauthenticated",
    "connector_max_unauthenticated_per_address",
    "connector_outage_grace",
    "connector_recheck",
}
"""Names in the section that are options, or reasons."""
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


def test_an_alert_about_a_connector_names_its_namespace() -> None:
    """Alertmanager routes to a team by this label."""
    tests = yaml.safe_load((MONITORING / "rules.test.yaml").read_text())["tests"]
    alert_tests = [one for each in tests for one in each.get("alert_rule_test", []) if "exp_alerts" in one]
    labels = [(each["alertname"], alert["exp_labels"].keys()) for each in alert_tests for alert in each["exp_alerts"]]
    about_connectors = {name for name, keys in labels if keys & {"connector", "name"}}
    assert about_connectors == {name for name, keys in labels if keys >= {"namespace", "name"}}
    of_text = {each["alert"] for each in ALERTS if re.search(r"labels\.(connector|name)\b", str(each["annotations"]))}
    assert of_text == about_connectors


@pytest.mark.slow
def test_the_operators_object_is_what_the_script_writes() -> None:
    program = "import monitoring, sys; sys.stdout.write(monitoring.render_rule())"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT / "scripts", capture_output=True, text=True, check=True
    )
    assert (ROOT / "deploy/components/prometheusrule/prometheusrule.yaml").read_text() == done.stdout
    groups = yaml.safe_load(done.stdout)["spec"]["groups"]
    assert groups == yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]


def test_every_metric_is_on_the_board_or_in_a_rule() -> None:
    documented = {
        each for each in names(section("telemetry.md", "Metrics")) if re.fullmatch(r"connector_[a-z_]+", each)
    }
    queried = {re.sub(r"_bucket$", "", each) for query in QUERIES for each in SERIES.findall(query)}
    assert documented - queried - OPTIONS == set()


def test_a_board_of_many_teams_is_filtered_and_folded() -> None:
    content = board()
    assert {each["name"] for each in content["templating"]["list"]} == VARIABLES
    used = {each for _, query in panels() for each in re.findall(r"\$([a-z]+)", query)}
    assert used == VARIABLES - {"datasource"}
    rows = [each for each in content["panels"] if each["type"] == "row"]
    assert [each["title"] for each in rows if not each["collapsed"]] == ["Health", "Requests"]
    assert all(each["collapsed"] == bool(each["panels"]) for each in rows)


def test_every_panel_says_what_it_shows_and_what_to_do() -> None:
    runbooks = {f"docs/runbooks.md#{each['alert'].lower()}" for each in ALERTS}
    linked = set()
    for panel in board_panels():
        assert panel["description"], panel["title"]
        linked |= set(re.findall(r"docs/runbooks\.md#\w+", panel["description"]))
    assert linked <= runbooks
    # Nothing is scraped: there is no board to look at. Targets that cannot be reached are denials by Connector.
    assert {each.partition("#connector")[2] for each in runbooks - linked} == {
        "nothingscraped",
        "notsynced",
        "targetunreachable",
    }


def test_every_panel_with_an_alert_of_a_fixed_limit_shows_it() -> None:
    limits = {each["title"]: each["fieldConfig"]["defaults"].get("thresholds") for each in board_panels()}
    for title in ("CA expires in", "Credentials expire in", "Errors by Connector", "Event loop late", "Queue depth"):
        assert limits[title], title


def test_the_boards_panels_are_distinct_and_do_not_overlap() -> None:
    rows = board()["panels"]
    everything = [*rows, *(each for row in rows for each in row.get("panels", ()))]
    assert len({each["id"] for each in everything}) == len(everything)
    assert_no_overlap(rows)
    for row in rows:
        assert_no_overlap(row.get("panels", []))


def assert_no_overlap(panels: list[dict]) -> None:
    occupied: set[tuple[int, int]] = set()
    for each in panels:
        place = each["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & occupied, each["title"]
        assert max(x for x, _ in cells) < 24
        occupied |= cells
