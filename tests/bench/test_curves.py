"""The curves, with small values, and their picture."""

import json
import os
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from bench import curves
from bench.curves_picture import PANELS, picture

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("go") and "CI" not in os.environ, reason="the load generator needs Go")
def test_every_curve_has_a_point_for_each_value(tmp_path: Path) -> None:
    report, drawn = tmp_path / "curves.json", tmp_path / "curves.svg"
    assert curves.main(["--quick", "--json", str(report), "--picture", str(drawn)]) == 0
    found = json.loads(report.read_text())["curves"]
    for curve in curves.curves(seconds=0, quick=True):
        assert [point["at"] for point in found[curve.name]] == list(curve.at)
        assert all(value >= 0 for point in found[curve.name] for value in point.values())
    assert len(list(ElementTree.parse(drawn).getroot().iter(f"{SVG}polyline"))) == len(PANELS)  # noqa: S314 - made here


def test_a_curve_without_points_is_an_empty_panel() -> None:
    report = {"machine": {"cpu": "a <fast> one", "cores": 2}, "curves": {"idle streams": [{"at": 10, "x": 1.0}]}}
    root = ElementTree.fromstring(picture(report))  # noqa: S314 - made here
    assert not list(root.iter(f"{SVG}polyline"))
    assert "a <fast> one" in "".join(root.itertext())


def test_large_numbers_on_an_axis_are_short() -> None:
    points = [{"at": at, "MB per second": 5.0} for at in (10, 1_000, 1_500_000)]
    root = ElementTree.fromstring(picture({"machine": {"cpu": "", "cores": 1}, "curves": {"bytes of a body": points}}))  # noqa: S314 - we have just drawn it ourselves
    assert {"10", "1k", "1.5M"} <= {each.text for each in root.iter(f"{SVG}text")}
