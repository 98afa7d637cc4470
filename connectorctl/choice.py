"""Choice of the Connector for a command that is given no name."""

import sys

import click

from connector_store.domain.base.errors import ParseError
from connector_store.domain.base.names import ObjectKey
from connectorctl.invocation import Invocation
from connectorctl.option_values import SourceOptions
from connectorctl.output import print_message
from connectorctl.source_dispatch import load_inventory


def choose_connector(key: ObjectKey | None, source_options: SourceOptions, invocation: Invocation) -> ObjectKey:
    """Return `key`, or the only Connector of the source. With several, ask on a terminal, and raise ParseError else."""
    if key is not None:
        return key
    connectors = load_inventory(source_options, invocation, namespace=None).store.connectors()
    keys = sorted(connector.key for connector in connectors)
    if not keys:
        raise ParseError("", "the source has no Connector; create one with: connectorctl import")
    if len(keys) == 1:
        return keys[0]
    if not is_terminal():
        raise ParseError("", f"the source has several Connectors; name one of: {', '.join(map(str, keys))}")
    for number, each in enumerate(keys, start=1):
        print_message(f"{number:3}  {each}")
    answer: int = click.prompt("Connector", type=click.IntRange(1, len(keys)), err=True)
    return keys[answer - 1]


def is_terminal() -> bool:
    """Return True if a user can read a question and answer it."""
    # A stream that was closed at start is None.
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))
