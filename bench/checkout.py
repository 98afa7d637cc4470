"""A checkout of the product, this one or another, and the command with which its image starts the proxy."""

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A checkout in the folder `tree`. `programs` is the folder of its python, mitmdump and connectorctl."""

    tree: Path
    programs: Path

    @property
    def has_own_server(self) -> bool:
        """Return True if its image runs `python -m addons`, False if it runs mitmdump."""
        return (self.tree / "addons" / "__main__.py").exists()

    @property
    def version(self) -> str:
        """Version in its source; release 0.1.0 has it in pyproject.toml."""
        files = (self.tree / "connector_store" / "version.py", self.tree / "pyproject.toml")
        text = next(path for path in files if path.exists()).read_text()
        match = re.search(r'^version.* = "(.+)"$', text, re.MULTILINE | re.IGNORECASE)
        return match[1] if match else self.tree.name

    def proxy_command(
        self, arguments: Sequence[str | Path], *, scripts: Sequence[Path] = (), with_mitmdump: bool = False
    ) -> list[str]:
        """Return the command of a proxy with mitmdump's `arguments`; with mitmdump, flows can be shown to a person."""
        python, mitmdump = str(self.programs / "python"), str(self.programs / "mitmdump")
        command = [python, "-m", "addons"] if self.has_own_server and not with_mitmdump else [mitmdump]
        for script in (self.tree / "addons" / "connector.py", *scripts):
            command += ["-s", str(script)]
        return [*command, *map(str, arguments)]

    @property
    def environment(self) -> dict[str, str]:
        """Environment that the image sets, with the paths of this checkout."""
        return image_environment((self.tree / "Dockerfile").read_text(), self.tree) | {"PYTHONPATH": str(self.tree)}


THIS_CHECKOUT: Final = Checkout(tree=ROOT, programs=Path(sys.executable).parent)


def find_checkout(tree: Path) -> Checkout:
    """Return the checkout in `tree`. Raise ValueError if it is not one, or if its scripts/install has not been run."""
    checkout = Checkout(tree=tree.resolve(), programs=tree.resolve() / ".venv" / "bin")
    if not (checkout.tree / "addons" / "connector.py").is_file():
        raise ValueError(f"{tree} is not a checkout of the product: it has no addons/connector.py")
    if not (checkout.programs / "connectorctl").exists():
        raise ValueError(f"{tree} has no .venv; run {tree / 'scripts' / 'install'}")
    return checkout


def image_environment(dockerfile: str, tree: Path) -> dict[str, str]:
    """Return the variables for Python, malloc and OpenSSL that the last stage of a Dockerfile sets.

    Those of Python's search path and bytecode files are left out. `tree` replaces /app.
    """
    variables = dict(re.findall(r"\b((?:PYTHON|MALLOC_|OPENSSL_)[A-Z_]+)=(\S+)", dockerfile.rpartition("\nFROM ")[2]))
    return {
        name: value.replace("/app/", f"{tree}/")
        for name, value in variables.items()
        if name not in ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    }
