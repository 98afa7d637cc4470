"""The command line; also installed as the kubectl plugin `kubectl connector`."""

import sys
from pathlib import Path

from connectorctl.cli import run


def main() -> None:
    """Run the command of this process and end it with its exit code."""
    sys.exit(run(sys.argv[1:], is_plugin=Path(sys.argv[0]).name.startswith("kubectl-")))


def complete() -> None:
    """Answer kubectl, which completes a plugin by running `kubectl_complete-connector` with its words."""
    from connectorctl.complete import print_kubectl_completions

    sys.exit(print_kubectl_completions(sys.argv[1:]))


if __name__ == "__main__":
    main()
