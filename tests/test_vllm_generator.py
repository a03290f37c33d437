"""The generator on servers that fail, over sockets: who answers instead, what is never said twice, and what is left over."""

import asyncio
import gc
import shutil
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from faults import answers
from faults.server import CHAT, LOAD, MODELS, SCORE, WORDS, Answer, FaultServer, lost
from served import ASKED, PATIENT, SAID, adapter, generating, said, say, until

from agent.errors import Busy, EngineError, Garbled, Rejected, TooSlow, Unreachable
from agent.generators.vllm import VllmGenerator
from agent.types import Made
from agent.vllm.adapters import Adapter
from agent.vllm.breaker import FAILURES, Breaker
from agent.vllm.fleet import Fleet
from agent.vllm.wire import Limits, Server


@pytest.fixture
def made(tmp_path: Path) -> Adapter:
    """An adapter that servers can load."""
    return adapter(tmp_path)


@pytest.fixture
def there() -> Iterator[FaultServer]:
    """A server that is well."""
    with FaultServer(key="k") as server:
        yield server


@pytest.fixture
def pair() -> Iterator[list[FaultServer]]:
    """Two of them."""
    with FaultServer() as one, FaultServer() as other:
        yield [one, other]


def session_on(generator: VllmGenerator, server: FaultServer) -> str:
    """A session that falls to that server."""
    generator.warm()
    name = generator.adapter.name
    return next(f"s{n}" for n in range(999) if generator.fleet.pick(name, f"s{n}").server.url == server.url)


def test_an_answer_is_the_adapters_own_and_says_who_wrote_it_and_what_it_took(there: FaultServer, made: Adapter) -> None:
    note = Made()
    with generating(made, there) as generator:
        assert say(generator, made=note) == SAID
    assert (note.engine, note.prompt_tokens, note.tokens) == (f"vllm {there.url}", 40, len(WORDS))
    assert [body["model"] for body in there.seen[CHAT]] == [made.name] and there.adapters == {made.name: str(made.folder)}


def test_a_choice_is_asked_as_structured_output(there: FaultServer, made: Adapter) -> None:
    with generating(made, there) as generator:
        asyncio.run(generator.choose(ASKED, ["yes", "no"]))
    assert there.seen[CHAT][0]["structured_outputs"] == {"choice": ["yes", "no"]}


# ---- two servers

BEFORE_WORDS = [answers.reset_before_the_headers, answers.closed_before_the_headers, answers.too_many_requests,
                answers.failed_inside, answers.unavailable, answers.page_of_a_proxy, answers.page_with_200,
                answers.another_protocol, answers.another_model, answers.tokens_without_a_word]


@pytest.mark.parametrize("fault", BEFORE_WORDS, ids=lambda fault: fault.__name__)
def test_a_server_that_fails_before_its_first_word_is_left_for_the_other(pair: list[FaultServer], made: Adapter, fault) -> None:
    note = Made()
    with generating(made, *pair) as generator:
        session = session_on(generator, pair[0])
        pair[0].next(CHAT, fault)
        assert say(generator, session, note) == SAID
    assert note.engine == f"vllm {pair[1].url}" and len(pair[0].seen[CHAT]) == len(pair[1].seen[CHAT]) == 1


def test_a_server_that_hangs_is_left_for_the_other_after_the_limit_for_the_first_word(pair: list[FaultServer],
                                                                                     made: Adapter) -> None:
    with generating(made, *pair, limits=Limits(5, 0.3, 20)) as generator:
        session = session_on(generator, pair[0])
        pair[0].next(CHAT, answers.hangs_before_the_headers)
        pair[1].next(CHAT, answers.hangs_before_the_first_word)
        with pytest.raises(TooSlow):
            say(generator, session)
        assert len(pair[0].seen[CHAT]) == len(pair[1].seen[CHAT]) == 1


def test_no_server_is_blamed_for_the_time_that_another_took(pair: list[FaultServer], made: Adapter) -> None:
    with generating(made, *pair, limits=Limits(5, 9, 0.5)) as generator:
        session = session_on(generator, pair[0])
        pair[0].always[CHAT] = answers.hangs_before_the_headers
        for _ in range(FAILURES):
            with pytest.raises(TooSlow):
                say(generator, session)
        states = {row["url"]: row["state"] for row in generator.fleet.table()["servers"]}
    assert states == {pair[0].url: "resting", pair[1].url: "up"} and not pair[1].seen[CHAT]


MID_ANSWER = [answers.killed_in_mid_answer, answers.cut_off_within_a_line, answers.bad_json_in_mid_answer, answers.no_done,
              answers.no_finish_reason, answers.error_in_the_stream, answers.another_model_in_mid_answer,
              answers.lost_in_mid_answer]


@pytest.mark.parametrize("fault", MID_ANSWER, ids=lambda fault: fault.__name__)
def test_what_failed_in_mid_answer_is_not_begun_again_since_it_was_heard(pair: list[FaultServer], made: Adapter, fault) -> None:
    heard: list[str] = []
    with generating(made, *pair) as generator:
        session = session_on(generator, pair[0])
        pair[0].next(CHAT, fault)
        with pytest.raises(EngineError):
            say(generator, session, into=heard)
    assert heard == list(WORDS[:len(heard)]) and len(heard) >= 2
    assert len(pair[0].seen[CHAT]) == 1 and not pair[1].seen[CHAT]


@pytest.mark.parametrize("fault, kind, asked", [(answers.prompt_too_long, Rejected, 0), (answers.failed_inside, Busy, 1)])
def test_what_another_server_would_refuse_too_is_not_asked_of_it(pair: list[FaultServer], made: Adapter, fault, kind: type,
                                                                 asked: int) -> None:
    with generating(made, *pair) as generator:
        session = session_on(generator, pair[0])
        for server in pair:
            server.next(CHAT, fault)
        with pytest.raises(kind):
            say(generator, session)
    assert len(pair[1].seen[CHAT]) == asked


# ---- the breaker

def test_after_five_failures_a_server_is_left_alone_and_after_its_rest_one_turn_tries_it(there: FaultServer,
                                                                                       made: Adapter) -> None:
    clock = [100.0]
    with generating(made, there) as generator:
        generator.warm()
        generator.fleet.replicas[0].breaker = Breaker(now=lambda: clock[0])
        there.always[CHAT] = answers.unavailable
        for tries in [*range(1, FAILURES + 1), FAILURES, FAILURES]:
            with pytest.raises(Busy if len(there.seen[CHAT]) < FAILURES else Unreachable):
                say(generator)
            assert len(there.seen[CHAT]) == tries
        clock[0] += 5.1
        with pytest.raises(Busy):
            say(generator)
        with pytest.raises(Unreachable, match="retune vllm status"):
            say(generator)
        assert len(there.seen[CHAT]) == FAILURES + 1
        clock[0] += 5.1
        there.always.clear()
        assert [say(generator), say(generator)] == [SAID, SAID]


def test_while_one_turn_tries_a_resting_server_the_others_wait_for_how_it_fares() -> None:
    clock = [100.0]
    breaker = Breaker(failures=2, rest_s=5, now=lambda: clock[0])
    for _ in range(2):
        assert breaker.allows()
        breaker.failed()
    assert not breaker.allows() and breaker.open
    clock[0] += 5
    assert [breaker.allows() for _ in range(3)] == [True, False, False]
    clock[0] += 5
    assert breaker.allows(), "it never said how it fared"
    breaker.well()
    assert [breaker.allows() for _ in range(3)] == [True] * 3 and not breaker.open


def test_a_server_that_was_killed_and_comes_back_answers_with_its_adapter(there: FaultServer, made: Adapter) -> None:
    with generating(made, there, every=0.2) as generator:
        assert say(generator) == SAID
        there.stop()
        for _ in range(FAILURES + 1):
            with pytest.raises(Unreachable, match="retune vllm"):
                say(generator)
        there.start()

        def answers_again() -> bool:
            with suppress(EngineError):
                return say(generator) == SAID
            return False

        until(answers_again)
        assert there.adapters == {made.name: str(made.folder)}


# ---- the adapter on its way

def test_an_adapter_that_the_server_lost_is_loaded_again_and_the_turn_is_answered(there: FaultServer, made: Adapter) -> None:
    with generating(made, there) as generator:
        assert say(generator) == SAID
        there.loop.call_soon_threadsafe(there.adapters.clear)
        assert say(generator) == SAID
    assert len(there.seen[LOAD]) == 2 and [body["model"] for body in there.seen[CHAT]] == [made.name] * 3


def test_many_turns_that_find_the_adapter_lost_are_all_answered(there: FaultServer, made: Adapter) -> None:
    async def all_at_once(generator: VllmGenerator) -> list[str]:
        return await asyncio.gather(*(said(generator, f"s{n}") for n in range(20)))

    with generating(made, there) as generator:
        assert say(generator) == SAID
        there.loop.call_soon_threadsafe(there.adapters.clear)
        assert asyncio.run(all_at_once(generator)) == [SAID] * 20
    assert len(there.seen[LOAD]) == 2 and len(there.seen[SCORE]) == 2 * len(made.probes), "by one look for all of them"


def test_a_server_that_lists_an_adapter_and_has_none_is_asked_twice_and_no_more(there: FaultServer, made: Adapter) -> None:
    there.always[CHAT] = lost
    with generating(made, there) as generator:
        with pytest.raises(EngineError, match="retune vllm status"):
            say(generator)
    assert len(there.seen[CHAT]) == 2


def test_a_folder_that_is_gone_on_the_server_is_named_and_the_base_says_nothing(there: FaultServer, made: Adapter) -> None:
    with generating(made, there) as generator:
        assert say(generator) == SAID
        shutil.rmtree(made.folder)
        assert say(generator) == SAID, "what is loaded needs no folder"
        there.loop.call_soon_threadsafe(there.adapters.clear)
        for _ in range(2):
            with pytest.raises(EngineError) as told:
                say(generator)
        assert str(made.folder) in str(told.value) and "vllm_home" in str(told.value)
    assert {body["model"] for body in there.seen[CHAT]} == {made.name}


async def answers_as_the_base(answer: Answer) -> None:
    """A 200 for the load, and no adapter behind it."""
    await answer.whole(200, "Success", "text/plain")
    answer.server.adapters[answer.body["lora_name"]] = answer.body["lora_path"]
    answer.server.always[SCORE] = score_of_the_base


async def score_of_the_base(answer: Answer) -> None:
    answer.model = answer.server.base
    await answer.server._score(answer)


def test_a_server_that_takes_an_adapter_and_answers_without_it_never_answers(there: FaultServer, made: Adapter) -> None:
    there.next(LOAD, answers_as_the_base)
    with generating(made, there) as generator:
        with pytest.raises(Rejected, match="without the adapter"):
            say(generator)
    assert not there.seen[CHAT]


@pytest.mark.parametrize("path", [MODELS, LOAD, SCORE])
@pytest.mark.parametrize("fault", [answers.hangs_before_the_headers, answers.one_byte_of_the_headers_a_second,
                                   answers.pings_for_ever], ids=lambda fault: fault.__name__)
def test_a_turn_waits_for_its_adapter_until_its_deadline_and_no_longer(there: FaultServer, made: Adapter, path: str, fault,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.vllm.wire.SLOW_S", 3.0)  # or the test would wait for the thread
    there.always[path] = fault
    with generating(made, there, limits=Limits(1.5, 0.3, 0.3)) as generator:
        with pytest.raises(TooSlow, match="retune vllm status"):
            say(generator)
        assert not generator._loaded.done(), "the load itself has longer"
        there.stop()


def test_an_adapter_that_cannot_be_written_out_is_a_refusal_with_its_reason(there: FaultServer) -> None:
    def fails() -> Adapter:
        raise OSError(28, "No space left on device", "adapters")

    generator = VllmGenerator(Fleet(lambda: [Server(there.url, "k", PATIENT)], every=3600), fails, 5)
    with pytest.raises(Rejected, match="No space left"):
        say(generator)
    with pytest.raises(OSError, match="No space left"):
        generator.warm()


def test_turns_that_come_while_a_server_is_away_share_one_look(there: FaultServer, made: Adapter) -> None:
    async def all_at_once(generator: VllmGenerator) -> list[Exception]:
        return await asyncio.gather(*(said(generator, f"s{n}") for n in range(50)), return_exceptions=True)

    there.always[MODELS] = answers.unavailable
    with generating(made, there) as generator:
        with suppress(EngineError):
            generator.warm()
        before = len(there.seen[MODELS])
        failed = asyncio.run(all_at_once(generator))
    assert {type(error) for error in failed} == {Busy} and len({id(error) for error in failed}) == 50
    assert len(there.seen[MODELS]) - before <= 2


def test_one_who_leaves_while_the_adapter_is_loaded_takes_it_from_nobody(there: FaultServer, made: Adapter) -> None:
    go = threading.Event()

    def slow() -> Adapter:
        go.wait(20)
        return made

    async def leave_then_ask(generator: VllmGenerator) -> str:
        gone = [asyncio.ensure_future(said(generator)) for _ in range(5)]
        await asyncio.sleep(0.05)
        for one in gone:
            one.cancel()
        go.set()
        await asyncio.gather(*gone, return_exceptions=True)
        return await said(generator)

    generator = VllmGenerator(Fleet(lambda: [Server(there.url, "k", PATIENT)], every=3600), slow, 20)
    assert asyncio.run(leave_then_ask(generator)) == SAID


# ---- many at once

def test_sixty_four_streams_at_once_are_all_whole(there: FaultServer, made: Adapter) -> None:
    async def all_at_once(generator: VllmGenerator) -> list[str]:
        return await asyncio.gather(*(said(generator, f"s{n}") for n in range(64)))

    there.pause = 0.02
    with generating(made, there) as generator:
        assert asyncio.run(all_at_once(generator)) == [SAID] * 64
        assert generator.fleet.table()["servers"][0]["in_flight"] == {}


def test_two_threads_with_event_loops_of_their_own_share_one_generator(there: FaultServer, made: Adapter) -> None:
    found: list[str] = []

    async def some(generator: VllmGenerator) -> None:
        for _ in range(3):
            found.extend(await asyncio.gather(*(said(generator, f"s{n}") for n in range(8))))

    there.pause = 0.005
    with generating(made, there) as generator:
        threads = [threading.Thread(target=lambda: asyncio.run(some(generator))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert found == [SAID] * 48


def test_two_hundred_who_leave_after_the_first_word_stop_two_hundred_answers_and_leave_nothing(there: FaultServer,
                                                                                             made: Adapter) -> None:
    async def leave(generator: VllmGenerator, number: int) -> None:
        if number % 2:
            stream = generator.stream(ASKED, 80, session=f"s{number}")
            assert await anext(stream) == WORDS[0]
            await stream.aclose()
        else:  # as a surface does whose task is cancelled
            heard: list[str] = []
            reading = asyncio.ensure_future(said(generator, f"s{number}", into=heard))
            while not heard:
                await asyncio.sleep(0.05)
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

    async def storm(generator: VllmGenerator) -> None:
        await asyncio.gather(*(leave(generator, number) for number in range(200)))
        async with asyncio.timeout(10):
            while there.aborts < 200:  # while this loop runs on: its end would close everything
                await asyncio.sleep(0.02)

    there.words, there.pause = (WORDS[0], *WORDS * 1000), 0.5
    with generating(made, there, limits=Limits(60, 60, 60)) as generator:
        generator.warm()
        threads, before = threading.active_count(), sockets()
        asyncio.run(storm(generator))
        assert there.aborts == 200
        there.words, there.pause = WORDS, 0.0
        assert say(generator) == SAID, "it answers afterwards"
        until(lambda: not there.open)
        gc.collect()
        assert threading.active_count() <= threads and sockets() <= before
        assert generator.fleet.table()["servers"][0] | {"url": ""} == {
            "url": "", "state": "up", "base": "smollm2", "adapters": [made.name], "in_flight": {}, "problem": ""}


def sockets() -> int:
    """How many this process has open."""
    gc.collect()
    return sum(isinstance(thing, socket.socket) and thing.fileno() >= 0 for thing in gc.get_objects())


def test_a_generator_that_nobody_has_leaves_no_thread(there: FaultServer, made: Adapter) -> None:
    before = set(threading.enumerate())
    with generating(made, there, every=0.05) as generator:
        assert say(generator) == SAID
    assert {thread.name.partition("_")[0] for thread in set(threading.enumerate()) - before} >= {"load-adapter", "vllm-fleet"}
    del generator
    gc.collect()
    until(lambda: set(threading.enumerate()) <= before)


def test_a_broken_stream_is_told_apart_from_one_of_another_model(there: FaultServer, made: Adapter) -> None:
    with generating(made, there) as generator:
        there.next(CHAT, answers.another_model_in_mid_answer)
        with pytest.raises(Garbled, match="finance@0006-00000000"):
            say(generator)
