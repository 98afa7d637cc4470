"""`connectorctl version`: the same as --version, as kubectl has it."""

from connector_store.version import VERSION
from connectorctl.command import PROGRAM
from connectorctl.command import make_command as make
from connectorctl.output import write


@make("version", examples=("connectorctl version",))
def command() -> None:
    """Print the version."""
    write(f"{PROGRAM} {VERSION}\n")
