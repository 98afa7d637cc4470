"""The command line; also installed as the kubectl plugin `kubectl connector`."""

import os
import sys
from pathlib import Path

from connectorctl.cli import run


def main() -> None:
    """Run the command of this process and end it with its exit code."""
    sys.exit(run(sys.argv[1:], plugin=Path(sys.argv[0]).name.startswith("kubectl-"), environ=os.environ))


if __name__ == "__main__":
    main()
