"""Conversations are named, laid away, read whole and found by their words; a hand-off is one person's at a time."""

import random
import string
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.dialects import postgresql, sqlite

from agent import conversations
from agent.errors import DataError
from agent.paths import MIGRATIONS
from agent.store import Store
from agent.types import Turn
from tuning import leftovers


def turn(id: str = "t1", session: str = "s1", **changes: Any) -> Turn:
    made = Turn(id, session, "finance", "finance@0001", "", "What would a loan cost me?", reply="That depends on the rate.")
    return replace(made, **({"state": "answered"} | changes))


def found(db: Store, words: str, **more: Any) -> list[str]:
    return [row["turn"] for row in db.search(words, **more)]


# Looked at as a whole


def test_a_list_tells_title_first_question_and_length_and_the_newest_comes_first(db: Store) -> None:
    db.log(turn(), {})
    db.log(turn("t2", redacted="And over ten years?"), {"asking": "rate"})
    db.session("m1", "medical", "ann")
    assert db.rename("s1", "  A loan\n for the roof ") == "A loan for the roof"
    newest, mine = db.sessions()
    assert (newest["id"], newest["first"], newest["title"], newest["author"], newest["turns"]) == ("m1", "", "", "ann", 0)
    assert (mine["title"], mine["first"], mine["turns"]) == ("A loan for the roof", "What would a loan cost me?", 2)
    assert mine["state"] == {"asking": "rate"} and mine["updated"] > mine["created"] and mine["archived"] is False


def test_what_is_laid_away_is_listed_when_asked_for_and_comes_back_with_its_next_turn(db: Store) -> None:
    db.log(turn(), {})
    db.log(turn("t2", "s2"), {})
    db.archive("s1")
    assert [row["id"] for row in db.sessions()] == ["s2"]
    assert [(row["id"], row["archived"]) for row in db.sessions(archived=True)] == [("s2", False), ("s1", True)]
    assert found(db, "loan") == ["t2", "t1"]
    db.archive("s1", False)
    assert len(db.sessions()) == 2
    db.archive("s2")
    db.log(turn("t3", "s2"), {})
    assert [row["id"] for row in db.sessions()] == ["s2", "s1"]


def test_a_title_holds_no_private_value_and_no_mark_of_the_conversation(db: Store) -> None:
    db.log(turn(redacted="I am [EMAIL_1]"), {})
    assert db.rename("s1", "Loan of ben.lee@example.org") == "Loan of [EMAIL_2]"
    assert db.rename("s1", "x" * 500) == "x" * conversations.LONGEST_TITLE
    assert db.rename("s1", " \0 ") == "\ufffd" and db.rename("s1", "") == ""


@pytest.mark.parametrize("change", [lambda db: db.rename("s9", "x"), lambda db: db.archive("s9")])
def test_a_session_that_is_not_there_is_a_sentence(db: Store, change: Any) -> None:
    with pytest.raises(DataError, match="no session 's9'; `retune sessions` lists them"):
        change(db)


def test_a_conversation_is_all_its_turns_in_order_with_what_was_said_of_each(db: Store) -> None:
    for number in (1, 2, 3):
        db.log(turn(f"t{number}", flags=("error",) if number == 2 else ()), {}, error="gone" if number == 2 else None)
    db.log(turn("other", "s2"), {})
    db.feedback("t1", "ann", "up")
    db.feedback("t1", "ben", "correction", "About 200 a month.")
    db.feedback("other", "ann", "down")
    whole = db.conversation("s1")
    assert [row["id"] for row in whole] == ["t1", "t2", "t3"]
    assert whole[0].pop("feedback") == [{"author": "ann", "kind": "up", "value": None},
                                        {"author": "ben", "kind": "correction", "value": "About 200 a month."}]
    assert whole[1].pop("feedback") == [] and whole[:2] == [db.turn("t1"), db.turn("t2")]
    assert db.conversation("s9") == []


# Searched

HELD = {"t1": ("What would a loan cost me?", "About 200 a month."), "t2": ("我的包裹在哪里？", "包裹明天到。"),
        "t3": ("GRÜSSE aus Köln", 'Say "cheese" 50% off_now'), "t4": ("👍🏽 thanks", "C++ AND java NEAR rust*"),
        "t5": ("آیا وام ارزان است؟", "สินเชื่อบ้านราคาเท่าไร")}


def fill(db: Store) -> Store:
    for id, (question, reply) in HELD.items():
        db.log(turn(id, f"s-{id}", redacted=question, reply=reply), {})
    return db


@pytest.fixture
def held(db: Store) -> Store:
    return fill(db)


@pytest.mark.parametrize("words, expected", [
    ("loan", ["t1"]), ("LOAN month", ["t1"]), ("loan nothing", []), ("me 20", ["t1"]), ("包裹", ["t2"]), ("明天到", ["t2"]),
    ("grüsse", ["t3"]), ("köln", ["t3"]), ("50%", ["t3"]), ("5%", []), ("f_n", ["t3"]), ("fXn", []), ('"cheese"', ["t3"]),
    ("👍", ["t4"]), ("c++", ["t4"]), ("near", ["t4"]), ("rust*", ["t4"]), ("وام", ["t5"]), ("ราคา", ["t5"]),
    ("", []), (" \t", []),
])
def test_words_are_found_in_every_script_in_question_and_reply(held: Store, words: str, expected: list[str]) -> None:
    assert found(held, words) == expected


SYNTAX = ['"', '""', "'", "*", ":", "^", "-", "NEAR(a b)", "a AND", "OR", "NOT x", "question:loan", "{a b}:c", "(", "loan)",
          "a*", "\\", "%", "_", "\0", "\ud83d", "👩‍👩‍👧‍👦", ";DROP TABLE turns", "--", "loan" * 10_000, "a " * 10_000,
          "wo\x1brd", "&|!<->"]


@pytest.mark.parametrize("words", SYNTAX)
def test_nothing_that_a_person_types_is_syntax(held: Store, words: str) -> None:
    held.search(words)
    held.search(f"{words} loan")
    apart = "" if held.path else " "  # PostgreSQL finds the beginnings of words, SQLite any part of them
    held.log(turn("t9", "s9", redacted=f"x{apart}{words}{apart}y"[:conversations.LONGEST_SEARCH]), {})
    if term := " ".join(words[:30].split()):
        assert "t9" in found(held, term)


def test_no_random_text_ever_raises(held: Store) -> None:
    signs = random.Random(5)
    for _ in range(150):
        held.search("".join(signs.choices(string.printable + "你好👍\u0301\u200d", k=signs.randrange(1, 30))))


def test_a_search_is_of_one_domain_so_many_and_the_best_first(held: Store) -> None:
    held.session("m", "medical")
    held.log(turn("m1", "m", domain="medical", redacted="loan loan loan", reply="loan"), {})
    held.rename("m", "Loans")
    assert found(held, "loan") == ["m1", "t1"] and found(held, "loan", limit=1) == ["m1"]
    assert found(held, "loan", domain="finance") == ["t1"]
    (row,) = held.search("loan", "medical")
    assert row.pop("created") and row == {"turn": "m1", "session": "m", "domain": "medical", "title": "Loans",
                                          "question": "loan loan loan", "reply": "loan", "snippet": "loan loan loan"}


def test_a_snippet_is_one_line_round_what_was_found(db: Store) -> None:
    db.log(turn(redacted="a question", reply=f"{'before ' * 40}the Needle\nis {'after ' * 40}"), {})
    said = db.search("needle")[0]["snippet"]
    assert said.startswith("…") and said.endswith("…") and "the Needle is after" in said and "\n" not in said
    assert len(said) < 140


def test_the_search_follows_what_becomes_of_turns(held: Store) -> None:
    with held.writing() as at:
        at.exec_driver_sql("UPDATE turns SET reply = 'A mortgage' WHERE id = 't1'")
        at.exec_driver_sql("DELETE FROM sessions WHERE id = 's-t2'")
    assert found(held, "mortgage") == ["t1"] and found(held, "month") == [] and found(held, "明天到") == []
    held.log(turn("t2", "again", redacted="包裹 once more"), {})
    assert found(held, "包裹 more") == ["t2"]


def test_the_search_stands_after_the_database_was_written_anew(held: Store) -> None:
    with held.writing() as at:
        at.exec_driver_sql("DELETE FROM turns WHERE id IN ('t1', 't2')")
    assert leftovers.wipe(held) is (True if held.path else None)
    assert found(held, "cheese") == ["t3"] and found(held, "loan") == [] and held.check() == []
    held.log(turn("t6", "s6", redacted="cheese again"), {})
    assert sorted(found(held, "cheese")) == ["t3", "t6"]


def index_bytes(db: Store) -> bytes:
    with db.reading() as at:
        return b"".join(at.exec_driver_sql("SELECT block FROM words_data").scalars())


def test_a_deleted_word_stays_in_no_page_of_the_index(sqlite_db: Store) -> None:
    """The index keeps words in lower case and in threes, which the turn itself does not hold."""
    held = fill(sqlite_db)
    held.log(turn("secret", "ann", redacted="ЩЮЪ"), {})
    three = "щюъ".encode()[1:]  # the first byte may be shared with the entry before
    assert three in index_bytes(held)
    with held.writing() as at:
        at.exec_driver_sql("DELETE FROM turns WHERE id = 'secret'")
    assert found(held, "щюъ") == [] and three in index_bytes(held), "SQLite forgets by itself: then the wipe proves nothing"
    assert leftovers.wipe(held)
    files = [file for file in held.path.parent.glob("retune.db*")]
    assert files and not any(three in file.read_bytes() for file in files) and three not in index_bytes(held)
    assert found(held, "cheese") == ["t3"]


# An older database


@pytest.mark.parametrize("version", ["0002", "0003"])
def test_an_older_database_comes_forward_with_every_row_and_is_searched(new_url: str, version: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = sa.create_engine(new_url)
    with engine.begin() as at:
        config.attributes["connection"] = at
        command.upgrade(config, version)
        at.exec_driver_sql("INSERT INTO sessions (id, domain, author, state, turns, created, updated)"
                           " VALUES ('s1', 'finance', 'ann', '{\"asking\": \"rate\"}', 2, 'c', 'u')")
        for seq, question in enumerate(("What would a loan cost?", "包裹在哪里"), 1):
            at.exec_driver_sql("INSERT INTO turns (id, session, seq, domain, bundle, question, reply, ranking, state, slots,"
                               " passages, tool, tool_arguments, tool_result, flags, abstained, timings_ms, created) VALUES"
                               f" ('t{seq}', 's1', {seq}, 'finance', 'b', '{question}', 'r', '[]', 'answered', '{{}}', '[]', '',"
                               " '{}', '', '[]', false, '{}', 'c')")
        at.exec_driver_sql("INSERT INTO handoffs VALUES ('t2', 's1', 'finance', 'asked', 'waiting', '[]', 'c')")
        at.exec_driver_sql("INSERT INTO feedback VALUES ('t1', 'ann', 'up', NULL, 'c')")
    engine.dispose()
    with closing(Store(new_url)) as db:
        db.open()
        assert db.check() == [] and found(db, "loan") == ["t1"] and found(db, "包裹在") == ["t2"]
        (session,) = db.sessions()
        assert (session["author"], session["state"], session["title"], session["archived"], session["turns"]) == (
            "ann", {"asking": "rate"}, "", False, 2)
        assert [len(row["feedback"]) for row in db.conversation("s1")] == [1, 0]
        assert db.take("t2", "ben")["reason"] == "asked"
        db.log(turn("t3", redacted="One more loan"), {})
        assert db.conversation("s1")[2]["seq"] == 3 and sorted(found(db, "loan")) == ["t1", "t3"]


# The desk


def test_a_wished_handoff_waits_like_the_agents_own_and_once(db: Store) -> None:
    db.log(turn(), {})
    db.log(turn("t2", redacted="second", reply="two"), {})
    db.hand_off("t1", "ann", "it is urgent")
    db.hand_off("t1", "ben", "again")
    (row,) = db.handoffs()
    assert (row["turn"], row["session"], row["author"], row["reason"], row["by"]) == ("t1", "s1", "ann", "it is urgent", "")
    assert [each["question"] for each in row["conversation"]] == ["What would a loan cost me?", "second"]
    with pytest.raises(DataError, match="no turn 't9'"):
        db.hand_off("t9", "ann", "x")
    db.answer_handoff("t1", "cy", "I called you.")
    with pytest.raises(DataError, match="'t1' was handed off and answered"):
        db.hand_off("t1", "ann", "once more")
    assert [(row["author"], row["reason"]) for row in db.handoffs("answered")] == [("ann", "it is urgent")]


def test_a_wish_is_taken_back_by_whoever_had_it_until_somebody_took_it(db: Store) -> None:
    db.log(turn(), {}, handoff="red flag")
    assert not db.retract("t1", "", "handoff") and len(db.handoffs()) == 1, "the agent's own"
    db.log(turn("t2"), {})
    db.hand_off("t2", "ann", "x")
    assert not db.retract("t2", "ben", "handoff")
    db.take("t2", "cy")
    assert not db.retract("t2", "ann", "handoff") and db.handoffs("taken")
    db.release("t2")
    assert db.retract("t2", "ann", "handoff") and not db.retract("t2", "ann", "handoff")
    assert [row["turn"] for row in db.handoffs()] == ["t1"]


def test_a_conversation_that_was_taken_is_nobody_elses_until_it_is_released(db: Store) -> None:
    db.log(turn(), {}, handoff="asked")
    assert db.take("t1", "ann")["status"] == "taken" and db.handoffs() == []
    assert db.take("t1", "ann")["by"] == "ann"
    with pytest.raises(DataError, match="ann has taken turn 't1'; take another"):
        db.take("t1", "ben")
    assert [row["by"] for row in db.handoffs("taken")] == ["ann"]
    db.release("t1")
    db.release("t1")
    assert db.take("t1", "ben")["by"] == "ben"
    db.answer_handoff("t1", "ben", "I called you.")
    db.release("t1")
    assert [(row["by"], row["status"]) for row in db.handoffs("answered")] == [("ben", "answered")]
    with pytest.raises(DataError, match="answered already"):
        db.take("t1", "ann")


def test_who_cannot_take_is_told_why(db: Store) -> None:
    db.log(turn(), {})
    for call in (lambda: db.take("t1", "ann"), lambda: db.take("t9", "ann"), lambda: db.release("t1")):
        with pytest.raises(DataError, match="was not handed off"):
            call()
    db.hand_off("t1", "ann", "x")
    with pytest.raises(DataError, match="say who takes"):
        db.take("t1", " ")


def taken_by_one_of_many(db: Store) -> bool:
    """Whether one of eight who take turn t1 at once gets it, and the others are told who."""
    def take(name: str) -> str:
        try:
            return db.take("t1", name)["by"]
        except DataError as error:
            return str(error)

    names = [f"person {number}" for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(take, names))
    (winner,) = (name for name, answer in zip(names, said) if answer == name)
    return sum(answer.startswith(f"{winner} has taken") for answer in said) == 7


def test_of_many_who_take_at_once_one_gets_it(db: Store) -> None:
    db.log(turn(), {}, handoff="asked")
    assert taken_by_one_of_many(db)


# Taken back


def test_feedback_is_taken_back_by_its_author_alone(db: Store) -> None:
    db.log(turn(), {})
    db.feedback("t1", "ann", "up")
    db.feedback("t1", "ben", "up")
    db.feedback("t1", "ann", "comment", "fine")
    assert db.retract("t1", "ann", "up") and not db.retract("t1", "ann", "up") and not db.retract("t9", "ann", "up")
    assert [(row["author"], row["kind"]) for row in db.feedback_of("t1")] == [("ben", "up"), ("ann", "comment")]
    with pytest.raises(DataError, match="no feedback 'like'; use one of up, down.*handoff"):
        db.retract("t1", "ann", "like")


def test_a_handoff_whose_last_reply_is_taken_back_waits_again(db: Store) -> None:
    db.log(turn(), {}, handoff="asked")
    db.answer_handoff("t1", "ann", "Hello.")
    db.answer_handoff("t1", "ben", "Hello too.")
    db.retract("t1", "ann", "reply")
    assert [row["turn"] for row in db.handoffs("answered")] == ["t1"]
    db.retract("t1", "ben", "reply")
    assert [row["turn"] for row in db.handoffs()] == ["t1"]
    db.take("t1", "cy")
    db.answer_handoff("t1", "cy", "Hello.")
    db.retract("t1", "cy", "reply")
    assert [row["by"] for row in db.handoffs("taken")] == ["cy"]


# PostgreSQL


def test_postgresql_is_asked_for_words_by_its_index_and_for_the_rest_by_their_signs() -> None:
    def said(terms: list[str], dialect: Any) -> str:
        query = conversations.query_for(dialect.name, terms, None, 5)
        return str(query.compile(dialect=dialect, compile_kwargs={"literal_binds": True}))

    one = said(["loan", "包裹", "x'y"], postgresql.dialect())
    migration = (MIGRATIONS / "versions" / "0004_conversations.py").read_text(encoding="utf-8")
    assert "to_tsvector('simple'::regconfig, left(question || ' ' || reply, 100000))" in migration
    assert ("to_tsvector('simple'::regconfig, left(turns.question || ' ' || turns.reply, 100000)) @@ "
            "to_tsquery('simple'::regconfig, '''loan'':*')") in one
    assert "ILIKE '%%' || '包裹' || '%%'" in one and "'x''y'" in one and "ts_rank" in one
    assert "MATCH '\"loan\" \"x''y\"'" in said(["loan", "包裹", "x'y"], sqlite.dialect())


def test_postgresql_indexes_a_turn_that_is_longer_than_an_entry_may_be(postgres_db: Store) -> None:
    postgres_db.log(turn("long", redacted=" ".join(map(str, range(200_000)))), {})
    assert found(postgres_db, "12345") == ["long"]
