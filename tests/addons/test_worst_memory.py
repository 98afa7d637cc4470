"""`limits.memory` in deploy/ is enough for the worst case of unauthenticated clients and slow readers together."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

ROOT = Path(__file__).parents[2]
SHARE = 0.75
"""Fraction of the limit. The rest is for Connectors, and for live connections that are read."""
GIBIBYTE = 1024 * 1024
"""Units of memory in kB."""
SMALL_BUFFERS = (
    'ip link set lo up && sysctl -qw net.ipv4.tcp_wmem="4096 16384 65536" net.ipv4.tcp_rmem="4096 16384 65536"'
)
"""Small kernel buffers, so that the unread bytes of thousands of connections are in the proxy."""


def limit() -> int:
    """Return `limits.memory` of the proxy in kB."""
    deployment = yaml.safe_load((ROOT / "deploy/system/proxy.yaml").read_text())
    text: str = deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"]
    assert text.endswith("Gi")
    return int(text.removesuffix("Gi")) * GIBIBYTE


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root and util-linux")
def test_the_worst_case_of_unauthenticated_clients_and_slow_readers_is_well_below_the_limit(tmp_path: Path) -> None:
    done = subprocess.run(
        ["unshare", "--net", "sh", "-euc", f'{SMALL_BUFFERS} && exec "$@"', "sh",
         sys.executable, "-m", "tests.addons.worst_memory", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["strangers"] == 1000
    # The readers are the worst case, because all of their buffers are full.
    assert result["peak"] - result["before"] > 200_000
    assert result["peak"] < SHARE * limit(), result
