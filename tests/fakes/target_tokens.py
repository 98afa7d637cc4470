"""`TargetTokens` for tests whose Connectors do not issue tokens."""

from collections.abc import Callable
from typing import cast

from addons.access.target_tokens import TargetTokens
from connector_store.domain.base.names import ObjectKey
from connector_store.domain.decision.decide import Resolution
from connector_store.target_client import TargetClient
from connector_store.token_manager import TokenManager


def fixed_target_tokens(get_stored: Callable[[ObjectKey], Resolution]) -> TargetTokens:
    """Create `TargetTokens` that return what `get_stored` returns."""
    return TargetTokens(get_stored, TokenManager(cast(TargetClient, None), timeout=0.0))
