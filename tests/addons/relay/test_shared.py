"""What all connections share cannot be changed by one of them."""

import dataclasses

import pytest

from addons.relay.shared import Shared, Times


def test_the_parts_are_fixed() -> None:
    times = Times(client=1.0, connect=2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        times.client = 2.0  # type: ignore[misc]  # what is tried here
    assert dataclasses.fields(Shared)
