"""Feedback as files: what goes out comes back the same, and what is bad is named by line while nothing is lost."""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from agent.domain import Domain
from agent.errors import DataError
from agent.schema import forgotten
from agent.teaching import forgotten_key
from agent.types import Turn
from tuning.exchange import COLUMNS, export_feedback, import_feedback, taught

DOMAIN = Domain.load("finance")


@pytest.fixture
def store(db):
    """Turns t1 to t3 of finance, t3 handed off, and m1 of medical."""
    made = Turn("t1", "s1", "finance", "finance@0001", "q", "What is an ETF? — 你好\u2028", reply="A fund.", intent="rates")
    for id in ("t1", "t2", "t3"):
        db.log(replace(made, id=id), {}, handoff="asked" if id == "t3" else None)
    db.log(replace(made, id="m1", session="s2", domain="medical"), {})
    return db


def written(tmp_path, *rows, name="said.jsonl"):
    file = tmp_path / name
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return file


def row(turn="t1", kind="up", author="ann", **more):
    return {"turn": turn, "kind": kind, "author": author} | more


def all_of(store):
    return [(each["turn"], each["author"], each["kind"], each["value"], each["created"]) for each in taught(store, "finance")]


def reasons(report):
    return {bad.line: bad.reason for bad in report.bad}


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_what_goes_out_comes_back_the_same_and_again_changes_nothing(store, tmp_path, ending):
    store.feedback("t1", "ann", "down")
    store.feedback("t1", "ann", "correction", "It is a fund — 你好\u2028\nof shares.")
    store.feedback("t2", "ben", "intent", "loan_payment")
    store.feedback("t3", "ann", "reply", "Here is a person.")
    store.feedback("m1", "ann", "up")
    before, file = all_of(store), tmp_path / "new" / f"out.{ending}"
    assert export_feedback(store, DOMAIN, file) == len(before) == 4
    with store.writing() as at:
        at.exec_driver_sql("DELETE FROM feedback")
    assert import_feedback(store, DOMAIN, file, tmp_path).done == {"written": 4, "unchanged": 0, "older": 0}
    assert all_of(store) == before
    assert import_feedback(store, DOMAIN, file, tmp_path).done == {"written": 0, "unchanged": 4, "older": 0}
    assert all_of(store) == before


def test_an_exported_row_carries_its_turn(store, tmp_path):
    store.feedback("t1", "ann", "up")
    export_feedback(store, DOMAIN, tmp_path / "out.jsonl")
    (said,) = map(json.loads, (tmp_path / "out.jsonl").read_text(encoding="utf-8").rstrip("\n").split("\n"))
    assert list(said) == list(COLUMNS) and said["created"]
    assert said | {"created": ""} == {
        "turn": "t1", "session": "s1", "domain": "finance", "question": "What is an ETF? — 你好\u2028", "reply": "A fund.",
        "bundle": "finance@0001", "intent": "rates", "kind": "up", "value": None, "author": "ann", "created": ""}


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_nothing_to_export_is_an_empty_file_that_can_be_read(store, tmp_path, ending):
    file = tmp_path / f"out.{ending}"
    assert export_feedback(store, DOMAIN, file) == 0 and import_feedback(store, DOMAIN, file, tmp_path).good == 0


BAD = [
    ("{half", "not valid JSON"), ("[1]", "no object"), ("null", "no object"), ('"up"', "no object"),
    ("[" * 100_000, "cannot be read as JSON"), (row(turn=None), "no 'turn'"), ({"turn": "t1", "kind": "up"}, "no 'author'"),
    ({"turn": "t1", "author": "ann"}, "no 'kind'"), (row(turn=7), "must be a text"), (row(turn=["t1"]), "must be a text"),
    (row(author={"name": "ann"}), "must be a text"), (row(kind="correction", value=7), "must be a text"),
    (row(turn="gone"), "no turn 'gone'"), (row(turn="m1"), "belongs to the domain 'medical'"),
    (row(turn="t1\ud83d"), "no turn"), (row(kind="like"), "use one of up"),
    (row(kind="intent", value="loans"), "There is no intent 'loans'; the domain knows .*loan_payment"),
    (row(kind="correction"), "needs its text"), (row(kind="correction", value=" "), "needs its text"),
    (row(value="good"), "takes no text"), (row(kind="reply", value="Hello"), "not handed off"),
    (row(created="yesterday"), "write it as 2026-"), (row(created=5), "must be a text"),
]


@pytest.mark.parametrize("wrong, said", BAD, ids=[said for _, said in BAD])
def test_a_bad_line_is_named_with_its_reason_and_nothing_is_written(store, tmp_path, wrong, said):
    report = import_feedback(store, DOMAIN, written(tmp_path, row("t2"), "", wrong), tmp_path)
    assert report.refused and report.good == 1 and list(reasons(report)) == [3]
    assert re.search(said, reasons(report)[3])
    assert all_of(store) == []


def test_signs_that_are_no_utf8_spoil_their_own_line_alone(store, tmp_path):
    file = tmp_path / "said.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(row()).encode() + b"\r\n\xff\xfe\r\n" + json.dumps(row("t2")).encode())
    report = import_feedback(store, DOMAIN, file, tmp_path)
    assert report.good == 2 and "not UTF-8" in reasons(report)[2]


def test_good_rows_are_kept_aside_and_can_be_imported_either_way(store, tmp_path):
    file = written(tmp_path, row(), "nonsense", row("t2", "correction", value="Mail ben.lee@example.org."))
    report = import_feedback(store, DOMAIN, file, tmp_path / "aside")
    assert report.kept_aside.parent == tmp_path / "aside" and "ben.lee" not in report.kept_aside.read_text(encoding="utf-8")
    again = import_feedback(store, DOMAIN, file, tmp_path / "aside")
    assert again.kept_aside == report.kept_aside and len(list((tmp_path / "aside").iterdir())) == 1
    assert import_feedback(store, DOMAIN, report.kept_aside, tmp_path).done["written"] == 2
    good = import_feedback(store, DOMAIN, file, tmp_path, good=True)
    assert not good.refused and good.done == {"written": 0, "unchanged": 2, "older": 0} and list(reasons(good)) == [2]
    assert [each[:4] for each in all_of(store)] == [("t1", "ann", "up", None), ("t2", "ann", "correction", "Mail [EMAIL_1].")]


def test_odd_signs_are_kept_or_replaced_and_never_stop_an_import(store, tmp_path):
    file = written(tmp_path, row(author="a\ud83dn\0n 👋", kind="comment", value="\ude00'); DROP TABLE turns; --"), "x")
    aside = import_feedback(store, DOMAIN, file, tmp_path).kept_aside
    assert import_feedback(store, DOMAIN, aside, tmp_path).done["written"] == 1
    assert import_feedback(store, DOMAIN, file, tmp_path, good=True).done["unchanged"] == 1
    assert all_of(store)[0][1:4] == ("a\ufffdn\ufffdn 👋", "comment", "\ufffd'); DROP TABLE turns; --")


def test_with_no_good_row_nothing_is_kept_aside(store, tmp_path):
    report = import_feedback(store, DOMAIN, written(tmp_path, "nonsense"), tmp_path / "aside")
    assert report.refused and report.kept_aside is None and not (tmp_path / "aside").exists()


def test_who_contradicts_himself_in_one_file_is_told_both_lines_and_neither_is_taken(store, tmp_path):
    file = written(tmp_path, row(), row(kind="down"), row(kind="intent", value="loan_payment"),
                   row(kind="intent", value="credit_score"), row("t2", "intent", value="loan_payment"),
                   row("t2", "none_of_these"), row(author="ben", kind="down"), row("t3"), row("t3"), row("t2", "up"))
    report = import_feedback(store, DOMAIN, file, tmp_path)
    assert list(reasons(report)) == [1, 2, 3, 4, 5, 6] and report.good == 4
    assert reasons(report)[1].startswith("'ann' says up here and down in line 2")
    assert reasons(report)[6].startswith("'ann' says none_of_these here and intent loan_payment in line 5")
    assert import_feedback(store, DOMAIN, file, tmp_path, good=True).done == {"written": 3, "unchanged": 1, "older": 0}


def test_two_corrections_of_one_author_are_no_contradiction_and_the_later_stays(store, tmp_path):
    file = written(tmp_path, row(kind="correction", value="new", created="2026-02-01T00:00:00Z"),
                   row(kind="correction", value="old", created="2026-01-01T00:00:00+00:00"))
    for written_now in (1, 0):
        assert import_feedback(store, DOMAIN, file, tmp_path).done["written"] == written_now
        assert [each[3:] for each in all_of(store)] == [("new", "2026-02-01T00:00:00.000000+00:00")]


def test_an_old_file_does_not_take_back_what_was_said_since(store, tmp_path):
    store.feedback("t1", "ann", "down")
    report = import_feedback(store, DOMAIN, written(tmp_path, row(created="2020-01-01T00:00:00+00:00")), tmp_path)
    assert report.done == {"written": 0, "unchanged": 0, "older": 1} and all_of(store)[0][2] == "down"


def test_a_time_that_has_not_come_yet_is_now(store, tmp_path):
    import_feedback(store, DOMAIN, written(tmp_path, row(created="2999-01-01")), tmp_path)
    assert all_of(store)[0][4] < "2900"


def test_who_asked_to_be_forgotten_does_not_come_back(store, tmp_path):
    with store.writing() as at:
        at.execute(forgotten.insert().values(key=forgotten_key("ann"), created="2026-01-01T00:00:00.000000+00:00"))
    file = written(tmp_path, row(), row("t2"), row(author="ben"))
    report = import_feedback(store, DOMAIN, file, tmp_path)
    assert (report.good, report.forgotten, report.done["written"]) == (1, 2, 1)
    assert [each[1] for each in all_of(store)] == ["ben"]
    file = written(tmp_path, row(), row(author="eve"), "x", name="b.jsonl")
    aside = import_feedback(store, DOMAIN, file, tmp_path).kept_aside
    assert "eve" in aside.read_text(encoding="utf-8") and "ann" not in aside.read_text(encoding="utf-8")


def test_a_table_of_another_program_is_read_with_its_own_times(store, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    times = pa.array([datetime(2026, 1, 2, tzinfo=UTC), None], pa.timestamp("us", "UTC"))
    table = pa.table({"turn": ["t1", "t2"], "kind": ["up", "comment"], "author": ["ann", "ann"], "value": [None, "fine"],
                      "created": times, "other": [1, 2]})
    (tmp_path / "kind=down").mkdir()
    pq.write_table(table, tmp_path / "kind=down" / "said.parquet")
    assert import_feedback(store, DOMAIN, tmp_path / "kind=down" / "said.parquet", tmp_path).done["written"] == 2
    assert [each[:4] for each in all_of(store)] == [("t1", "ann", "up", None), ("t2", "ann", "comment", "fine")]
    assert all_of(store)[0][4] == "2026-01-02T00:00:00.000000+00:00"


@pytest.mark.parametrize("name, said", [
    ("no.jsonl", "is missing"), ("bad.parquet", "as Parquet"), ("bad.csv", "ends in '.csv'"), ("bad", "ends in 'nothing'")])
def test_a_file_that_cannot_be_read_is_a_sentence(store, tmp_path, name, said):
    for bad in ("bad.parquet", "bad.csv", "bad"):
        (tmp_path / bad).write_bytes(b"turn,kind\n")
    with pytest.raises(DataError, match=said):
        import_feedback(store, DOMAIN, tmp_path / name, tmp_path)


def test_an_export_to_an_impossible_place_is_a_sentence_and_leaves_the_earlier_one(store, tmp_path):
    with pytest.raises(DataError, match="ends in '.txt'"):
        export_feedback(store, DOMAIN, tmp_path / "out.txt")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be written"):
        export_feedback(store, DOMAIN, tmp_path / "file" / "out.jsonl")
    assert (tmp_path / "file").read_text(encoding="utf-8") == "x"


def test_the_newest_are_listed_oldest_first(store):
    for id in ("t1", "t2", "t3"):
        store.feedback(id, "ann", "up")
    assert [each["turn"] for each in taught(store, "finance", 2)] == ["t2", "t3"]
