"""`limits.memory` of deploy/ has room for the worst that strangers and slow readers hold together."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
SHARE = 0.75
"""Of the limit: the rest is for Connectors, and for streams that are read."""
GIBIBYTE = 1024 * 1024
"""In kB."""
SMALL_BUFFERS = (
    'ip link set lo up && sysctl -qw net.ipv4.tcp_wmem="4096 16384 65536" net.ipv4.tcp_rmem="4096 16384 65536"'
)
"""Of the kernel, so that what thousands of connections do not read waits in the proxy."""


def limit() -> int:
    """`limits.memory` of the proxy in kB."""
    deployment = yaml.safe_load((ROOT / "deploy/system/proxy.yaml").read_text())
    text: str = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert text.endswith("Gi")
    return int(text.removesuffix("Gi")) * GIBIBYTE


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and util-linux")
def test_the_worst_that_strangers_and_slow_readers_hold_is_well_below_the_limit(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--net", "sh", "-euc", f'{SMALL_BUFFERS} && exec "$@"', "sh",
         sys.executable, "-m", "tests.addons.worst_memory", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["strangers"] == 1000
    # They are many enough to be the worst: all of their buffers are full.
    assert found["peak"] - found["before"] > 200_000
    assert found["peak"] < SHARE * limit(), found
