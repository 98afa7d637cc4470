import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.permissions.kubernetes_parser import KubernetesParser


@pytest.fixture(scope="module")
def kubernetes(request_info_program: Path) -> Iterator[KubernetesParser]:
    # The factory writes each malformed query to stderr.
    with subprocess.Popen(
        [request_info_program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        encoding="utf-8",
    ) as process:
        yield KubernetesParser(process)
