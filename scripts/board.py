"""Draw the rows of monitoring/dashboard.json that are not folded, with the data of a Prometheus, as an SVG.

board.py URL [FILE]   URL of a Prometheus that scrapes the product. FILE is docs/images/board.svg by default
"""

import json
import re
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from usage import show_help

ROOT: Final = Path(__file__).parents[1]
BOARD: Final = ROOT / "monitoring" / "dashboard.json"
IMAGE: Final = ROOT / "docs" / "images" / "board.svg"
VARIABLES: Final = {"$__rate_interval": "1m", "$namespace": ".*", "$name": ".*", "$pod": ".*"}
"""Values that Grafana uses for All, and its interval for scrapes of 15 s."""
POINTS: Final = 90
"""Number of points of a line."""
TIMEOUT: Final = 30.0
_COLUMN: Final = 50
_ROW: Final = 30
_GAP: Final = 8
_LEGEND_LINES: Final = 4
_LEGEND_CHARACTERS: Final = 26
_COLOURS: Final = ("#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#f2495c", "#b877d9", "#37872d", "#e0b400")
_THRESHOLD_COLOURS: Final = {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}
_STYLE: Final = """\
text { font: 12px ui-sans-serif, system-ui, "DejaVu Sans", sans-serif; fill: #ccccdc }
.title { font-weight: bold } .axis { fill: #8e8e9c; font-size: 10px } .value { font-size: 28px; font-weight: bold }"""

Query = Callable[[str], list["Series"]]


@dataclass(frozen=True, slots=True)
class Series:
    """Labels and points (Unix seconds, value) of a result."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]

    @property
    def last(self) -> float:
        return self.points[-1][1]


def open_panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the rows that are not folded, and the panels below them."""
    return [panel for panel in board["panels"] if not panel.get("collapsed")]


def substitute(expression: str) -> str:
    """Return a query with the values of the board's variables."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    return expression


def format_value(value: float, unit: str) -> str:
    """Return a value in the unit of a panel, as short as Grafana writes it."""
    if unit == "percentunit":
        return f"{value * 100:.3g}%"
    if unit == "s":
        for seconds, name in ((31_536_000, "years"), (86_400, "days"), (3_600, "hours"), (60, "min")):
            if value >= seconds:
                return f"{value / seconds:.3g} {name}"
        return f"{value:.3g} s" if value >= 0.9995 or value == 0 else f"{value * 1000:.3g} ms"
    return f"{value:.3g}{' req/s' if unit == 'reqps' else ''}"


def threshold_colour(value: float, defaults: Mapping[str, Any]) -> str:
    """Return the colour of the last threshold that the value reaches."""
    steps = defaults.get("thresholds", {}).get("steps", [])
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return _THRESHOLD_COLOURS[reached[-1]] if reached else "#ccccdc"


def render_board(board: Mapping[str, Any], query: Query) -> str:
    """Return an SVG of the board. `query` returns the series of an expression, with at least one point each."""
    panels = open_panels(board)
    width = 24 * _COLUMN + _GAP
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * _ROW + _GAP
    frame = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" role="img">',
        f"<title>{escape(board['title'])}</title>",
        f"<style>{_STYLE}</style>",
        f'<rect width="{width}" height="{height}" fill="#111217"/>',
    ]
    return "\n".join([*frame, *(line for panel in panels for line in _render_panel(panel, query)), "</svg>\n"])


def _render_panel(panel: Mapping[str, Any], query: Query) -> Iterator[str]:
    place = panel["gridPos"]
    x, y = place["x"] * _COLUMN + _GAP, place["y"] * _ROW + _GAP
    width, height = place["w"] * _COLUMN - _GAP, place["h"] * _ROW - _GAP
    yield f'<g transform="translate({x} {y})">'
    if panel["type"] != "row":
        yield f'<rect width="{width}" height="{height}" rx="2" fill="#181b1f" stroke="#2c3235"/>'
    yield f'<text class="title" x="8" y="18">{escape(panel["title"])}</text>'
    if panel["type"] != "row":
        results = [
            (_legend(target["legendFormat"], series), series)
            for target in panel["targets"]
            for series in query(substitute(target["expr"]))
        ]
        render = _render_stat if panel["type"] == "stat" else _render_lines
        yield from render(panel, results, width, height)
    yield "</g>"


def _legend(pattern: str, series: Series) -> str:
    return re.sub(r"{{(\w+)}}", lambda match: series.labels.get(match[1], ""), pattern)


def _render_stat(
    panel: Mapping[str, Any], results: Sequence[tuple[str, Series]], width: int, height: int
) -> Iterator[str]:
    defaults = panel["fieldConfig"]["defaults"]
    for name, series in results[:1]:
        text = format_value(series.last, defaults["unit"])
        colour = threshold_colour(series.last, defaults)
        middle = f'x="{width // 2}" text-anchor="middle"'
        yield f'<text class="value" {middle} y="{height // 2 + 20}" style="fill: {colour}">{escape(text)}</text>'
        yield f'<text class="axis" {middle} y="{height - 8}">{escape(name)}</text>'


def _render_lines(
    panel: Mapping[str, Any], results: Sequence[tuple[str, Series]], width: int, height: int
) -> Iterator[str]:
    defaults = panel["fieldConfig"]["defaults"]
    left, right, top, bottom = 84, width - 10, 32, height - 20 - 16 * _LEGEND_LINES
    values = [value for _, series in results for _, value in series.points]
    if not values:
        yield f'<text class="axis" x="{width // 2}" y="{height // 2}" text-anchor="middle">No data</text>'
        return
    results = sorted(results, key=lambda result: -max(value for _, value in result[1].points))
    times = [moment for _, series in results for moment, _ in series.points]
    highest, first, span = max(*values, 0.0) or 1.0, min(times), (max(times) - min(times)) or 1.0
    for share in (0.0, 0.5, 1.0):
        y = bottom - share * (bottom - top)
        yield f'<line x1="{left}" y1="{y:.0f}" x2="{right}" y2="{y:.0f}" stroke="#2c3235"/>'
        label = escape(format_value(share * highest, defaults["unit"]))
        yield f'<text class="axis" x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{label}</text>'
    for number, (name, series) in enumerate(results):
        colour = _COLOURS[number % len(_COLOURS)]
        points = " ".join(
            f"{left + (moment - first) / span * (right - left):.1f},{bottom - value / highest * (bottom - top):.1f}"
            for moment, value in series.points
        )
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        if number < 2 * _LEGEND_LINES:
            x, y = left + number % 2 * (right - left) / 2, bottom + 22 + number // 2 * 16
            yield f'<rect x="{x:.0f}" y="{y - 8:.0f}" width="10" height="4" fill="{colour}"/>'
            yield f'<text class="axis" x="{x + 16:.0f}" y="{y:.0f}">{escape(name[:_LEGEND_CHARACTERS])}</text>'


def prometheus_query(url: str, seconds: float) -> Query:
    """Return a function that asks the Prometheus at `url` for the last `seconds`."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.time()

    def query(expression: str) -> list[Series]:
        parameters = {"query": expression, "start": end - seconds, "end": end, "step": max(1, seconds / POINTS)}
        with opener.open(f"{url}/api/v1/query_range?{urllib.parse.urlencode(parameters)}", timeout=TIMEOUT) as answer:
            results = json.load(answer)["data"]["result"]
        return [
            Series(
                result["metric"],
                [(float(moment), float(value)) for moment, value in result["values"] if value != "NaN"],
            )
            for result in results
            if any(value != "NaN" for _, value in result["values"])
        ]

    return query


def main(arguments: list[str]) -> int:
    if show_help(arguments, __doc__):
        return 0
    if not 1 <= len(arguments) <= 2:
        sys.stderr.write(f"{(__doc__ or '').strip()}\n")
        return 2
    board = json.loads(BOARD.read_text())
    target = Path(arguments[1]) if len(arguments) > 1 else IMAGE
    target.write_text(render_board(board, prometheus_query(arguments[0], 300)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
