"""The flow of an access request by the commands that the product prints, on a real API server, and its figures."""

from pathlib import Path

from bench.access_flow import AFTER, STEPS, WHOLE, measure, summarize
from lab.control_plane import ControlPlane


def test_a_round_uses_the_commands_of_the_refusal_and_of_the_request(
    private_control_plane: ControlPlane, tmp_path: Path
) -> None:
    durations, first_calls = measure(private_control_plane, tmp_path, rounds=1)
    assert {step: len(seconds) for step, seconds in durations.items()} == dict.fromkeys((*STEPS, AFTER, WHOLE), 1)
    assert first_calls in (0, 1)


def test_the_figures_are_the_median_and_the_worst() -> None:
    assert summarize({"a": [3.0, 1.0, 2.0]}) == {"a": {"median, s": 2.0, "worst, s": 3.0}}
