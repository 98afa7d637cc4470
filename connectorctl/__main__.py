"""Entry points of connectorctl, which is also installed as the kubectl plugin `kubectl connector`."""

import sys
from pathlib import Path

from connectorctl.cli import run


def main() -> None:
    """Run the command of this process, and exit with its code."""
    sys.exit(run(sys.argv[1:], is_plugin=Path(sys.argv[0]).name.startswith("kubectl-")))


def complete() -> None:
    """Print completions for kubectl, which runs `kubectl_complete-connector` with the words of the command line."""
    from connectorctl.complete import print_kubectl_completions

    sys.exit(print_kubectl_completions(sys.argv[1:]))


if __name__ == "__main__":
    main()
