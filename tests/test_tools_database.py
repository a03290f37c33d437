"""The tools' database: seeded once and whole, a change done once for its key."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from langchain_core.tools import ToolException
from sqlalchemy import func, select

from tools import database
from tools.orders import cancel_order, order_status
from tools.tickets import open_ticket

ROOT = Path(__file__).parent.parent
DATA = ROOT / "domains" / "customer_service" / "data"


def config(state, key="k1"):
    now = datetime(2026, 11, 20, 14, 5, tzinfo=UTC)
    return {"configurable": {"data": DATA, "state": state, "key": key, "now": now}}


def count(state, table):
    with database.transaction(config(state)) as at:
        return at.execute(select(func.count()).select_from(table)).scalar()


def test_the_database_is_seeded_from_the_csvs_at_first_use(tmp_path):
    order_status.invoke({"order": "LK-10482"}, config(tmp_path / "new" / "state"))
    assert count(tmp_path / "new" / "state", database.orders) == 80
    assert (tmp_path / "new" / "state" / "customer_service.db").exists()


def test_the_journal_is_truncated_and_every_commit_reaches_the_disk(tmp_path):
    with database.transaction(config(tmp_path)) as at:
        assert at.exec_driver_sql("PRAGMA journal_mode").scalar() == "truncate"
        assert at.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_a_database_in_wal_mode_from_before_is_taken_over_with_what_its_wal_holds(tmp_path):
    open_ticket.invoke({"summary": "the courier was rude"}, config(tmp_path))
    held = tmp_path / "customer_service.db"
    older = ("import os, sqlite3, sys; at = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
             "at.execute('PRAGMA journal_mode=WAL'); at.execute(\"UPDATE tickets SET status = 'older'\"); os._exit(0)")
    subprocess.run([sys.executable, "-c", older, held], check=True)
    assert held.with_name("customer_service.db-wal").stat().st_size
    with database.transaction(config(tmp_path)) as at:
        assert set(at.execute(select(database.tickets.c.status)).scalars()) == {"older"}
    assert not held.with_name("customer_service.db-wal").exists()


def test_the_same_key_changes_once_and_answers_the_same(tmp_path):
    first = open_ticket.invoke({"summary": "the courier was rude"}, config(tmp_path))
    again = open_ticket.invoke({"summary": "the courier was rude"}, config(tmp_path))
    other = open_ticket.invoke({"summary": "the courier was rude"}, config(tmp_path, "k2"))
    assert first == again
    assert first["data"]["ticket"] == "TK-5009" and other["data"]["ticket"] == "TK-5010"
    assert count(tmp_path, database.tickets) == 10


def test_a_repeated_cancellation_is_no_error_but_a_new_one_is(tmp_path):
    done = cancel_order.invoke({"order": "LK-10555"}, config(tmp_path))
    assert cancel_order.invoke({"order": "LK-10555"}, config(tmp_path)) == done
    with pytest.raises(ToolException, match="cancelled already"):
        cancel_order.invoke({"order": "LK-10555"}, config(tmp_path, "k2"))


def test_one_key_may_serve_two_tools(tmp_path):
    open_ticket.invoke({"summary": "too late"}, config(tmp_path))
    assert cancel_order.invoke({"order": "LK-10555"}, config(tmp_path))["data"]["refund"] > 0


def test_a_refused_change_leaves_nothing_behind(tmp_path):
    with pytest.raises(ToolException):
        cancel_order.invoke({"order": "LK-10482"}, config(tmp_path))
    assert count(tmp_path, database.changes) == 0


def test_a_change_without_a_key_is_a_programmers_error(tmp_path):
    with pytest.raises(AssertionError, match="key"):
        open_ticket.invoke({"summary": "too late"}, config(tmp_path, key=""))


def test_what_a_killed_seeding_left_is_swept_away(tmp_path):
    (tmp_path / "customer_service.new").write_text("half a database")
    assert count(tmp_path, database.orders) == 80


def test_threads_with_one_key_make_one_change(tmp_path):
    def ask(_):
        return open_ticket.invoke({"summary": "too late"}, config(tmp_path))["data"]["ticket"]

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(ask, range(24)))) == 1
    assert count(tmp_path, database.tickets) == 9


def test_processes_that_seed_at_once_agree_and_lose_no_change(tmp_path):
    script = (
        "import sys, json; from pathlib import Path; from tools.tickets import open_ticket\n"
        "data, state, who = sys.argv[1:]\n"
        "for n in range(10):\n"
        "    said = {'data': Path(data), 'state': Path(state), 'key': f'{who}-{n}'}\n"
        "    said = open_ticket.invoke({'summary': 'too late'}, {'configurable': said})\n"
        "    print(json.dumps(said['data']['ticket']))\n"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(DATA), str(tmp_path), str(who)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for who in range(3)
    ]
    lines = [line for each in running for line in each.communicate(timeout=120)[0].splitlines()]
    assert [each.returncode for each in running] == [0, 0, 0]
    assert sorted(map(json.loads, lines)) == [f"TK-{n}" for n in range(5009, 5039)]
    assert count(tmp_path, database.tickets) == 38
    assert count(tmp_path, database.orders) == 80
