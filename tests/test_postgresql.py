"""Many agents on one PostgreSQL lose no turn, wait for nobody for ever, and survive its restarts; what fails is a sentence."""

import asyncio
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from postgres import PASSWORD, Server

from agent.errors import StoreError
from agent.schema import sessions, turns
from agent.settings import Settings
from agent.signals import Signal
from agent.store import Store
from agent.surfaces import doctor
from agent.types import Turn

ROOT = Path(__file__).parent.parent


def turn(id: str = "t1", session: str = "s1", **changes: Any) -> Turn:
    made = Turn(id, session, "finance", "finance@0001", "", "What would a loan cost me?", reply="That depends on the rate.")
    return replace(made, **({"state": "answered"} | changes))


def at_once(*jobs: Callable[[], None]) -> None:
    """Begin all together; raises what any raised."""
    ready = threading.Barrier(len(jobs))

    def run(job: Callable[[], None]) -> None:
        ready.wait(20)
        job()

    with ThreadPoolExecutor(len(jobs)) as pool:
        for done in [pool.submit(run, job) for job in jobs]:
            done.result(60)


# Many at once

AGENT = """
import os, sys, threading
from agent.signals import Signal
from agent.store import Store
from agent.types import Turn
url, name, threads, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = Store(url)
store.open()

def talk(thread):
    before = None
    for number in range(count):
        id, session = f"{name}-{thread}-{number}", f"s{(thread + number) % 3}" if number % 2 else f"{name}-{thread}"
        store.before(session, "finance", name)
        store.log(Turn(id, session, "finance", "b", "q", id, state="answered", reply="r"), {"last": id}, [],
                  "asked" if number % 5 == 0 else None, None, [Signal(before, "reask", "")] if before else [], name)
        store.feedback(id, name, "up")
        if before and number % 5 == 1:
            store.hand_off(before, name, "more")
        before = id
        os.write(1, f"{id}\\n".encode())  # whole: the words of two threads that print run into each other

running = [threading.Thread(target=talk, args=(thread,)) for thread in range(threads)]
for each in running: each.start()
for each in running: each.join()
store.close()
"""


def begun(url: str, name: str, threads: int = 2, count: int = 15) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", AGENT, url, name, str(threads), str(count)], cwd=ROOT, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_many_processes_that_talk_to_the_same_and_to_other_sessions_lose_nothing_and_keep_order(server: Server) -> None:
    url = server.empty()
    running = [begun(url, name) for name in "abc"]
    told = [run.communicate(timeout=150) for run in running]
    assert [(run.returncode, errors) for run, (_, errors) in zip(running, told)] == [(0, "")] * 3
    said = [line.split() for out, _ in told for line in out.splitlines()]
    with closing(Store(url)) as db:
        db.open()
        with db.reading() as at:
            rows = at.execute(sa.select(turns.c.session, turns.c.seq, turns.c.id).order_by(turns.c.session, turns.c.seq)).all()
            counts = dict(at.execute(sa.select(sessions.c.id, sessions.c.turns)).all())
            states = dict(at.execute(sa.select(sessions.c.id, sessions.c.state)).all())
        assert sorted(row.id for row in rows) == sorted(id for (id,) in said) and len(rows) == 3 * 2 * 15
        for session, count in counts.items():
            own = [row for row in rows if row.session == session]
            assert [row.seq for row in own] == list(range(1, count + 1)) and states[session] == {"last": own[-1].id}
            for name in {row.id.rpartition("-")[0] for row in own}:  # one thread's turns, as it said them
                numbers = [int(row.id.rpartition("-")[2]) for row in own if row.id.startswith(f"{name}-")]
                assert numbers == sorted(numbers)
        assert db.check() == []
    assert "deadlock detected" not in server.log()


def test_turns_of_several_threads_share_a_transaction(postgres_db: Store) -> None:
    def log(number: int) -> None:
        postgres_db.log(turn(f"t{number}", f"s{number % 4}"), {})

    with postgres_db.writing() as at:  # the first waits for this row, and the others for the first
        at.execute(sessions.insert().values(id="s0", domain="finance", author="", state={}, turns=0, title="", archived=False,
                                            created="c", updated="u"))
        with ThreadPoolExecutor(12) as pool:
            first = pool.submit(log, 0)
            while not postgres_db._logging._writing.locked():
                pass
            rest = [pool.submit(log, number) for number in range(1, 12)]
            while len(postgres_db._logging._waiting) < 11:
                assert not first.done()
            at.execute(sa.text("COMMIT"))
            for each in (first, *rest):
                each.result(30)
    with postgres_db.reading() as at:
        shared = at.execute(sa.text("SELECT count(*), count(DISTINCT xmin::text) FROM turns")).one()
    assert tuple(shared) == (12, 2)


def test_a_turn_that_cannot_be_written_costs_no_other(postgres_db: Store) -> None:
    postgres_db.session("theirs", "medical")

    def log(number: int) -> None:
        postgres_db.log(turn(f"t{number}", "theirs" if number == 5 else f"s{number}"), {})

    with ThreadPoolExecutor(12) as pool:
        done = [pool.submit(log, number) for number in range(12)]
    assert [number for number, each in enumerate(done) if each.exception()] == [5]
    assert "belongs to the domain 'medical'" in str(done[5].exception())
    assert len(postgres_db.sessions(limit=99)) == 12 and postgres_db.turn("t5") is None


def test_who_writes_turns_feedback_and_hand_offs_and_who_is_forgotten_do_not_hold_each_other_for_ever(
        postgres_db: Store, server: Server) -> None:
    for number in range(8):
        postgres_db.log(turn(f"t{number}", f"s{number % 2}"), {}, author=f"a{number % 2}")

    def log() -> None:
        for number in range(16):
            postgres_db.log(turn(f"new{number}", f"s{number % 2}"), {}, signals=[Signal(f"t{number % 8}", "reask", "")])

    def wish() -> None:
        for number in range(16):
            postgres_db.hand_off(f"t{number % 8}", "cy", "x")
            postgres_db.retract(f"t{number % 8}", "cy", "handoff")

    def rate(order: int) -> None:
        drawn = random.Random(order)
        for _ in range(10):
            words = [(f"t{number}", drawn.choice(("up", "down"))) for number in drawn.sample(range(8), 8)]
            postgres_db.feedback_all({"turn": id, "author": f"r{order}", "kind": kind, "value": None} for id, kind in words)

    before = server.log().count("deadlock detected")
    at_once(log, wish, lambda: rate(1), lambda: rate(2))
    assert server.log().count("deadlock detected") == before


def test_of_two_last_replies_that_are_taken_back_at_once_the_hand_off_waits_again(postgres_db: Store) -> None:
    for number in range(8):
        id = f"t{number}"
        postgres_db.log(turn(id), {}, handoff="asked")
        for name in ("ann", "ben"):
            postgres_db.answer_handoff(id, name, "Hello.")
        at_once(*(partial(postgres_db.retract, id, name, "reply") for name in ("ann", "ben")))
        assert id in {row["turn"] for row in postgres_db.handoffs()}


def test_reading_is_one_view_whatever_others_write_meanwhile(postgres_db: Store) -> None:
    postgres_db.log(turn(), {})
    count = sa.select(sa.func.count()).select_from(turns)
    with postgres_db.reading() as at:
        assert at.execute(count).scalar() == 1
        postgres_db.log(turn("t2"), {})
        assert at.execute(count).scalar() == 1
        with pytest.raises(sa.exc.DBAPIError, match="read-only"):
            at.execute(sessions.delete())
    with postgres_db.reading() as at:
        assert at.execute(count).scalar() == 2


# The server goes


def test_after_a_restart_the_next_turn_is_as_if_nothing_had_been(server: Server, postgres_db: Store) -> None:
    postgres_db.log(turn(), {"n": 1})
    for how in (signal.SIGINT, signal.SIGQUIT):
        server.stop(how)
        server.start()
        assert postgres_db.before("s1", "finance").session["state"] == {"n": 1}
        server.stop(how)
        server.start()
        postgres_db.log(turn(f"after-{how.name}"), {"n": 1})
    assert [row["id"] for row in postgres_db.conversation("s1")] == ["t1", "after-SIGINT", "after-SIGQUIT"]


def test_while_no_server_answers_a_sentence_says_so_and_then_all_goes_on(server: Server, postgres_db: Store) -> None:
    postgres_db.log(turn(), {})
    server.stop()
    try:
        for job in (lambda: postgres_db.log(turn("t2"), {}), lambda: postgres_db.before("s1", "finance"),
                    lambda: postgres_db.feedback("t1", "ann", "up")):
            with pytest.raises(StoreError, match=r"cannot be reached \(.+\); check that its server runs") as caught:
                job()
            assert caught.value.again
        assert "cannot be reached" in postgres_db.check()[0]
    finally:
        server.start()
    postgres_db.log(turn("t2"), {})
    assert [row["id"] for row in postgres_db.conversation("s1")] == ["t1", "t2"]


def test_a_server_that_crashes_under_load_loses_no_turn_that_was_told(server: Server) -> None:
    url = server.empty()
    running = begun(url, "a", 2, 100_000)
    assert running.stdout
    told = [running.stdout.readline().strip() for _ in range(40)]
    server.stop(signal.SIGQUIT)
    server.start()
    rest, _ = running.communicate(timeout=60) if running.poll() is not None else (_some(running), None)
    told += rest.split()
    with closing(Store(url)) as db:
        db.open()
        assert len(told) >= 40 and [id for id in told if not db.turn(id)] == []
        with db.reading() as at:
            found = at.execute(sa.select(turns.c.session, sa.func.count(), sa.func.max(turns.c.seq)).group_by(turns.c.session))
            assert all(count == last for _, count, last in found)


def _some(running: "subprocess.Popen[str]") -> str:
    """What it says for a moment more; then it is ended."""
    time.sleep(1)
    running.kill()
    return running.communicate(timeout=60)[0]


def test_a_connection_that_is_cut_amid_a_turn_costs_nothing(server: Server, postgres_db: Store) -> None:
    """The turn waits for a row; its connection is ended; it comes back and is written, once."""
    postgres_db.log(turn(), {})
    cut = ("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
           f" AND datname = '{postgres_db.url.database}'")
    with ThreadPoolExecutor(1) as pool:
        with postgres_db.writing() as at:
            at.execute(sa.select(sessions).where(sessions.c.id == "s1").with_for_update())
            logging = pool.submit(postgres_db.log, turn("t2"), {})
            while server.say(cut) != [True]:
                assert not logging.done()
        logging.result(30)
    assert [row["id"] for row in postgres_db.conversation("s1")] == ["t1", "t2"]


# What fails says how


def test_a_row_that_somebody_holds_is_a_sentence_in_the_end(postgres_db: Store) -> None:
    postgres_db.log(turn(), {})
    with postgres_db.writing() as at:
        at.execute(sa.select(sessions).where(sessions.c.id == "s1").with_for_update())
        with pytest.raises(StoreError, match="is held by another program; wait for it"), postgres_db.writing() as other:
            assert other.exec_driver_sql("SHOW lock_timeout").scalar() == "30s"
            other.exec_driver_sql("SET LOCAL lock_timeout = '20ms'")
            other.execute(sessions.update().values(title="x"))


def test_a_role_that_may_only_read_is_told_what_it_lacks(server: Server, postgres_db: Store) -> None:
    name = postgres_db.url.database
    server.say("DROP ROLE IF EXISTS reader", "CREATE ROLE reader LOGIN")
    server.say("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", database=name)
    with closing(Store(server.url(name).replace("retune@", "reader@"))) as reader:
        assert "may not read and write all of Retune's tables; grant it" in reader.check()[0]
        reader.open()
        assert reader.sessions() == []
        with pytest.raises(StoreError, match=r"may not do that in .+permission denied for table sessions.+grant it"):
            reader.log(turn(), {})
    server.say("DROP OWNED BY reader", "DROP ROLE reader", f"ALTER DATABASE {name} SET default_transaction_read_only = on",
               database=name)
    with closing(Store(server.url(name))) as standby:
        assert "takes no changes, as a standby does; name the primary" in standby.check()[0]
    server.say(f"ALTER DATABASE {name} RESET default_transaction_read_only")


def test_a_password_may_hold_any_sign_and_a_wrong_one_is_told_without_it(server: Server) -> None:
    with closing(Store(server.tcp())) as right:
        assert right.check() == [f"{right.name} has none of Retune's tables yet; Retune makes them at its first start."]
        assert PASSWORD not in right.name
    with pytest.raises(StoreError, match="password authentication failed") as caught:
        Store(server.tcp(password="hunter2")).open()
    assert "hunter2" not in str(caught.value)
    with pytest.raises(StoreError, match='database "gone" does not exist.+setting `database`'):
        Store(server.url("gone")).open()


def test_a_server_that_is_not_there_is_a_sentence_without_the_password() -> None:
    with pytest.raises(StoreError) as caught:
        Store("postgresql+psycopg://ann:hunter2@127.0.0.1:9/retune").open()
    assert "127.0.0.1" in str(caught.value) and "hunter2" not in str(caught.value)


@pytest.mark.parametrize("driver", ["psycopg2", "asyncpg", "pg8000"])
def test_another_driver_is_refused_with_the_one_that_works(driver: str) -> None:
    with pytest.raises(StoreError, match=r"postgresql\+psycopg://"):
        Store(f"postgresql+{driver}://ann@127.0.0.1/retune")


def test_no_sentence_and_no_cause_quotes_the_row(postgres_db: Store) -> None:
    with pytest.raises(StoreError) as caught:
        postgres_db.log(turn(redacted="my secret", state=None), {})
    assert "null value in column" in str(caught.value)
    assert "secret" not in str(caught.value) and caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_backup_is_left_to_the_tool_that_is_made_for_it(postgres_db: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="pg_dump"):
        postgres_db.backup(tmp_path / "copy.db")


# The doctor


def found(url: str, home: Path) -> list[tuple[str, bool, str]]:
    return [(each.what, each.ok, each.detail) for each in doctor._database(Settings.load(home=home, database=url))]


def test_the_doctor_says_version_and_what_would_lose_turns(server: Server, postgres_db: Store, home: Path) -> None:
    database, durability = found(server.url(postgres_db.url.database), home)
    assert database[:2] == ("database", True) and database[2].startswith("PostgreSQL 1") and database[2].endswith("is sound")
    assert durability[:2] == ("durability", False) and "fsync = off" in durability[2]


def test_the_doctor_tells_an_empty_database_from_an_old_one_and_from_none(server: Server, home: Path) -> None:
    new = server.create()
    assert found(server.url(new), home)[0][1:] == (True, found(server.url(new), home)[0][2])
    assert "tables are made at the first start" in found(server.url(new), home)[0][2]
    with closing(Store(server.url(new))) as made:
        made.open()
    server.say("UPDATE retune_version SET version_num = '0002'", database=new)
    assert not found(server.url(new), home)[0][1] and "older schema" in found(server.url(new), home)[0][2]
    (gone,) = found("postgresql+psycopg://ann@127.0.0.1:9/retune", home)
    assert not gone[1] and "cannot be reached" in gone[2]
    (wrong,) = found("mysql://x", home)
    assert not wrong[1] and "sqlite:///" in wrong[2]


# An agent on it


def test_an_agent_answers_from_postgresql(server: Server, settings: Settings) -> None:
    from agent.agent import Agent
    from agent.generators.scripted import ScriptedGenerator

    url = server.empty()
    agent = Agent.load("customer_service", generator=ScriptedGenerator("You have 30 days."), home=settings.home, database=url)
    with closing(agent):
        first = agent.ask_sync("How long do I have to return an item?", "s1", "ann")
        server.stop()
        server.start()
        second = asyncio.run(agent.ask("And how much does that cost?", "s1", "ann"))
        assert [row["id"] for row in agent.store.conversation("s1")] == [first.turn.id, second.turn.id]
        assert agent.store.session("s1", "customer_service")["author"] == "ann"
