"""monitoring/rules.test.yaml, by Prometheus' own tool."""

import subprocess
from pathlib import Path

from tests.monitoring.queries import MONITORING


def test_the_rules_are_sound_and_fire_when_they_should(promtool: Path) -> None:
    for arguments in (["check", "rules", "rules.yaml"], ["test", "rules", "rules.test.yaml"]):
        done = subprocess.run([promtool, *arguments], cwd=MONITORING, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout
