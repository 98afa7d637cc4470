"""What a line tells names its reason."""

from addons.net.events import TimeUp, Wait


def test_a_timer_says_what_it_was_for_and_which_it_was() -> None:
    event = TimeUp(Wait.CLIENT, 3)
    assert (event.wait, event.number) == (Wait.CLIENT, 3)
    assert event != TimeUp(Wait.CLIENT, 4)
