"""Command `version`: the same as --version, as in kubectl."""

from connector_store.version import VERSION
from connectorctl.command import PROGRAM, make_command
from connectorctl.output import write


@make_command("version", examples=("connectorctl version",))
def command() -> None:
    """Print the version."""
    write(f"{PROGRAM} {VERSION}\n")
