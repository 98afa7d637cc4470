"""Tekton's programs."""

import os
from pathlib import Path

import pytest

from lab.go_modules import ProgramsMissingError
from lab.programs import TEKTON, ensure_programs


@pytest.fixture(scope="session")
def tekton_programs() -> Path:
    """The folder with Tekton's controller and its manifests."""
    try:
        return ensure_programs(TEKTON, ["controller"])
    except ProgramsMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
