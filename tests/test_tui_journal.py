"""What is being said just now: on disk while it is answered, gone when it is logged, logged once when a process died."""

from agent import paths
from agent.store import Store
from agent.surfaces.tui.journal import CUT, Journal, recover
from agent.types import Turn

ROUTED = Turn(id="t" * 32, session="one-shop", domain="shop", bundle="shop@0001", question="How long?", redacted="How long?",
              intent="returns")


def left(home, *said: str, routed: bool = True) -> Journal:
    """A journal whose process is no longer there to end it."""
    journal = Journal(paths.unfinished(home))
    journal.begin("one-shop", "shop", "How long?")
    if routed:
        journal.route(ROUTED)
    for piece in said:
        journal.say(piece)
    journal._pen.shutdown()
    journal._stream.close()
    return journal


def test_a_turn_that_is_logged_leaves_no_file(home):
    journal = Journal(paths.unfinished(home))
    journal.begin("one-shop", "shop", "How long?")
    journal.say("30 days.")
    journal.end()
    journal.begin("one-shop", "shop", "And then?")
    journal.close()
    journal.say("too late")
    assert not list(paths.unfinished(home).iterdir())


def test_what_a_dead_process_left_is_logged_once_with_what_was_said(home, db: Store):
    folder = left(home, "You have 30 days. ", "By post").folder
    (folder / "cut.jsonl").write_text('{"session": "two-shop", "domain": "shop", "question": "Late?"}\n{"said": "Ye', encoding="utf-8")
    assert recover(folder, db) == 2 and recover(folder, db) == 0
    turn = db.last_turn("one-shop")
    assert (turn["id"], turn["reply"], turn["error"]) == (ROUTED.id, "You have 30 days. By post", CUT)
    assert db.last_turn("two-shop")["question"] == "Late?"


def test_what_was_logged_in_time_is_not_logged_again(home, db: Store):
    db.session("one-shop", "shop")
    db.log(ROUTED, {}, error="cancelled")
    assert recover(left(home, "30 days").folder, db) == 0
    assert recover(left(home, routed=False).folder, db) == 0, "stopped before it was routed"
    assert db.session("one-shop", "shop")["turns"] == 1


def test_a_turn_that_another_app_answers_just_now_is_left_alone(home, db: Store):
    journal = Journal(paths.unfinished(home))
    journal.begin("one-shop", "shop", "How long?")
    journal._pen.submit(int).result()
    assert recover(journal.folder, db) == 0 and len(list(journal.folder.iterdir())) == 1
    journal.close()
