"""Errors of a published volume: an event of the pod, the volume's .error.json, and metrics.

The driver does not return these errors to kubelet, which would unmount the volume (kubernetes#121271).
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from connector_csi.failure import Failure, truncate
from connector_csi.metrics import CsiMetrics
from connector_csi.pod_events import PodWarnings
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.rfc3339 import format_time
from connector_store.domain.kubeconfig.volume_files import ERROR_FILE
from connector_store.domain.kubeconfig.volume_request import Pod

logger = logging.getLogger(__name__)

Problems = Mapping[ObjectKey, Failure] | Mapping[None, Failure]
"""Failures by Connector. The key None stands for the whole volume."""


@dataclass(frozen=True, slots=True)
class _RefreshError:
    problems: Problems
    since: str


class RefreshErrors:
    """Refresh errors of the volumes of one node. `now` is the clock for the times in the files."""

    def __init__(self, warnings: PodWarnings, metrics: CsiMetrics, now: Callable[[], datetime]) -> None:
        self._warnings = warnings
        self._metrics = metrics
        self._now = now
        self._errors: dict[str, _RefreshError] = {}

    def record(self, volume_id: str, pod: Pod | None, problems: Problems, *, is_new: bool = False) -> bytes:
        """Count the problems and return the content of the error file. A new volume has no other file.

        Problems that did not change are neither logged nor sent as events again, and the file stays the same.
        """
        for failure in problems.values():
            self._metrics.republish_failures.labels(failure.code.name).inc()
        error = self._errors.get(volume_id)
        if error is None or error.problems != problems:
            error = self._errors[volume_id] = _RefreshError(dict(problems), format_time(self._now()))
            self._metrics.stale_volumes.set(len(self._errors))
            for key, failure in problems.items():
                self._report(volume_id, pod, key, failure, is_new=is_new)
        entries = [
            {"connector": str(key) if key else None, "code": failure.code.name, "message": truncate(failure.message)}
            for key, failure in error.problems.items()
        ]
        return json.dumps({"since": error.since, "problems": entries}, indent=2).encode() + b"\n"

    def clear(self, volume_id: str) -> None:
        if self._errors.pop(volume_id, None) is not None:
            self._metrics.stale_volumes.set(len(self._errors))

    def _report(
        self, volume_id: str, pod: Pod | None, key: ObjectKey | None, failure: Failure, *, is_new: bool
    ) -> None:
        reason = "AccessDenied" if is_new else "ConnectorNotRefreshed"
        effect = f"Connector {key} keeps what it had" if key else "old content is kept"
        if is_new:
            effect = f"the volume has only {ERROR_FILE}"
        pod_name = f"pod {pod.namespace}/{pod.name}" if pod else "a pod"
        logger.warning("volume %s of %s: %s: %s", volume_id, pod_name, effect, failure.message)
        if pod is not None:
            self._warnings.warn(pod, reason, f"{effect}: {failure.message}")
