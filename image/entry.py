"""The image's entry: `proxy`, `controller` or `csi`, with further arguments of that door. It becomes that program.

`--version`, also after a door, says the product's version: mitmproxy would say its own. The proxy becomes
`python -m addons`, or mitmdump where an argument is for what only that has (see `only_serves`).
"""

import os
import runpy
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

HOME: Final = Path(__file__).resolve().parents[1]
AS_A_SERVICE: Final[Mapping[str, str]] = {
    "listen_port": "8080",
    "connector_source": "kubernetes",
    "connector_admin": "[::]:9091",
}
"""The proxy's options in a container that `--set` does not name. Not in mitmproxy's config.yaml, which wins over it."""
STATE: Final = Path("/var/lib/kubernetes-connector")
"""mitmproxy's confdir: the one folder of a proxy that must be writable."""
VERSION_FILE: Final = HOME / "connector_store" / "version.py"
USAGE: Final = (
    "usage: --version | proxy | controller | csi [ARGUMENT…]\n"
    "The arguments are those of that program: see docs/reference/settings.md\n"
)


_FLAGS: Final = frozenset({"-q", "--quiet", "-v", "--verbose", "--options"})
_WITH_A_VALUE: Final = frozenset({"--listen-host", "--listen-port", "-p", "--mode", "-m"})
_OPTIONS: Final = frozenset({"confdir", "listen_host", "listen_port", "mode", "termlog_verbosity"})


def only_serves(arguments: Sequence[str]) -> bool:
    """True if none of mitmdump's `arguments` is for an addon of mitmproxy's that `python -m addons` leaves out."""
    if any(
        name not in _OPTIONS and (not name.startswith("connector") or name == "connector_flows")
        for name in _set(arguments)
    ):
        return False
    rest = iter(arguments)
    for each in rest:
        name, equals, _ = each.partition("=")
        if name in _WITH_A_VALUE or name == "--set":
            if not equals:
                next(rest, "")
        elif each not in _FLAGS:
            return False
    return True


def _set(arguments: Sequence[str]) -> Iterator[str]:
    """The names of options that are set by `--set NAME=VALUE`."""
    for each, after in zip(arguments, [*arguments[1:], ""], strict=False):
        if each == "--set":
            yield after.partition("=")[0]
        elif each.startswith("--set="):
            yield each.split("=")[1]


def command(arguments: Sequence[str], *, programs: Path) -> list[str] | None:
    """The program to become and its arguments; None if the first is not a door. `programs` has python and mitmdump."""
    match arguments:
        case ["proxy", *rest]:
            program = ["python", "-m", "addons"] if only_serves(rest) else ["mitmdump"]
            own = {"confdir": str(STATE), **AS_A_SERVICE}
            named = set(_set(rest))
            sets = [part for name, value in own.items() if name not in named for part in ("--set", f"{name}={value}")]
            script = str(HOME / "addons" / "connector.py")
            return [str(programs / program[0]), *program[1:], "-s", script, *sets, *rest]
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
    if f"confdir={STATE}" in found:
        _prepare(STATE)
    os.execv(found[0], found)  # noqa: S606 - no shell is meant; the program is one of two of ours


def _prepare(state: Path) -> None:
    """For mitmproxy, which would end with a traceback; exit code 1 if it cannot be written."""
    try:
        # Release 0.1.0 left one, and what it says wins over arguments.
        (state / "config.yaml").unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=state):
            pass
    except OSError as error:
        sys.stderr.write(f"error: {state} cannot be written: {error.strerror}; mount a volume there that may be\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
