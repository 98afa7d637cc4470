"""The curves as one SVG: a panel each, what grows on a logarithmic axis."""

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

PANELS = (
    ("connections", "cpu per request, µs", "CPU per request, µs, by connections"),
    ("connections", "p99, ms", "p99 latency, ms, by connections"),
    ("Connectors", "cpu per request, µs", "CPU per request, µs, by Connectors"),
    ("Connectors", "resident, MB", "resident memory, MB, by Connectors"),
    ("bytes of a body", "MB per second", "MB/s of one connection, by bytes of a body"),
    ("idle streams", "memory per stream, kB", "memory per idle stream, kB, by streams"),
)
WIDTH, PANEL_WIDTH, PANEL_HEIGHT, INSET = 960, 460, 180, 44


def picture(report: Any) -> str:
    """A standalone SVG document, two panels a row."""
    rows = (len(PANELS) + 1) // 2
    total = rows * (PANEL_HEIGHT + 20) + 34
    body = "".join(
        "".join(
            _panel(
                title,
                [(point["at"], point[figure]) for point in report["curves"].get(name, ()) if figure in point],
                x=10 + index % 2 * (PANEL_WIDTH + 20),
                y=10 + index // 2 * (PANEL_HEIGHT + 20),
            )
        )
        for index, (name, figure, title) in enumerate(PANELS)
    )
    machine = report["machine"]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{total}" viewBox="0 0 {WIDTH} {total}" '
        'font-family="system-ui, sans-serif" font-size="12">'
        f'<rect width="{WIDTH}" height="{total}" fill="#ffffff"/>{body}'
        f'<text x="10" y="{total - 12}" fill="#57606a" font-size="11">'
        f"{escape(machine['cpu'])}, {machine['cores']} cores, with the load generator and the target beside"
        "</text></svg>\n"
    )


def _panel(title: str, points: Sequence[tuple[float, float]], *, x: int, y: int) -> Iterator[str]:
    yield f'<text x="{x}" y="{y + 14}" font-weight="600" fill="#1f2328">{escape(title)}</text>'
    if not points:
        return
    top = max(value for _, value in points) or 1
    first, last = math.log10(points[0][0]), math.log10(points[-1][0])
    left, bottom, width, height = x + INSET, y + PANEL_HEIGHT - 20, PANEL_WIDTH - 2 * INSET, PANEL_HEIGHT - 66

    def place(at: float, value: float) -> tuple[float, float]:
        share = (math.log10(at) - first) / ((last - first) or 1)
        return left + share * width, bottom - value / top * height

    yield f'<path d="M{left} {bottom}h{width}" stroke="#d0d7de" fill="none"/>'
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (place(*point) for point in points))
    yield f'<polyline points="{path}" fill="none" stroke="#1f6feb" stroke-width="2"/>'
    for at, value in points:
        px, py = place(at, value)
        yield f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="#1f6feb"/>'
        yield f'<text x="{px:.1f}" y="{py - 8:.1f}" text-anchor="middle" fill="#1f2328">{_number(value)}</text>'
        yield f'<text x="{px:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#57606a">{_short(at)}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def _short(value: float) -> str:
    for size, sign in ((1_000_000, "M"), (1_000, "k")):
        if value >= size:
            return f"{value / size:g}{sign}"
    return f"{value:g}"
