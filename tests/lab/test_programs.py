"""Builds of programs from Go modules."""

import os
import re
import shutil
from pathlib import Path

import pytest

from lab import go_modules, programs, progress
from lab.go_modules import GoModule, ProgramsMissingError
from lab.programs import NODE_MODULES, ensure_programs

TINY = GoModule(folder="tiny", upstream="example.invalid/upstream", packages={"tiny": "."})
GO_MOD = """\
module example.invalid/tiny

go 1.21

require example.invalid/upstream v0.0.0

replace example.invalid/upstream => ../upstream
"""


@pytest.fixture(scope="module")
def go_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return Go's cache, which is empty before the first build. To fill it takes 10 s of CPU."""
    return tmp_path_factory.mktemp("go-cache")


@pytest.fixture
def pin(tmp_path: Path, go_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of a new module, with a progress report for each package."""
    if shutil.which("go") is None:
        pytest.skip("no Go on PATH: install Go (https://go.dev/dl)")
    folder = tmp_path / "pins" / "tiny"
    for path in (folder, tmp_path / "pins" / "upstream"):
        path.mkdir(parents=True)
    (folder / "go.mod").write_text(GO_MOD)
    (folder / "main.go").write_text("package main\n\nfunc main() {}\n")
    (tmp_path / "pins" / "upstream" / "go.mod").write_text("module example.invalid/upstream\n\ngo 1.21\n")
    monkeypatch.setattr(go_modules, "PINS", tmp_path / "pins")
    monkeypatch.setattr(progress, "REPORT_INTERVAL", 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GOCACHE", str(go_cache))
    return folder


@pytest.mark.slow
def test_a_program_is_built_once_with_progress_reports(pin: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = ensure_programs(TINY, ["tiny"])
    assert os.access(folder / "tiny", os.X_OK)
    counts = [line.split() for line in capsys.readouterr().err.splitlines() if " of at most " in line]
    assert [int(count[0]) for count in counts] == list(range(1, len(counts) + 1))
    [total] = {int(count[4]) for count in counts}
    assert 1 < len(counts) <= total
    assert ensure_programs(TINY, ["tiny"]) == folder
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_the_error_of_a_failed_build_has_the_reason(pin: Path) -> None:
    (pin / "main.go").write_text("package main\n\nfunc main() { absent() }\n")
    with pytest.raises(ProgramsMissingError, match=r"undefined: absent"):
        ensure_programs(TINY, ["tiny"])
    (pin / "main.go").write_text('package main\n\nimport _ "example.invalid/absent"\n\nfunc main() {}\n')
    with pytest.raises(ProgramsMissingError, match=r"example\.invalid/absent"):
        ensure_programs(TINY, ["tiny"])


def test_all_programs_of_tests_on_a_node_are_built_before() -> None:
    modules = {name: value for name, value in vars(programs).items() if isinstance(value, GoModule)}
    tests = Path(__file__).parents[1]
    sources = [path.read_text() for folder in ("node", "journey") for path in (tests / folder).rglob("*.py")]
    used = {name for name in modules for source in sources if re.search(rf"\b{name}\b", source)}
    assert {"CSI_TEST", "OLD_KUBECTL"} <= used
    assert [name for name in sorted(used) if modules[name] not in NODE_MODULES] == []
