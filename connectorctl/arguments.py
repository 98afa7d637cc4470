"""The arguments of every command, read into one frozen value."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from connector_store.domain.errors import ParseError
from connector_store.domain.names import ObjectKey
from connectorctl.duration import parse_duration

DEFAULT_TTL: Final = 30 * 60
"""Seconds: as long as the CSI driver's tokens."""
STDOUT: Final = Path("-")
_USAGE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """What was asked; fields that a command does not have keep their defaults."""

    command: str
    source: str = "auto"
    confdir: Path | None = None
    proxy: str | None = None
    kubeconfig: str | None = None
    context: str | None = None
    service_account: ObjectKey | None = None
    keys: tuple[ObjectKey, ...] = ()
    ttl: int = DEFAULT_TTL
    rotating: bool = False
    output: Path | None = None
    folder: Path | None = None
    namespace: str | None = None


def parse_arguments(arguments: Sequence[str], *, plugin: bool) -> Arguments:
    """Read the command line; ends the process with code 2, or 0 for --help, as argparse does."""
    parser = _parser("kubectl connector" if plugin else "connectorctl")
    values = vars(parser.parse_args(arguments))
    keys = values.pop("keys", ())
    found = Arguments(keys=(keys,) if isinstance(keys, ObjectKey) else tuple(keys), **values)
    if found.rotating and found.output in (None, STDOUT):
        parser.exit(_USAGE, "error: --rotating needs -o FILE: the token lies in a file of its own beside it\n")
    return found


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description="Use Kubernetes clusters through their Connectors.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    init = commands.add_parser("init", help="write example manifests")
    init.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="default: ./connectors")

    check = commands.add_parser("check", help="name every problem of a folder of manifests, with file and line")
    check.add_argument("folder", nargs="?", type=Path, metavar="DIR", help="default: ./connectors")

    kubeconfig = commands.add_parser("kubeconfig", help="print a kubeconfig that leads through the proxy")
    kubeconfig.add_argument("keys", nargs="+", type=_typed(ObjectKey.parse), metavar="NAMESPACE/NAME")
    kubeconfig.add_argument("--rotating", action="store_true", help="keep the token in a file that clients read again")
    kubeconfig.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write there instead, readable to you only"
    )
    kubeconfig.add_argument("--proxy", metavar="URL", help="default: what the Connector's status says; for folders "
                            "http://127.0.0.1:8080")  # fmt: skip

    token = commands.add_parser("token", help="print a caller's token for one Connector")
    token.add_argument("keys", type=_typed(ObjectKey.parse), metavar="NAMESPACE/NAME")

    status = commands.add_parser("status", help="show what a proxy would serve, and why something is not usable")
    status.add_argument("-n", "--namespace", help="default: all")

    for each in (kubeconfig, token):
        each.add_argument("--ttl", type=_typed(parse_duration), default=DEFAULT_TTL, metavar="DURATION",
                          help="how long the token is good; default: 30m")  # fmt: skip
        each.add_argument("--service-account", type=_typed(ObjectKey.parse), metavar="NAMESPACE/NAME",
                          help="whose token to ask a cluster for")  # fmt: skip
        each.add_argument("--confdir", type=Path, metavar="DIR", help="mitmproxy's; default: ~/.mitmproxy")
    for each in (kubeconfig, token, status):
        each.add_argument("--source", default="auto",
                          help="kubernetes, kubernetes:CONTEXT, or a folder of manifests; default: ./connectors; in a "
                          "pod, as a kubectl plugin, or with one of the flags for clusters kubernetes")  # fmt: skip
        each.add_argument("--kubeconfig", metavar="FILE", help="of the cluster with the Connectors")
        each.add_argument("--context", help="of that kubeconfig")
    return parser


def _typed[T](parse: Callable[[str], T]) -> Callable[[str], T]:
    def convert(text: str) -> T:
        try:
            return parse(text)
        except ParseError as error:
            raise argparse.ArgumentTypeError(f"{text!r}: {error.reason}") from error

    return convert
