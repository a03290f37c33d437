"""One session's turns wait for each other in the order in which they came; nobody else does."""

import asyncio
import gc
import threading

import pytest

from agent.line import Line


def test_one_session_is_answered_in_order_of_arrival_and_others_meanwhile():
    line, told = Line(), []

    async def turn(session: str, name: str, steps: int) -> None:
        async with line.place(session):
            told.append(f"{name} begins")
            for _ in range(steps):
                await asyncio.sleep(0)
            told.append(f"{name} ends")

    async def run() -> None:
        await asyncio.gather(turn("a", "first", 50), turn("a", "second", 20), turn("a", "third", 0), turn("b", "other", 0))

    asyncio.run(run())
    mine = [each for each in told if not each.startswith("other")]
    assert mine == [f"{name} {what}" for name in ("first", "second", "third") for what in ("begins", "ends")]
    assert told.index("other ends") < told.index("first ends")


def test_threads_with_event_loops_of_their_own_take_turns_too():
    line, inside, most, told = Line(), 0, 0, []

    async def talk(name: int) -> None:
        nonlocal inside, most
        for number in range(50):
            async with line.place("a"):
                inside += 1
                most = max(most, inside)
                await asyncio.sleep(0)
                told.append((name, number))
                inside -= 1

    threads = [threading.Thread(target=lambda name=name: asyncio.run(talk(name))) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(told) == 200 and most == 1
    assert all([number for name, number in told if name == each] == list(range(50)) for each in range(4))
    assert len(line) == 0


def test_one_who_gives_up_waiting_keeps_nobody_from_their_turn():
    line, told = Line(), []

    async def turn(name: str, until: asyncio.Event | None = None) -> None:
        async with line.place("a"):
            if until:
                await until.wait()
            told.append(name)

    async def run() -> None:
        go = asyncio.Event()
        first, second, third = (asyncio.create_task(turn(name, go if name == "first" else None))
                                for name in ("first", "second", "third"))
        await asyncio.sleep(0)
        second.cancel()
        await asyncio.gather(second, return_exceptions=True)
        assert told == [] and not third.done()  # it did not overtake the first
        go.set()
        await asyncio.gather(first, third)

    asyncio.run(run())
    assert told == ["first", "third"] and len(line) == 0


def test_a_turn_that_fails_lets_the_next_one_begin():
    line = Line()

    async def run() -> None:
        with pytest.raises(ValueError):
            async with line.place("a"):
                raise ValueError
        async with line.place("a"):
            pass

    asyncio.run(run())
    assert len(line) == 0


def test_an_event_loop_that_was_closed_in_mid_turn_blocks_nobody():
    line = Line()
    lost = asyncio.new_event_loop()

    async def stay() -> None:
        async with line.place("a"):
            await asyncio.get_running_loop().create_future()

    waiting = lost.create_task(stay())
    lost.run_until_complete(asyncio.sleep(0.01))
    lost.close()

    async def turn() -> str:
        async with asyncio.timeout(10), line.place("a"):
            return "answered"

    assert asyncio.run(turn()) == "answered" and len(line) == 0
    waiting._log_destroy_pending = False  # which is what is tested
    del waiting
    gc.collect()
