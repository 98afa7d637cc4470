"""Go modules of other projects, whose files scripts/go/upstream.sum pins."""

import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from lab import go_modules
from lab.go_modules import UPSTREAM_SUMS, GoModule, ProgramsMissingError
from lab.programs import HELM_3, OTHER_API_SERVERS, ensure_programs

GO_MOD = """\
module example.invalid/upstream

go 1.21

require (
	example.invalid/component v0.0.0
	k8s.io/sample-component v0.0.0
)

replace (
	example.invalid/component => ./staging/component
	k8s.io/sample-component => ./staging/sample-component
)
"""
PROGRAM = """\
package main

import "example.invalid/component"

func main() { println(component.Name) }
"""
UPSTREAM = GoModule(
    folder="tiny",
    upstream="example.invalid/upstream",
    packages={"tiny": "example.invalid/upstream/cmd/tiny"},
    release="v1.2.",
    extra_folders=("config",),
)


@pytest.fixture
def proxy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Serve modules from a folder, with an empty cache of modules. Return the folder."""
    if shutil.which("go") is None:
        pytest.skip("no Go on PATH: install Go (https://go.dev/dl)")
    (tmp_path / "pins").mkdir()
    monkeypatch.setattr(go_modules, "PINS", tmp_path / "pins")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GOPROXY", (tmp_path / "proxy").as_uri())
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    yield tmp_path / "proxy"
    # Its files are read-only.
    subprocess.run(["go", "clean", "-modcache"], check=True)


def publish(proxy: Path, module: str, version: str, files: Mapping[str, str]) -> None:
    folder = proxy / module / "@v"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / f"{version}.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(f"{module}@{version}/{name}", content)
    (folder / f"{version}.mod").write_text(files["go.mod"])
    (folder / f"{version}.info").write_text(f'{{"Version": "{version}"}}')


def read_digest(pins: Path, pin: str) -> str:
    """Return the digest that the error of a wrong one shows."""
    pins.write_text(pin)
    with pytest.raises(
        ProgramsMissingError, match=r"upstream\.sum: example\.invalid/upstream v1\.2\.1 has h1:"
    ) as error:
        ensure_programs(UPSTREAM, ["tiny"])
    return str(error.value).split(" has ")[1].partition(",")[0]


@pytest.mark.slow
def test_a_program_is_built_from_the_pinned_files_of_its_module(proxy: Path, tmp_path: Path) -> None:
    files = {
        "go.mod": "module example.invalid/upstream\n\ngo 1.21\n",
        "cmd/tiny/main.go": "package main\n\nfunc main() {}\n",
        "config/crd.yaml": "kind: CustomResourceDefinition\n",
    }
    publish(proxy, "example.invalid/upstream", "v1.2.1", files)
    pins = tmp_path / "pins" / UPSTREAM_SUMS
    digest = read_digest(pins, "example.invalid/upstream v1.2.1 h1:other\n")
    pins.write_text(f"example.invalid/upstream v1.1.0 h1:other\nexample.invalid/upstream v1.2.1 {digest}\n")
    folder = ensure_programs(UPSTREAM, ["tiny"])
    assert os.access(folder / "tiny", os.X_OK)
    assert os.access(folder / "config" / "crd.yaml", os.W_OK)


@pytest.mark.slow
def test_a_program_is_built_from_the_pinned_files_of_components(proxy: Path, tmp_path: Path) -> None:
    files = {"go.mod": GO_MOD, "go.sum": "", "cmd/tiny/main.go": PROGRAM, "config/crd.yaml": ""}
    publish(proxy, "example.invalid/upstream", "v1.2.1", files)
    component = {
        "go.mod": "module example.invalid/component\n",
        "name.go": 'package component\n\nconst Name = "seen"\n',
    }
    publish(proxy, "example.invalid/component", "v0.2.1", component)
    pins = tmp_path / "pins" / UPSTREAM_SUMS
    digest = read_digest(pins, "example.invalid/upstream v1.2.1 h1:other h1:other\n")
    component_digest = read_digest(pins, f"example.invalid/upstream v1.2.1 {digest} h1:other\n")
    pins.write_text(f"example.invalid/upstream v1.2.1 {digest} {component_digest}\n")
    program = ensure_programs(UPSTREAM, ["tiny"]) / "tiny"
    assert subprocess.run([program], capture_output=True, text=True, check=True).stderr == "seen\n"


def test_helm_3_renders_for_the_kubernetes_version_of_its_client(tmp_path: Path) -> None:
    """Without a cluster. Without the variables it renders for Kubernetes 1.20, which the chart refuses."""
    (tmp_path / "go.mod").write_text("require (\n\tk8s.io/client-go v0.36.1\n)\n")
    for package in ("chartutil", "lint/rules"):
        flags = HELM_3.build_flags("go", tmp_path, tmp_path)
        assert f"-X helm.sh/helm/v3/pkg/{package}.k8sVersionMinor=36" in flags[-1]


@pytest.mark.parametrize("version", OTHER_API_SERVERS)
def test_the_pin_of_a_version_is_a_release_of_it(version: str) -> None:
    assert OTHER_API_SERVERS[version].version.startswith(f"v{version}.")


def test_a_module_without_a_pin_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"upstream\.sum: does not pin k8s\.io/kubernetes v1\.2\."):
        _ = GoModule(folder="absent", upstream="k8s.io/kubernetes", release="v1.2.", packages={}).version
