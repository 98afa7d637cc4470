"""Version of the project."""

import re
from importlib import metadata

from connector_store.version import VERSION

SEMVER = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?")


def test_it_is_semver_and_what_the_package_says() -> None:
    assert SEMVER.fullmatch(VERSION)
    assert metadata.version("kubernetes-connector") == VERSION
