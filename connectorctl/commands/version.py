"""Command `version`: the same as --version, as in kubectl."""

from connector_store.version import VERSION
from connectorctl.command import PROGRAM, make_command
from connectorctl.options import add_format_option
from connectorctl.output import write, write_value


@make_command("version", examples=("connectorctl version", "connectorctl version -o json"))
@add_format_option("json", "yaml")
def command(form: str | None) -> None:
    """Print the version."""
    if form is not None:
        write_value({"version": VERSION}, form)
        return
    write(f"{PROGRAM} {VERSION}\n")
