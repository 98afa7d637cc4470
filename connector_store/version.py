"""The project's version: the one place where it is written by hand.

Files that cannot read it here repeat it: scripts/version.py writes and compares them.
"""

from typing import Final

VERSION: Final = "0.2.0"
"""SemVer 2.0. The image has no metadata of packages to read it from."""
