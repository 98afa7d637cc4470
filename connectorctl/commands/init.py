"""Command `init`: write an example Connector into a folder."""

from pathlib import Path

import click

from connector_store.domain.config.connector_source import DEFAULT_FOLDER
from connectorctl.command import make_command
from connectorctl.options import add_folder_argument, make_source_option
from connectorctl.output import print_message


@make_command("init", examples=("connectorctl init", "connectorctl init ./team-a", "connectorctl init --agent"))
@add_folder_argument
@make_source_option(DEFAULT_FOLDER, "Folder, the same as DIR.")
@click.option("--agent", "is_for_agent", is_flag=True,
              help="Limit the Connector to reading with masked Secrets, for an AI agent.")  # fmt: skip
def command(source: str, is_for_agent: bool) -> None:
    """Write an example Connector and its Secret into a folder.

    DIR is ./connectors by default. Only you can read it and the file. The command never overwrites a file. With a
    kubeconfig, "connectorctl import" writes a Connector that works.
    """
    from connectorctl.example import write_example

    folder = Path(source)
    try:
        path = write_example(folder, is_for_agent=is_for_agent)
    except FileExistsError as error:
        raise click.ClickException(f"{error.filename} exists already; edit it, or name another folder") from error
    print_message(f"wrote {path}; enter the address and the token, then run: connectorctl check {folder}")
