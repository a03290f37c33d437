"""Rows that wait together are written together, in their order, and none of them pays for another."""

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from agent import group
from agent.errors import StoreError
from agent.group import Group


class Slow:
    """A `write` whose first call lasts until `go`; `lists` is what it was handed, `bad` what it refuses."""

    def __init__(self, bad: dict[int, BaseException] | None = None) -> None:
        self.lists: list[list[int]] = []
        self.bad, self.began, self.go = bad or {}, threading.Event(), threading.Event()

    def __call__(self, rows: list[int]) -> None:
        self.lists.append(list(rows))
        if not self.began.is_set():
            self.began.set()
            assert self.go.wait(20)
        for row in rows:
            if row in self.bad:
                raise self.bad[row]


def together(write: Slow, rows: int) -> list[Future[None]]:
    """Hand in row 0, and while it is written the others, in their order; what became of each."""
    made: Group[int] = Group(write)
    with ThreadPoolExecutor(rows + 1) as pool:
        futures = [pool.submit(made.put, 0)]
        assert write.began.wait(20)
        for row in range(1, rows + 1):
            futures.append(pool.submit(made.put, row))
            while len(made._waiting) < row:
                pass
        write.go.set()
    return futures


def test_what_comes_while_another_is_written_is_written_at_once_and_in_its_order() -> None:
    write = Slow()
    assert [future.result() for future in together(write, 9)] == [None] * 10
    assert write.lists == [[0], list(range(1, 10))]


def test_a_row_that_comes_alone_is_written_alone_and_at_once() -> None:
    write = Slow()
    write.go.set()
    made: Group[int] = Group(write)
    made.put(1)
    made.put(2)
    assert write.lists == [[1], [2]]


def test_a_bad_row_costs_itself_alone_and_is_tried_once_more() -> None:
    write = Slow({3: StoreError("no")})
    futures = together(write, 4)
    assert [isinstance(future.exception(), StoreError) for future in futures] == [False, False, False, True, False]
    assert write.lists == [[0], [1, 2, 3, 4], [1], [2], [3], [4]]


def test_a_server_that_is_gone_is_not_asked_once_for_each_row() -> None:
    gone = StoreError("away")
    gone.again = True
    write = Slow({2: gone})
    futures = together(write, 4)
    assert [future.exception() for future in futures] == [None, gone, gone, gone, gone]
    assert write.lists == [[0], [1, 2, 3, 4]]


def test_more_than_a_transaction_holds_go_into_several(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "MOST", 3)
    write = Slow()
    together(write, 7)
    assert write.lists == [[0], [1, 2, 3], [4, 5, 6], [7]]


def test_one_who_is_interrupted_leaves_the_others_rows_to_them() -> None:
    """As by Ctrl-C, which ends whoever writes for all."""
    made: Group[int]
    interrupted = threading.Event()

    def write(rows: list[int]) -> None:
        if not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt
        written.extend(rows)

    written: list[int] = []
    made = Group(write)
    with pytest.raises(KeyboardInterrupt):
        made.put(1)
    made.put(2)
    assert written == [1, 2]
