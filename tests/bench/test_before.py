"""Changes between another checkout and this one, with invented figures, and the checkouts that can run."""

from pathlib import Path

import pytest

from bench.before import compute_changes, format_changes
from bench.checkout import ROOT, THIS_CHECKOUT, Checkout, find_checkout

CPU, SPEED = "cpu per request, µs", "MB per second"


def is_worse_than_before(figure: str, before: list[float], ours: list[float]) -> bool:
    (change,) = compute_changes(
        {"a case": {"before": [{figure: value} for value in before], "ours": [{figure: value} for value in ours]}}
    )
    return change.is_worse


@pytest.mark.parametrize(
    ("figure", "before", "ours", "is_worse"),
    [
        pytest.param(CPU, [100, 110, 105], [112, 115, 120], False, id="slower by the spread of its rounds"),
        pytest.param(
            CPU, [100, 110, 105], [116, 116, 116], True, id="slower by more than the spread of the rounds before"
        ),
        pytest.param(CPU, [105, 105, 105], [100, 116, 130], False, id="slower by less than the spread of ours"),
        pytest.param(CPU, [105, 105, 105], [50, 50, 50], False, id="less CPU"),
        pytest.param(SPEED, [500, 510], [450, 460], True, id="slower by more than its noise"),
        pytest.param(SPEED, [500, 510], [900, 910], False, id="faster"),
        pytest.param(CPU, [100], [110], False, id="after one round, a tenth is noise"),
        pytest.param(CPU, [100], [111], True, id="after one round, more than a tenth is not noise"),
        pytest.param(CPU, [100, 104], [120], True, id="one round of ours has no spread"),
        pytest.param(CPU, [0.0], [0.0], False, id="zero stays zero"),
    ],
)
def test_a_figure_is_worse_if_the_change_exceeds_the_noise(
    figure: str, before: list[float], ours: list[float], is_worse: bool
) -> None:
    assert is_worse_than_before(figure, before, ours) is is_worse


@pytest.mark.parametrize(
    "by_peer",
    [
        pytest.param({"ours": [{CPU: 1.0}]}, id="the other checkout does not support the case"),
        pytest.param({"ours": [{CPU: 1.0}], "before": []}, id="all its runs failed"),
        pytest.param({"before": [{CPU: 1.0}]}, id="ours was not measured"),
    ],
)
def test_a_case_that_only_one_checkout_has_is_left_out(by_peer: dict[str, list[dict[str, float]]]) -> None:
    assert not compute_changes({"direct, warm": by_peer})


def test_worse_figures_are_printed_with_their_noise_and_others_are_counted() -> None:
    changes = compute_changes({"warm": {"before": [{CPU: 100.0, SPEED: 5.0}], "ours": [{CPU: 150.0, SPEED: 5.0}]}})
    text = [" ".join(line.split()) for line in format_changes(changes)]
    assert text == [
        "warm: cpu per request, µs 150 1.500x was 100, noise 10 WORSE",
        "1 of 2 figures are not worse than before by more than their noise",
    ]
    assert changes[0].to_json() == {"case": "warm", "figure": CPU, "before": 100.0, "ours": 150.0, "noise": 10.0}


def write_checkout(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize(
    ("files", "message"),
    [
        pytest.param([], "it has no addons/connector.py", id="another folder"),
        pytest.param(["addons/connector.py"], "scripts/install", id="a checkout without its packages"),
    ],
)
def test_the_error_for_an_unusable_folder_names_what_is_missing(tmp_path: Path, files: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        find_checkout(write_checkout(tmp_path, *files))


def test_a_release_whose_image_runs_mitmdump_runs_with_mitmdump(tmp_path: Path) -> None:
    tree = write_checkout(tmp_path, "addons/connector.py", ".venv/bin/connectorctl")
    (tree / "Dockerfile").write_text("FROM x\nENV PYTHONPATH=/app PYTHONUNBUFFERED=1 \\\n    HOME=/tmp\n")
    other = find_checkout(tree)
    assert other.proxy_command(["-q"]) == [f"{tree}/.venv/bin/mitmdump", "-s", f"{tree}/addons/connector.py", "-q"]
    assert other.environment == {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(tree)}


@pytest.mark.parametrize(
    ("file", "text", "version"),
    [
        pytest.param("connector_store/version.py", 'VERSION: Final = "1.2.3"\n', "1.2.3", id="in a file of its own"),
        pytest.param("pyproject.toml", '[project]\nname = "x"\nversion = "0.1.0"\n', "0.1.0", id="with the project"),
        pytest.param("pyproject.toml", "[project]\n", "tree", id="not found: the name of the folder"),
    ],
)
def test_the_version_of_a_checkout_is_read_from_its_source(tmp_path: Path, file: str, text: str, version: str) -> None:
    tree = write_checkout(tmp_path / "tree", file)
    (tree / file).write_text(text)
    assert Checkout(tree=tree, programs=tree).version == version


def test_this_checkout_runs_as_its_image_does_or_with_mitmdump() -> None:
    start = [*THIS_CHECKOUT.proxy_command([])[:3]]
    assert start == [str(THIS_CHECKOUT.programs / "python"), "-m", "addons"]
    assert THIS_CHECKOUT.proxy_command([], with_mitmdump=True)[:2] == [str(THIS_CHECKOUT.programs / "mitmdump"), "-s"]
    assert THIS_CHECKOUT.tree == ROOT
