"""The report of the comparison as one SVG: a panel of bars for each chosen figure, written by hand."""

import json
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

PANELS = (
    ("warm, 8 clients", "cpu per request, µs", "CPU per request, µs (less is better)"),
    ("new connection", "cpu per request, µs", "CPU per new connection and request, µs (less is better)"),
    ("warm, 100 clients", "p99, ms", "p99 latency at 100 clients, ms (less is better)"),
    ("down", "MB per second", "download, MB/s (more is better)"),
    ("up", "MB per second", "upload, MB/s (more is better)"),
    ("idle watches", "memory per stream, kB", "memory per idle watch, kB (less is better)"),
)
WIDTH, BAR, GAP, LABEL, PANEL_WIDTH = 960, 16, 6, 104, 460


def main(arguments: list[str]) -> int:
    source, out = arguments
    Path(out).write_text(picture(json.loads(Path(source).read_text())))
    return 0


def picture(report: dict[str, Any]) -> str:
    """A standalone SVG document, two panels a row."""
    panels = [(title, _bars(report, case, figure)) for case, figure, title in PANELS]
    height = 44 + max(len(bars) for _, bars in panels) * (BAR + GAP)
    rows = (len(panels) + 1) // 2
    body = "".join(
        "".join(_panel(title, bars, x=10 + index % 2 * (PANEL_WIDTH + 20), y=10 + index // 2 * height))
        for index, (title, bars) in enumerate(panels)
    )
    total = rows * height + 34
    footer = escape(_footer(report))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{total}" viewBox="0 0 {WIDTH} {total}" '
        'font-family="system-ui, sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{total}" fill="#ffffff"/>{body}'
        f'<text x="10" y="{total - 12}" fill="#57606a" font-size="11">{footer}</text></svg>\n'
    )


def _bars(report: dict[str, Any], case: str, figure: str) -> list[tuple[str, float]]:
    by_peer = report["results"].get(case, {})
    return [(peer, figures[figure]) for peer, figures in by_peer.items() if figure in figures]


def _panel(title: str, bars: list[tuple[str, float]], *, x: int, y: int) -> Iterator[str]:
    yield f'<text x="{x}" y="{y + 14}" font-weight="600" fill="#1f2328">{escape(title)}</text>'
    longest = max((value for _, value in bars), default=1) or 1
    for index, (peer, value) in enumerate(bars):
        top = y + 24 + index * (BAR + GAP)
        width = max(1.0, value / longest * (PANEL_WIDTH - LABEL - 60))
        fill = "#1f6feb" if peer.startswith("ours") else "#9aa4af"
        yield f'<text x="{x + LABEL - 8}" y="{top + 12}" text-anchor="end" fill="#1f2328">{escape(peer)}</text>'
        yield f'<rect x="{x + LABEL}" y="{top}" width="{width:.1f}" height="{BAR}" rx="2" fill="{fill}"/>'
        yield f'<text x="{x + LABEL + width + 6:.1f}" y="{top + 12}" fill="#1f2328">{_number(value)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _footer(report: dict[str, Any]) -> str:
    machine = report["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    return f"{machine['cpu']}, {machine['cores']} cores; median of {report['rounds']} rounds; {versions}"
