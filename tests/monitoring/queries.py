"""The queries of the rules and the board."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).parents[2] / "monitoring"
COMPARISON = re.compile(r"^(.*) (>|<|==) ([\d.]+)$", re.DOTALL)
"""An alert's expression: the query, the operator, and the number."""


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def queried_expression(rule: dict[str, Any]) -> str:
    """Return the expression of a recording rule, or the query of an alert."""
    if "record" in rule:
        return str(rule["expr"])
    match = COMPARISON.match(rule["expr"])
    assert match is not None, rule["alert"]
    return match[1]


def board() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((MONITORING / "dashboard.json").read_text())
    return content


def board_panels() -> list[dict[str, Any]]:
    """Return the panels of the board, also those in folded rows, without the rows."""
    rows = board()["panels"]
    return [each for row in rows for each in (row, *row.get("panels", ())) if each["type"] != "row"]


def panels() -> list[tuple[str, str]]:
    """Title and expression of each query of the board."""
    return [(panel["title"], one["expr"]) for panel in board_panels() for one in panel["targets"]]
