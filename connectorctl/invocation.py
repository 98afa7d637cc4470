"""Facts about how this process was started: the object of each command's context (`click.pass_obj`)."""

import os
from dataclasses import dataclass
from functools import cached_property

from connector_store.domain.config.settings import Settings, parse_settings


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """Start of the process. `is_plugin`: as `kubectl connector`; `in_pod`: with an API server in the environment."""

    is_plugin: bool = False
    in_pod: bool = False

    @property
    def prefers_cluster(self) -> bool:
        """True if `--source auto` selects the cluster."""
        return self.is_plugin or self.in_pod

    @cached_property
    def settings(self) -> Settings:
        """Settings that the commands share with the proxy, from the environment. ParseError names a wrong variable."""
        return parse_settings(explicit={}, environ=os.environ, config_map={}, in_cluster=False)
