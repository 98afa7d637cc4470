"""`connectorctl check`: every problem of a folder of manifests."""

from pathlib import Path

from connector_store.domain.models import Target
from connector_store.domain.settings import Settings
from connector_store.folder.source import DirectorySource
from connector_store.store import Store


def check_folder(folder: Path, settings: Settings) -> tuple[str, bool, str]:
    """The problems, one a line as FILE:LINE: OBJECT: FIELD: REASON; whether any must be mended; a summary."""
    store = Store()
    source = DirectorySource(folder, store, system_namespace=settings.system_namespace)
    problems = source.load_once()
    fatal = sum(each.fatal for each in problems)
    connectors = list(store.connectors())
    usable = sum(isinstance(store.get(each.key), Target) for each in connectors)
    summary = f"{usable} of {len(connectors)} Connectors can be used; {_count(fatal)} to mend"
    return "".join(f"{each}\n" for each in problems), fatal > 0, summary


def _count(fatal: int) -> str:
    return "nothing" if fatal == 0 else "1 problem" if fatal == 1 else f"{fatal} problems"
