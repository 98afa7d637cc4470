"""Version of the project, the only place where it is written by hand.

Files that cannot import this module repeat the version. scripts/version.py writes and compares them.
"""

from typing import Final

VERSION: Final = "0.2.0"
"""SemVer 2.0. The image has no package metadata to read the version from."""
