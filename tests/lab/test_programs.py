"""Builds of programs from Go modules."""

import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab import programs, progress
from lab.programs import HELM_3, NODE_MODULES, UPSTREAM_SUMS, GoModule, ProgramsMissingError, ensure_programs

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
    monkeypatch.setattr(programs, "PINS", tmp_path / "pins")
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


@pytest.fixture
def upstream(pin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve an upstream module with a program and a folder from a file tree. Return the file that pins it."""
    shutil.rmtree(pin)
    proxy = tmp_path / "proxy" / "example.invalid" / "upstream" / "@v"
    proxy.mkdir(parents=True)
    files = {
        "go.mod": "module example.invalid/upstream\n\ngo 1.21\n",
        "cmd/tiny/main.go": "package main\n\nfunc main() {}\n",
        "config/crd.yaml": "kind: CustomResourceDefinition\n",
    }
    with zipfile.ZipFile(proxy / "v1.0.0.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"example.invalid/upstream@v1.0.0/{name}", content)
    (proxy / "v1.0.0.mod").write_text(files["go.mod"])
    (proxy / "v1.0.0.info").write_text('{"Version": "v1.0.0"}')
    monkeypatch.setenv("GOPROXY", (tmp_path / "proxy").as_uri())
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    yield tmp_path / "pins" / UPSTREAM_SUMS
    # Its files are read-only.
    subprocess.run(["go", "clean", "-modcache"], check=True)


UPSTREAM = GoModule(
    folder="tiny",
    upstream="example.invalid/upstream",
    packages={"tiny": "example.invalid/upstream/cmd/tiny"},
    extra_folders=("config",),
)


@pytest.mark.slow
def test_a_program_of_an_upstream_module_is_built_from_the_pinned_files(upstream: Path) -> None:
    upstream.write_text("example.invalid/upstream v1.0.0 h1:other\n")
    reason = r"upstream\.sum: example\.invalid/upstream v1\.0\.0 has h1:"
    with pytest.raises(ProgramsMissingError, match=reason) as error:
        ensure_programs(UPSTREAM, ["tiny"])
    digest = str(error.value).rpartition(" ")[2]
    upstream.write_text(f"example.invalid/upstream v1.0.0 {digest}\n")
    folder = ensure_programs(UPSTREAM, ["tiny"])
    assert os.access(folder / "tiny", os.X_OK)
    assert os.access(folder / "config" / "crd.yaml", os.W_OK)


def test_helm_3_renders_for_the_kubernetes_version_of_its_client(tmp_path: Path) -> None:
    """Without a cluster. Without the variables it renders for Kubernetes 1.20, which the chart refuses."""
    (tmp_path / "go.mod").write_text("require (\n\tk8s.io/client-go v0.36.1\n)\n")
    for package in ("chartutil", "lint/rules"):
        assert f"-X helm.sh/helm/v3/pkg/{package}.k8sVersionMinor=36" in HELM_3.build_flags(tmp_path)[-1]
