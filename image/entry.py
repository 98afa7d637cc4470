"""The image's entry: `proxy`, `controller` or `csi`, with further arguments of that door. It becomes that program.

`--version`, also after a door, says the product's version: mitmdump would say its own.
"""

import os
import runpy
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

HOME: Final = Path(__file__).resolve().parents[1]
CONFIGURATION: Final = HOME / "image" / "mitmproxy.yaml"
STATE: Final = Path("/var/lib/kubernetes-connector")
"""mitmproxy's confdir: the one folder of a proxy that must be writable."""
VERSION_FILE: Final = HOME / "connector_store" / "version.py"
USAGE: Final = (
    "usage: --version | proxy | controller | csi [ARGUMENT…]\n"
    "The arguments are those of that program: see docs/reference/settings.md\n"
)


def command(arguments: Sequence[str], *, programs: Path) -> list[str] | None:
    """The program to become and its arguments; None if the first is not a door. `programs` has python and mitmdump."""
    match arguments:
        case ["proxy", *rest]:
            script = str(HOME / "addons" / "connector.py")
            return [str(programs / "mitmdump"), "--set", f"confdir={STATE}", "-s", script, *rest]
        case ["controller" | "csi" as door, *rest]:
            return [str(programs / "python"), "-m", f"connector_{door}", *rest]
        case _:
            return None


def version() -> str:
    """Read as a file: this program has no import path yet, and becomes another one anyway."""
    namespace = runpy.run_path(str(VERSION_FILE))
    return f"kubernetes-connector {namespace['VERSION']}"


def main() -> None:
    if "--version" in sys.argv[1:3]:
        sys.stdout.write(version() + "\n")
        return
    found = command(sys.argv[1:], programs=Path(sys.executable).parent)
    if found is None:
        sys.stderr.write(USAGE)
        sys.exit(2)
    # What passes in TLS is nobody's to read, whatever the pod's author sets.
    os.environ.pop("SSLKEYLOGFILE", None)
    if sys.argv[1] == "proxy":
        shutil.copyfile(CONFIGURATION, STATE / "config.yaml")
    os.execv(found[0], found)  # noqa: S606 - no shell is meant; the program is one of two of ours


if __name__ == "__main__":
    main()
