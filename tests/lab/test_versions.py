"""Other versions of the API server and of Helm."""

import sys
from pathlib import Path

import pytest

from lab import versions
from lab.go_modules import GoModule, ProgramsMissingError
from lab.programs import KUBERNETES


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder in which each module has its programs."""

    def ensure(module: GoModule, names: list[str]) -> Path:
        folder = tmp_path / module.folder
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).touch()
        return folder

    monkeypatch.setattr(versions, "ensure_programs", ensure)
    return tmp_path


def test_only_the_api_server_is_of_the_other_version(cache: Path) -> None:
    for _ in range(2):
        folder = versions.control_plane_of("1.33")
    assert folder == cache / "kube-apiserver-1.33"
    assert (folder / "kube-apiserver").is_file()
    assert {(folder / name).resolve() for name in ("etcd", "kubectl")} == {
        cache / "kubernetes" / name for name in ("etcd", "kubectl")
    }


def test_the_version_of_the_other_tests_is_theirs(cache: Path) -> None:
    assert versions.control_plane_of("1.37") == cache / KUBERNETES.folder


@pytest.mark.slow
def test_the_command_gets_the_programs_and_its_exit_code_is_returned(cache: Path) -> None:
    program = (
        "import os, sys; sys.exit(7 if os.environ['KUBEBUILDER_ASSETS'].endswith('kube-apiserver-1.34')"
        " and os.environ['HELM'].endswith('helm-3/helm') else 1)"
    )
    assert versions.main(["1.34", "3", sys.executable, "-c", program]) == 7
    with_helm_4 = "import os, sys; sys.exit('HELM' in os.environ)"
    assert versions.main(["1.37", "4", sys.executable, "-c", with_helm_4]) == 0


def test_a_program_that_cannot_be_built_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: GoModule, __: list[str]) -> Path:
        raise ProgramsMissingError("no Go")

    monkeypatch.setattr(versions, "ensure_programs", fail)
    assert versions.main(["1.33", "3", "true"]) == 1
    assert capsys.readouterr().err == "error: no Go\n"
