"""scripts/board.py draws what a Prometheus answers for the rows of the board that are not folded."""

import sys
from xml.etree import ElementTree

import pytest

from tests.docs.pages import DOCS, ROOT
from tests.monitoring.queries import board

sys.path.insert(0, str(ROOT / "scripts"))
from board import IMAGE, Series, format_value, open_panels, render_board, substitute, threshold_colour

SVG = "{http://www.w3.org/2000/svg}"


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in ElementTree.fromstring(svg).iter(f"{SVG}text")]  # noqa: S314 - our own picture


def test_each_open_panel_is_drawn_with_its_legend_and_last_value() -> None:
    labels = {"connector": "team-a/prod", "code": "200", "version": "1.2.3"}
    svg = render_board(board(), lambda _: [Series(labels, [(0.0, 1.0), (60.0, 3.0)])])
    shown = texts(svg)
    assert {each["title"] for each in open_panels(board())} <= set(shown)
    assert {"team-a/prod", "200", "1.2.3", "3"} <= set(shown)
    assert "Audit lines lost" not in shown, "this panel is in a folded row"
    assert not any("{{" in each for each in shown)


def test_the_highest_value_touches_the_top_line_and_zero_the_bottom_line() -> None:
    svg = render_board(board(), lambda _: [Series({}, [(0.0, 0.0), (60.0, 4.0)])])
    groups = ElementTree.fromstring(svg).iter(f"{SVG}g")  # noqa: S314 - our own picture
    panel = next(each for each in groups if each.find(f"{SVG}polyline") is not None)
    heights = [float(each.get("y1", "")) for each in panel.iter(f"{SVG}line")]
    line = panel.find(f"{SVG}polyline")
    assert line is not None
    (_, zero), (_, four) = (map(float, each.split(",")) for each in line.get("points", "").split())
    assert (zero, four) == (max(heights), min(heights))


def test_the_busiest_series_is_first_in_the_legend() -> None:
    points = {"idle": 0.0, "busy": 2.0}
    series = [Series({"connector": name}, [(0.0, value), (60.0, value)]) for name, value in points.items()]
    shown = texts(render_board(board(), lambda _: series))
    assert shown.index("busy") < shown.index("idle")


def test_a_panel_without_data_says_so() -> None:
    assert "No data" in texts(render_board(board(), lambda _: []))


def test_variables_have_the_values_of_all() -> None:
    assert substitute('rate(x{name=~"$name"}[$__rate_interval])') == 'rate(x{name=~".*"}[1m])'


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (2.0, "short", "2"),
        (0.5, "percentunit", "50%"),
        (1.25, "reqps", "1.25 req/s"),
        (0.0, "s", "0 s"),
        (0.0123, "s", "12.3 ms"),
        (2.5, "s", "2.5 s"),
        (90.0, "s", "1.5 min"),
        (7200.0, "s", "2 hours"),
        (864_000.0, "s", "10 days"),
        (315_360_000.0, "s", "10 years"),
    ],
)
def test_a_value_has_its_unit(value: float, unit: str, text: str) -> None:
    assert format_value(value, unit) == text


def test_a_stat_has_the_colour_of_the_last_threshold_that_it_reaches() -> None:
    steps = [{"color": "red", "value": None}, {"color": "orange", "value": 0.9}, {"color": "green", "value": 1}]
    defaults = {"thresholds": {"steps": steps}}
    colours = [threshold_colour(value, defaults) for value in (0.5, 0.95, 1.0)]
    assert len(set(colours)) == 3
    assert threshold_colour(1.0, {}) not in colours


def test_the_page_shows_the_board_as_it_is() -> None:
    assert f"]({IMAGE.relative_to(DOCS)})" in (DOCS / "monitoring.md").read_text()
    shown = texts(IMAGE.read_text())
    assert {each["title"] for each in open_panels(board())} <= set(shown)
    assert "No data" not in shown
