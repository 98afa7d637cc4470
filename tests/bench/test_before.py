"""Ours beside the same product of before, on figures that are made up, and the checkouts that can be run."""

from pathlib import Path

import pytest

from bench.before import compute_changes, format_changes
from bench.checkout import ROOT, THIS_CHECKOUT, Checkout, find_checkout

CPU, SPEED = "cpu per request, µs", "MB per second"


def worse(figure: str, before: list[float], ours: list[float]) -> bool:
    (change,) = compute_changes(
        {"a case": {"before": [{figure: each} for each in before], "ours": [{figure: each} for each in ours]}}
    )
    return change.is_worse


@pytest.mark.parametrize(
    ("figure", "before", "ours", "is_worse"),
    [
        pytest.param(CPU, [100, 110, 105], [112, 115, 120], False, id="dearer by as much as its rounds lie apart"),
        pytest.param(CPU, [100, 110, 105], [116, 116, 116], True, id="dearer by more than the rounds before lie apart"),
        pytest.param(CPU, [105, 105, 105], [100, 116, 130], False, id="dearer by less than ours lie apart"),
        pytest.param(CPU, [105, 105, 105], [50, 50, 50], False, id="cheaper"),
        pytest.param(SPEED, [500, 510], [450, 460], True, id="slower by more than its noise"),
        pytest.param(SPEED, [500, 510], [900, 910], False, id="faster"),
        pytest.param(CPU, [100], [110], False, id="of one round, a tenth is noise"),
        pytest.param(CPU, [100], [111], True, id="of one round, more than a tenth is not"),
        pytest.param(CPU, [100, 104], [120], True, id="one round of ours says nothing of noise"),
        pytest.param(CPU, [0.0], [0.0], False, id="nothing stays nothing"),
    ],
)
def test_worse_is_by_more_than_the_noise(figure: str, before: list[float], ours: list[float], is_worse: bool) -> None:
    assert worse(figure, before, ours) is is_worse


@pytest.mark.parametrize(
    "by_peer",
    [
        pytest.param({"ours": [{CPU: 1.0}]}, id="it could not do the case"),
        pytest.param({"ours": [{CPU: 1.0}], "before": []}, id="its runs all failed"),
        pytest.param({"before": [{CPU: 1.0}]}, id="ours was not asked"),
    ],
)
def test_what_only_one_of_the_two_has_is_left_out(by_peer: dict[str, list[dict[str, float]]]) -> None:
    assert not compute_changes({"direct, warm": by_peer})


def test_what_is_worse_is_named_with_its_noise_and_the_rest_is_counted() -> None:
    found = compute_changes({"warm": {"before": [{CPU: 100.0, SPEED: 5.0}], "ours": [{CPU: 150.0, SPEED: 5.0}]}})
    text = [" ".join(line.split()) for line in format_changes(found)]
    assert text == [
        "warm: cpu per request, µs 150 1.500x was 100, noise 10 WORSE",
        "1 of 2 figures are not worse than before by more than their noise",
    ]
    assert found[0].to_json() == {"case": "warm", "figure": CPU, "before": 100.0, "ours": 150.0, "noise": 10.0}


def checkout(folder: Path, *files: str) -> Path:
    for each in files:
        (folder / each).parent.mkdir(parents=True, exist_ok=True)
        (folder / each).touch()
    return folder


@pytest.mark.parametrize(
    ("files", "says"),
    [
        pytest.param([], "it has no addons/connector.py", id="another folder"),
        pytest.param(["addons/connector.py"], "scripts/install", id="a checkout without its packages"),
    ],
)
def test_a_folder_that_cannot_be_run_says_what_is_missing(tmp_path: Path, files: list[str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        find_checkout(checkout(tmp_path, *files))


def test_a_release_whose_image_runs_mitmdump_is_run_by_it(tmp_path: Path) -> None:
    tree = checkout(tmp_path, "addons/connector.py", ".venv/bin/connectorctl")
    (tree / "Dockerfile").write_text("FROM x\nENV PYTHONPATH=/app PYTHONUNBUFFERED=1 \\\n    HOME=/tmp\n")
    product = find_checkout(tree)
    assert product.proxy_command(["-q"]) == [f"{tree}/.venv/bin/mitmdump", "-s", f"{tree}/addons/connector.py", "-q"]
    assert product.environment == {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(tree)}


@pytest.mark.parametrize(
    ("file", "text", "version"),
    [
        pytest.param("connector_store/version.py", 'VERSION: Final = "1.2.3"\n', "1.2.3", id="in a file of its own"),
        pytest.param("pyproject.toml", '[project]\nname = "x"\nversion = "0.1.0"\n', "0.1.0", id="with the project"),
        pytest.param("pyproject.toml", "[project]\n", "tree", id="nowhere: the folder's name"),
    ],
)
def test_a_checkout_says_its_version(tmp_path: Path, file: str, text: str, version: str) -> None:
    tree = checkout(tmp_path / "tree", file)
    (tree / file).write_text(text)
    assert Checkout(tree=tree, programs=tree).version == version


def test_this_checkout_is_run_as_its_image_runs_it_and_by_mitmdump_for_people() -> None:
    start = [*THIS_CHECKOUT.proxy_command([])[:3]]
    assert start == [str(THIS_CHECKOUT.programs / "python"), "-m", "addons"]
    assert THIS_CHECKOUT.proxy_command([], with_mitmdump=True)[:2] == [str(THIS_CHECKOUT.programs / "mitmdump"), "-s"]
    assert THIS_CHECKOUT.tree == ROOT
