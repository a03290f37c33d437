"""Each reason to retrain has a window of its own and says in words what it is."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace

from tuning.drift import Finding
from tuning.plan import Plan
from tuning.rows import Row
from tuning.runs import Run
from tuning.triggers import Due, due, new_rows

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
CHAMPION = SimpleNamespace(name="shop@0007", manifest={"made": "2026-05-01T00:00:00+00:00"})
LAST = Run("r1", "retrain shop", "cron", "refused", 1, "me", "", {"rows": 10}, "2026-05-02T03:00:00.000000+00:00",
           "2026-05-02T04:00:00.000000+00:00", "2026-05-02T04:00:00.000000+00:00")
ALARM = Finding("in_scope", 0.9, 0.5, 80, True, "questions out of scope became more: 90% were in scope before, 50% since")
CALM = replace(ALARM, name="confidence", alarm=False)


@dataclass
class Rows:
    router: list[Row] = field(default_factory=list)
    generator: list[Row] = field(default_factory=list)
    hash: str = "h"


def rows(old: int, new: int) -> Rows:
    """Rows of before and of after the champion; every second one is the generator's."""
    made = [Row("router", "up", f"q{number}", created=f"2026-0{4 if number < old else 5}-03T00:00:00+00:00")
            for number in range(old + new)]
    return Rows(made[::2], made[1::2])


def reasons(plan: Plan, **more) -> list[Due]:
    told = {"last": None, "left": None, "gather": Rows, "drifted": list} | more
    return list(due(plan, NOON, CHAMPION, **told))


def test_nothing_is_due_where_nothing_was_planned() -> None:
    plan = Plan("shop", cron="", rows=0, drift=False)
    assert reasons(plan, gather=lambda: rows(0, 99), drifted=lambda: [ALARM]) == []


def test_enough_new_rows_are_a_reason_and_one_less_is_none() -> None:
    plan = Plan("shop", cron="", rows=50, drift=False)
    assert reasons(plan, gather=lambda: rows(20, 49)) == []
    assert reasons(plan, gather=lambda: rows(20, 63)) == [Due("rows after shop@0007", "63 new reviewed rows, 50 are enough")]


def test_rows_that_the_last_run_saw_are_not_new_and_old_ones_reviewed_since_are() -> None:
    assert new_rows(rows(0, 13), CHAMPION, LAST) == 3
    assert new_rows(rows(14, 0), CHAMPION, LAST) == 4
    assert new_rows(rows(0, 8), CHAMPION, LAST) == 0


def test_a_run_of_before_the_champion_counts_for_nothing() -> None:
    newer = SimpleNamespace(name="shop@0008", manifest={"made": "2026-05-02T23:00:00+00:00"})
    assert new_rows(rows(5, 12), newer, LAST) == 12


def test_the_window_of_rows_moves_on_with_the_last_run() -> None:
    plan = Plan("shop", cron="", rows=3, drift=False)
    assert reasons(plan, gather=lambda: rows(0, 14), last=LAST) == [Due("rows after r1", "4 new reviewed rows, 3 are enough")]


def test_drift_is_a_reason_once_for_a_champion_in_the_words_of_what_drifted() -> None:
    plan = Plan("shop", cron="", rows=0)
    assert reasons(plan, drifted=lambda: [CALM, ALARM]) == [Due("drift of shop@0007", ALARM.words)]
    assert reasons(plan, drifted=lambda: [CALM]) == []


def test_reasons_come_in_order_and_the_dear_ones_only_if_somebody_wants_them() -> None:
    def dear() -> Rows:
        raise AssertionError("nobody wanted rows")

    left = replace(LAST, id="r2", window="drift of shop@0007", status="running", detail={"why": "it drifted"})
    told = due(Plan("shop"), NOON, CHAMPION, LAST, left, dear, list, asked="asked for by ann")
    assert [next(told) for _ in range(3)] == [
        Due("asked 2026-05-04 12:00:00", "asked for by ann"),
        Due("cron 2026-05-04 03:00 UTC", "it is due by the clock (0 3 * * *, UTC)", clock=True),
        Due("drift of shop@0007", "it drifted")]
