"""What a published volume could not be given: told once, kept in the volume's own .error.json, and counted.

kubelet is told nothing of it: it would take the volume away (kubernetes#121271).
"""

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from connector_csi.events import Warnings
from connector_csi.failure import Failure, shortened
from connector_csi.metrics import Metrics
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.base.rfc3339 import format_time
from connector_store.domain.kubeconfig.volume import Pod

logger = logging.getLogger(__name__)

Problems = Mapping[ObjectKey, Failure] | Mapping[None, Failure]
"""By Connector; None: the whole volume."""


@dataclass(frozen=True, slots=True)
class _Trouble:
    problems: Problems
    since: str


class Troubles:
    """Of the volumes of one node. `now` gives the time that a file says."""

    def __init__(self, warnings: Warnings, metrics: Metrics, now: Callable[[], datetime]) -> None:
        self._warnings = warnings
        self._metrics = metrics
        self._now = now
        self._held: dict[str, _Trouble] = {}

    def tell(self, volume_id: str, pod: Pod | None, problems: Problems) -> bytes:
        """The content of the error file. It, and what is told, stays as it is for as long as the problems do."""
        for failure in problems.values():
            self._metrics.masked.labels(failure.code.name).inc()
        held = self._held.get(volume_id)
        if held is None or held.problems != problems:
            held = self._held[volume_id] = _Trouble(dict(problems), format_time(self._now()))
            self._metrics.stale.set(len(self._held))
            for key, failure in problems.items():
                self._say(volume_id, pod, key, failure)
        told = [
            {"connector": str(key) if key else None, "code": failure.code.name, "message": shortened(failure.message)}
            for key, failure in held.problems.items()
        ]
        return json.dumps({"since": held.since, "problems": told}, indent=2).encode() + b"\n"

    def over(self, volume_id: str) -> None:
        if self._held.pop(volume_id, None) is not None:
            self._metrics.stale.set(len(self._held))

    def _say(self, volume_id: str, pod: Pod | None, key: ObjectKey | None, failure: Failure) -> None:
        kept = f"Connector {key} keeps what it had" if key else "old content is kept"
        whose = f"pod {pod.namespace}/{pod.name}" if pod else "a pod"
        logger.warning("volume %s of %s: %s: %s", volume_id, whose, kept, failure.message)
        if pod is not None:
            self._warnings.warn(pod, "ConnectorNotRefreshed", f"{kept}: {failure.message}")
