"""Facts about how this process was started: the object of each command's context (`click.pass_obj`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """Start of the process. `is_plugin`: as `kubectl connector`; `in_pod`: with an API server in the environment."""

    is_plugin: bool = False
    in_pod: bool = False

    @property
    def prefers_cluster(self) -> bool:
        """True if `--source auto` selects the cluster."""
        return self.is_plugin or self.in_pod
