"""A run is done once a window, by one holder at a time; who slept past the lease changes nothing."""

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from agent import schema
from agent.errors import StoreError
from agent.store import Store
from tuning import runs
from tuning.runs import Heartbeat, Run, claim, fence, fenced, finish, last_end, latest, release, renew, stage, unfinished

ROOT = Path(__file__).parent.parent
LONG = 60.0


@pytest.fixture
def store(db: Store) -> Store:
    return db


def taken(store: Store, window: str = "w1", lease_s: float = LONG, holder: str = "ann", job: str = "retrain shop") -> Run:
    run = claim(store, job, window, holder, lease_s)
    assert run is not None
    return run


def slept(store: Store, window: str = "w1") -> Run:
    """A run whose lease ran out; the clock of the test does not matter."""
    run = taken(store, window)
    lapse(store)
    return run


def lapse(store: Store) -> None:
    """Let every lease have ended."""
    with store.writing() as at:
        at.execute(schema.runs.update().values(lease_until="2020-01-01T00:00:00.000000+00:00"))


def refused(store: Store, run: Run) -> None:
    with pytest.raises(StoreError, match="not ours any more"), store.writing() as at:
        fence(at, run)


def test_a_window_is_claimed_once_and_stays_done(store: Store) -> None:
    run = taken(store)
    assert (run.token, run.status, run.holder) == (1, "running", "ann")
    assert claim(store, "retrain shop", "w1", "bob") is None
    finish(store, run, "refused", {"words": "no better"})
    assert claim(store, "retrain shop", "w1", "bob") is None
    assert [(done.status, done.detail) for done in latest(store)] == [("refused", {"words": "no better"})]


def test_another_window_waits_for_the_job_and_another_job_does_not(store: Store) -> None:
    first = taken(store)
    assert claim(store, "retrain shop", "w2", "bob") is None
    taken(store, job="retrain bank")
    finish(store, first, "nothing")
    taken(store, "w2")


def test_a_run_whose_lease_ran_out_is_taken_over_with_its_stage_and_a_higher_token(store: Store) -> None:
    run = taken(store)
    stage(store, run, "train", {"rows": 7})
    lapse(store)
    over = taken(store, holder="bob")
    assert (over.id, over.token, over.holder, over.stage, over.detail) == (run.id, 2, "bob", "train", {"rows": 7})


def test_the_fence_lets_the_holder_pass_and_refuses_who_was_overtaken(store: Store) -> None:
    old = slept(store)
    new = taken(store, holder="bob")
    refused(store, old)
    with store.writing() as at:
        fence(at, new)


def test_the_fence_refuses_a_lease_that_ran_out_though_nobody_took_over(store: Store) -> None:
    run = slept(store)
    refused(store, run)
    assert renew(store, run) is False
    refused(store, run)  # what is lost is not renewed back


def test_what_an_overtaken_holder_says_changes_nothing(store: Store) -> None:
    old = slept(store)
    taken(store, holder="bob")
    before = latest(store)
    for speak in (lambda: finish(store, old, "promoted"), lambda: stage(store, old, "gate")):
        with pytest.raises(StoreError):
            speak()
    release(store, old)
    assert latest(store) == before


def test_a_finish_just_after_the_lease_counts_while_nobody_took_over(store: Store) -> None:
    finish(store, slept(store), "promoted")
    assert latest(store)[0].status == "promoted"


def test_a_change_behind_a_refused_fence_is_rolled_back(store: Store) -> None:
    old = slept(store)
    over = taken(store, holder="bob")
    with pytest.raises(StoreError, match="not ours any more"), store.writing() as at:
        at.execute(schema.runs.update().values(stage="stolen"))
        fence(at, old)
    assert latest(store)[0] == replace(over, lease_s=runs.LEASE_S)


def test_what_is_done_behind_the_fence_keeps_others_out_until_it_is_over(store: Store) -> None:
    """The order in which two holders get in is that of their transactions, whatever the clock says in between."""
    run, order = taken(store), []
    overtaking = threading.Thread(target=lambda: (claim(store, "retrain shop", "w1", "bob"), order.append("claimed")))
    with fenced(store, run):
        overtaking.start()
        time.sleep(0.2)
        order.append("promoted")
    overtaking.join()
    assert order == ["promoted", "claimed"]


def test_a_run_that_ends_while_another_claims_it_is_not_done_again(store: Store) -> None:
    """Its lease has run out, and its holder is just saying that it is done."""
    run, got = slept(store), []
    claiming = threading.Thread(target=lambda: got.append(claim(store, "retrain shop", "w1", "bob")))
    with store.writing() as at:
        at.execute(schema.runs.update().where(schema.runs.c.id == run.id).values(status="promoted"))
        claiming.start()
        time.sleep(0.2)
    claiming.join()
    assert got == [None] and [each.status for each in latest(store)] == ["promoted"]


def test_a_released_run_is_taken_over_at_once(store: Store) -> None:
    release(store, taken(store))
    assert taken(store, holder="bob").token == 2


def test_a_window_left_behind_ends_as_failed_when_a_newer_one_begins(store: Store) -> None:
    slept(store, "monday")
    taken(store, "tuesday")
    found = {run.window: run for run in latest(store)}
    assert (found["monday"].status, found["tuesday"].status) == ("failed", "running")
    assert found["monday"].detail["words"] == "left unfinished; tuesday took its place"


def test_a_run_left_behind_is_not_ended_by_a_window_that_is_done(store: Store) -> None:
    finish(store, taken(store, "monday"), "nothing")
    left = slept(store, "rows")
    assert claim(store, "retrain shop", "monday", "bob") is None
    found = unfinished(store, "retrain shop")
    assert found is not None and (found.id, found.held) == (left.id, False)


def test_a_run_in_which_every_process_dies_is_given_up(store: Store) -> None:
    for _ in range(runs.MOST_HOLDERS):
        stage(store, run := taken(store), "train")
        release(store, run)
    assert claim(store, "retrain shop", "w1", "eve") is None
    ended = last_end(store, "retrain shop")
    assert ended is not None and (ended.status, "died in it" in ended.detail["words"]) == ("failed", True)


def test_the_newest_end_is_found_behind_a_run_that_goes_on(store: Store) -> None:
    assert last_end(store, "retrain shop") is None
    finish(store, first := taken(store), "abstained")
    taken(store, "w2")
    ended = last_end(store, "retrain shop")
    assert ended is not None and (ended.id, ended.status) == (first.id, "abstained")


def test_a_heartbeat_keeps_a_run_far_past_its_lease(store: Store) -> None:
    run = taken(store, lease_s=1.5)
    with Heartbeat(store, run) as beat:
        time.sleep(2.5)
        assert claim(store, "retrain shop", "w1", "bob") is None
        with store.writing() as at:
            fence(at, run)
        assert not beat.lost


def test_a_heartbeat_notices_that_the_run_is_lost(store: Store) -> None:
    run = taken(store, lease_s=0.1)
    lapse(store)
    taken(store, holder="bob")
    with Heartbeat(store, run) as beat:
        for _ in range(200):
            if beat.lost:
                break
            time.sleep(0.02)
        assert beat.lost


HOLDER = """
import sys, time
from agent.errors import StoreError
from agent.store import Store
from tuning.runs import Heartbeat, claim, fence
store = Store(sys.argv[1]); store.open()
run = claim(store, "retrain shop", "w1", "ann", 1.5)  # the first beat comes 0.5 s later, so the stop falls into no transaction
with Heartbeat(store, run):
    print("held", flush=True)
    sys.stdin.readline()
    try:
        with store.writing() as at:
            fence(at, run)
        print("passed")
    except StoreError:
        print("refused")
store.close()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs SIGSTOP")
@pytest.mark.parametrize(("stopped", "said"), [(False, "passed"), (True, "refused")])
def test_a_process_that_was_stopped_past_its_lease_is_refused_when_it_goes_on(store: Store, stopped: bool, said: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(store.url)], cwd=ROOT, text=True, stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
    try:
        assert child.stdout and child.stdout.readline() == "held\n"
        if stopped:
            child.send_signal(signal.SIGSTOP)
        time.sleep(2.0)
        over = claim(store, "retrain shop", "w1", "bob", LONG)
        assert (over is not None) == stopped
        if stopped:
            child.send_signal(signal.SIGCONT)
        assert child.communicate("go\n", timeout=30)[0] == f"{said}\n"
    finally:
        child.kill()
        child.wait()
