"""Settings that the commands share with the proxy, from the environment."""

import os

from connector_store.domain.config.settings import Settings, parse_settings


def load_settings() -> Settings:
    """Load the settings. ParseError names a wrong variable."""
    return parse_settings(explicit={}, environ=os.environ, config_map={}, in_cluster=False)
