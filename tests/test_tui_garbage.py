"""Old garbage is collected while nobody waits for a key."""

import gc

import pytest
from textual import events

from agent.surfaces.tui import garbage
from agent.surfaces.tui.garbage import ENOUGH, TOO_MUCH, Garbage


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], list[float]]:
    """The moments of full collections, and a clock that stands at 100 s until it is moved."""
    clock, swept = [100.0], []
    monkeypatch.setattr(garbage.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(garbage.gc, "collect", lambda: swept.append(clock[0]))
    monkeypatch.setattr(garbage.gc, "get_count", lambda: (0, 0, ENOUGH))
    return swept, clock


def test_nothing_is_swept_while_somebody_types_or_an_answer_is_written(collected):
    swept, clock = collected
    mine = Garbage()
    clock[0] = 110.0
    mine.hear(events.Key("a", "a"))
    mine.sweep(True)
    clock[0] = 111.0
    mine.sweep(True)
    clock[0] = 113.0
    mine.sweep(False)
    assert swept == []
    mine.sweep(True)
    assert swept == [113.0]


def test_what_is_no_key_is_nobody(collected):
    swept, clock = collected
    mine = Garbage()
    clock[0] = 110.0
    mine.hear(events.Resize((80, 24), (80, 24)))
    mine.sweep(True)
    assert swept == [110.0]


def test_a_little_old_garbage_waits(collected, monkeypatch):
    swept, clock = collected
    monkeypatch.setattr(garbage.gc, "get_count", lambda: (0, 0, ENOUGH - 1))
    clock[0] = 200.0
    Garbage().sweep(True)
    assert swept == []


def test_full_collections_are_put_off_and_the_young_ones_are_not():
    before = gc.get_threshold()
    try:
        Garbage().take_over()
        assert gc.get_threshold() == (*before[:2], TOO_MUCH)
    finally:
        gc.set_threshold(*before)
