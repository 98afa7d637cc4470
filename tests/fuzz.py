"""Properties that look for attacks: they draw few examples in each run, and many with `scripts/test fuzz`.

@pytest.mark.fuzz
@settings(max_examples=examples(100))
@given(...)
"""

from typing import Final

from hypothesis import settings

PROFILE: Final = "fuzz"
FACTOR: Final = 50
"""How many times more examples the profile draws."""


def examples(count: int, *, factor: int = FACTOR) -> int:
    """Return the number of examples of a property that draws `count` in each run."""
    return count * factor if settings.get_current_profile_name() == PROFILE else count
