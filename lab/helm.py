"""Helm as a function for tests."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lab.process import environment_without_proxies

TIMEOUT = 900.0
"""Seconds that one command may take, including --wait."""


class Helm:
    """Runs Helm. Its caches and configuration are in `home`."""

    def __init__(self, program: Path, kubeconfig: Path, home: Path) -> None:
        self.program = program
        self.home = home
        self._environment = environment_without_proxies() | {
            "PATH": os.environ.get("PATH", os.defpath),
            "KUBECONFIG": str(kubeconfig),
            "HELM_CACHE_HOME": str(home / "cache"),
            "HELM_CONFIG_HOME": str(home / "config"),
            "HELM_DATA_HOME": str(home / "data"),
        }

    def __call__(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """Run Helm and return its output. Raise AssertionError with its messages if it failed.

        `values` are passed like a values file.
        """
        result = self.run(*arguments, values=values)
        assert result.returncode == 0, f"helm {' '.join(arguments)}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def run(
        self, *arguments: str, values: Mapping[str, Any] | None = None, timeout: float = TIMEOUT
    ) -> subprocess.CompletedProcess[str]:
        values_options = ["--values", "-"] if values is not None else []
        return subprocess.run(
            [str(self.program), *arguments, *values_options],
            input=json.dumps(values or {}),
            text=True,
            capture_output=True,
            check=False,
            timeout=timeout,
            env=self._environment,
        )
