"""Entry points of connectorctl, which is also installed as the kubectl plugin `kubectl connector`."""

import os
import sys


def main() -> None:
    """Run the command of this process, and exit with its code."""
    if sys.argv[1:2] == ["credential"]:
        from connectorctl.fast_credential import print_credential

        code = print_credential(sys.argv[2:], os.environ)
        if code is not None:
            sys.exit(code)
    from connectorctl.cli import run

    sys.exit(run(sys.argv[1:], is_plugin=os.path.basename(sys.argv[0]).startswith("kubectl-")))  # noqa: PTH119 - pathlib costs time


def complete() -> None:
    """Print completions for kubectl, which runs `kubectl_complete-connector` with the words of the command line."""
    from connectorctl.complete import print_kubectl_completions

    sys.exit(print_kubectl_completions(sys.argv[1:]))


if __name__ == "__main__":
    main()
