"""Kubernetes' own parser of requests, as a program (scripts/go/request-info)."""

import json
import subprocess

from connector_store.domain.base.request_info import RequestInfo


class KubernetesParser:
    """The running program."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def parse(self, method: str, target: str) -> RequestInfo | None:
        """Return how the API server reads a request, or None if the API server answers it with an error."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{method} {target}\n")
        self._process.stdin.flush()
        fields = json.loads(self._process.stdout.readline())
        return None if fields is None else RequestInfo(*fields)
