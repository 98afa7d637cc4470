"""Entry point of the image: replaces itself with the program `proxy`, `controller` or `csi`.

Further arguments are those of that program. `--version`, also after a program, prints the product's version, because
mitmproxy would print its own. The proxy is `python -m addons`, or mitmdump if an argument needs it (see `serves_only`).
"""

import os
import runpy
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

HOME: Final = Path(__file__).resolve().parents[1]
DEFAULT_OPTIONS: Final[Mapping[str, str]] = {
    "listen_port": "8080",
    "connector_source": "kubernetes",
    "connector_admin": "[::]:9091",
}
"""Options of the proxy in a container, unless `--set` names them. They are arguments, because mitmproxy's config.yaml
would override `--set`."""
STATE_FOLDER: Final = Path("/var/lib/kubernetes-connector")
"""mitmproxy's confdir, the only folder of a proxy that must be writable."""
VERSION_FILE: Final = HOME / "connector_store" / "version.py"
USAGE: Final = (
    "usage: --version | proxy | controller | csi [ARGUMENT…]\n"
    "The arguments are those of that program: see docs/reference/settings.md\n"
)


_FLAGS: Final = frozenset({"-q", "--quiet", "-v", "--verbose", "--options"})
_FLAGS_WITH_VALUE: Final = frozenset({"--listen-host", "--listen-port", "-p", "--mode", "-m"})
_OPTIONS: Final = frozenset({"confdir", "listen_host", "listen_port", "mode", "termlog_verbosity"})


def serves_only(arguments: Sequence[str]) -> bool:
    """Return True if no argument is for an addon of mitmproxy that `python -m addons` does not have."""
    if any(
        name not in _OPTIONS and (not name.startswith("connector") or name == "connector_flows")
        for name in _set_options(arguments)
    ):
        return False
    remaining = iter(arguments)
    for argument in remaining:
        name, equals, _ = argument.partition("=")
        if name in _FLAGS_WITH_VALUE or name == "--set":
            if not equals:
                next(remaining, "")
        elif argument not in _FLAGS:
            return False
    return True


def _set_options(arguments: Sequence[str]) -> Iterator[str]:
    """Yield the names of the options that `--set NAME=VALUE` sets."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument == "--set":
            yield following.partition("=")[0]
        elif argument.startswith("--set="):
            yield argument.split("=")[1]


def command(arguments: Sequence[str], *, programs: Path) -> list[str] | None:
    """Return the program to run and its arguments, or None if the first argument names no program.

    `programs` is the folder with python and mitmdump.
    """
    match arguments:
        case ["proxy", *rest]:
            program = ["python", "-m", "addons"] if serves_only(rest) else ["mitmdump"]
            defaults = {"confdir": str(STATE_FOLDER), **DEFAULT_OPTIONS}
            option_names = set(_set_options(rest))
            set_arguments = [
                part
                for name, value in defaults.items()
                if name not in option_names
                for part in ("--set", f"{name}={value}")
            ]
            script = str(HOME / "addons" / "connector.py")
            return [str(programs / program[0]), *program[1:], "-s", script, *set_arguments, *rest]
        case ["controller" | "csi" as component, *rest]:
            return [str(programs / "python"), "-m", f"connector_{component}", *rest]
        case _:
            return None


def version() -> str:
    """Return the product's name and version. The version file is run, because the product is not on the import path."""
    namespace = runpy.run_path(str(VERSION_FILE))
    return f"kubernetes-connector {namespace['VERSION']}"


def main() -> None:
    if "--version" in sys.argv[1:3]:
        sys.stdout.write(version() + "\n")
        return
    program = command(sys.argv[1:], programs=Path(sys.executable).parent)
    if program is None:
        sys.stderr.write(USAGE)
        sys.exit(2)
    # No process may log TLS keys, even if the pod sets this variable.
    os.environ.pop("SSLKEYLOGFILE", None)
    if f"confdir={STATE_FOLDER}" in program:
        _prepare_state(STATE_FOLDER)
    os.execv(program[0], program)  # noqa: S606 - no shell is needed, and the program is python or mitmdump


def _prepare_state(state: Path) -> None:
    """Check that `state` is writable, because mitmproxy would print a traceback. If it is not, exit with code 1."""
    try:
        # Release 0.1.0 wrote this file, and its options would override the arguments.
        (state / "config.yaml").unlink(missing_ok=True)
        with tempfile.TemporaryFile(dir=state):
            pass
    except OSError as error:
        sys.stderr.write(f"error: {state} cannot be written: {error.strerror}; mount a volume there that may be\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
