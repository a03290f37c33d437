"""Whatever a server does, a turn ends by its deadline: answered, answered in process with a flag, or logged as failed."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from articles import Articles
from faults import answers
from faults.server import CHAT, LOAD, MODELS, SCORE, FaultServer, lost, unauthorized
from served import PATIENT, SAID, adapter, generating, until

from agent.agent import Agent
from agent.domain import Domain
from agent.errors import Busy, EngineError, Garbled, Rejected, TooSlow, Unreachable
from agent.generators.scripted import ScriptedGenerator
from agent.registry import Bundle
from agent.serving import Serving
from agent.settings import Settings
from agent.store import Store
from agent.types import Delta, Done, Route
from agent.vllm.adapters import Adapter
from agent.vllm.breaker import Breaker
from agent.vllm.wire import Limits

INSTEAD = "We answer from here."
HASTY = Limits(connect=5, first_token=0.5, total=1.5)
SLOW = {answers.hangs_before_the_headers, answers.hangs_after_the_headers, answers.hangs_before_the_first_word,
        answers.hangs_in_mid_answer, answers.one_byte_a_second, answers.one_byte_of_the_headers_a_second,
        answers.one_byte_a_second_in_mid_answer, answers.pings_for_ever, answers.words_without_end}
BEFORE = {  # a word is heard
    answers.reset_before_the_headers: Garbled, answers.closed_before_the_headers: Garbled,
    answers.closed_within_the_headers: Garbled, answers.hangs_before_the_headers: TooSlow,
    answers.hangs_after_the_headers: TooSlow, answers.hangs_before_the_first_word: TooSlow, answers.one_byte_a_second: TooSlow,
    answers.one_byte_of_the_headers_a_second: TooSlow, answers.pings_for_ever: TooSlow, answers.too_many_requests: Busy,
    answers.failed_inside: Busy, answers.unavailable: Busy, answers.page_of_a_proxy: Busy, answers.page_with_200: Garbled,
    answers.page_not_found: Garbled, answers.sent_elsewhere: Garbled, answers.another_protocol: Garbled,
    answers.whole_answer_at_once: Garbled, answers.huge_error: Busy, answers.huge_body: Garbled,
    answers.another_model: Garbled, answers.tokens_without_a_word: Garbled, answers.prompt_too_long: Rejected,
    unauthorized: Rejected,
} | {answers.line_of(data): Busy if what == "a control line" else Garbled for what, data in answers.STRANGE.items()}
AFTER = {
    answers.reset_in_mid_answer: Garbled, answers.killed_in_mid_answer: Garbled, answers.cut_off_within_a_line: Garbled,
    answers.hangs_in_mid_answer: TooSlow, answers.one_byte_a_second_in_mid_answer: TooSlow, answers.words_without_end: TooSlow,
    answers.bad_json_in_mid_answer: Garbled, answers.half_a_character_in_mid_answer: Garbled, answers.no_done: Garbled,
    answers.no_finish_reason: Garbled, answers.error_in_the_stream: Busy, answers.error_as_a_text_in_the_stream: Garbled,
    answers.lost_in_mid_answer: EngineError, answers.line_without_end: Garbled, answers.another_model_in_mid_answer: Garbled,
}


class Routes:
    """Sure of one intent that is answered from articles."""

    def route(self, texts: list[str]) -> list[Route]:
        return [Route("payment_methods", 0.95, (("payment_methods", 0.95),), 0.05) for _ in texts]


@dataclass
class Shop:
    """An agent whose generator is changed for every test, and what it was heard to say in the last turn."""

    agent: Agent
    heard: str = ""
    turns: int = 0

    def serve(self, generator: Any, fallback: bool = False) -> None:
        old = self.agent.serving
        self.agent.serving = Serving(old.bundle, old.router, generator, old.index, self.local if fallback else None)
        self.agent.notices.clear()

    def local(self) -> ScriptedGenerator:
        return ScriptedGenerator(INSTEAD)

    def ask(self) -> Done:
        """One turn in a session of its own; nothing here may take a minute."""
        self.turns += 1
        self.heard = ""

        async def soon() -> Done:
            async with asyncio.timeout(60):
                async for event in self.agent.stream("Which payment methods do you take?", f"s{self.turns}"):
                    self.heard += event.text if isinstance(event, Delta) else ""
            return event

        return asyncio.run(soon())

    def row(self) -> dict[str, Any]:
        """The last turn as it is on the disk."""
        return self.agent.store.last_turn(f"s{self.turns}")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Customer service with a real store."""
    home = tmp_path_factory.mktemp("shop")
    store = Store(f"sqlite:///{home}/retune.db")
    store.open()
    domain = Domain.load("customer_service")
    assert domain.intents["payment_methods"].answer == "docs"
    serving = Serving(Bundle(domain.name, 7, home, {"files": {}}), Routes(), None, Articles(domain.passages[:2]))
    agent = Agent(domain, Settings.load(home=home), serving, store, None, {}, lambda: datetime.now(UTC), {}, home / "tools")
    yield Shop(agent)
    agent.close()


@pytest.fixture
def made(tmp_path: Path) -> Adapter:
    return adapter(tmp_path)


@pytest.fixture
def there() -> Iterator[FaultServer]:
    """A server that is well."""
    with FaultServer(key="k") as server:
        yield server


def named(value: Any) -> str:
    return getattr(value, "__name__", "")


def failed(shop: Shop, kind: type) -> dict[str, Any]:
    """Ask, see the turn fail as it must and be logged as what it is; its row."""
    with pytest.raises(kind) as told:
        shop.ask()
    row, sentence = shop.row(), str(told.value)
    assert (row["state"], row["error"]) == ("error", sentence) and "error" in row["flags"] and "fallback" not in row["flags"]
    assert row["reply"] == shop.heard.strip() and row["reply"] != SAID and SAID.startswith(row["reply"])
    assert row["question"] == "Which payment methods do you take?" and not shop.agent.store.history(f"s{shop.turns}", 2)
    assert sentence.isprintable() and 20 < len(sentence) < 600 and sentence[-1] in ".?", sentence
    return row


def answered_here(shop: Shop) -> None:
    """Ask, and see the model in process answer, with the flag and a notice of why."""
    done = shop.ask()
    row = shop.row()
    assert done.reply == row["reply"] == shop.heard.strip() == INSTEAD
    assert (row["state"], row["error"], row["engine"], row["flags"]) == ("answered", None, "scripted", ["fallback"])
    [notice] = shop.agent.notices
    assert notice.endswith("The model in process answers instead.")


def test_a_whole_answer_is_logged_with_what_wrote_it(shop: Shop, there: FaultServer, made: Adapter) -> None:
    with generating(made, there) as generator:
        shop.serve(generator, fallback=True)
        done = shop.ask()
    row = shop.row()
    assert done.reply == row["reply"] == SAID and (row["state"], row["error"], row["flags"]) == ("answered", None, [])
    assert (row["engine"], row["prompt_tokens"], row["tokens"]) == (f"vllm {there.url}", 40, 6) and not shop.agent.notices


@pytest.mark.parametrize("fault", BEFORE | AFTER, ids=named)
def test_every_fault_ends_in_an_error_of_ours_and_never_in_a_turn_that_looks_whole(shop: Shop, there: FaultServer,
                                                                                  made: Adapter, fault) -> None:
    with generating(made, there, limits=HASTY if fault in SLOW else PATIENT) as generator:
        generator.warm()
        shop.serve(generator)
        there.always[CHAT] = fault
        row = failed(shop, (BEFORE | AFTER)[fault])
        if fault in (answers.no_done, answers.no_finish_reason):
            assert row["reply"] == "You can pay by card or by bank transfer.", "what was said is kept"
        there.always.clear()
        assert shop.ask().reply == SAID, "and the next turn is answered"


@pytest.mark.parametrize("fault", BEFORE, ids=named)
def test_what_fails_before_a_word_is_answered_in_process_where_that_is_wanted_and_never_silently(
        shop: Shop, there: FaultServer, made: Adapter, fault) -> None:
    with generating(made, there, limits=HASTY if fault in SLOW else PATIENT) as generator:
        generator.warm()
        shop.serve(generator, fallback=True)
        there.always[CHAT] = fault
        answered_here(shop)


@pytest.mark.parametrize("fault", [answers.killed_in_mid_answer, answers.hangs_in_mid_answer, answers.no_finish_reason],
                         ids=named)
def test_what_was_begun_is_not_finished_by_another_model(shop: Shop, there: FaultServer, made: Adapter, fault) -> None:
    with generating(made, there, limits=HASTY if fault in SLOW else PATIENT) as generator:
        generator.warm()
        shop.serve(generator, fallback=True)
        there.always[CHAT] = fault
        failed(shop, AFTER[fault])
        assert not shop.agent.notices


@pytest.mark.parametrize("wanted", [False, True])
def test_a_server_that_is_gone_and_one_that_never_was(shop: Shop, there: FaultServer, made: Adapter, wanted: bool) -> None:
    with generating(made, there) as before:
        before.warm()
        there.stop()
        with generating(made, there) as never, generating(made) as none:
            for generator in (before, never, none):
                shop.serve(generator, wanted)
                if wanted:
                    answered_here(shop)
                else:
                    assert "retune vllm" in failed(shop, Unreachable)["error"]


@pytest.mark.parametrize("wanted", [False, True])
@pytest.mark.parametrize("path", [MODELS, LOAD, SCORE])
@pytest.mark.parametrize("fault", [answers.killed_in_mid_answer, answers.too_many_requests, answers.page_of_a_proxy,
                                   answers.hangs_before_the_headers, unauthorized, lost], ids=named)
def test_an_adapter_that_never_came_to_a_server_is_no_turn_by_the_base(shop: Shop, there: FaultServer, made: Adapter, path: str,
                                                                      fault, wanted: bool, monkeypatch) -> None:
    monkeypatch.setattr("agent.vllm.wire.SLOW_S", 1.0)
    there.always[path] = fault
    with generating(made, there, limits=Limits(0.5, 1, 1) if fault in SLOW else PATIENT) as generator:
        shop.serve(generator, wanted)
        answered_here(shop) if wanted else failed(shop, EngineError)
    assert not there.seen[CHAT]


def test_an_adapter_that_was_lost_is_loaded_again_and_the_turn_is_whole(shop: Shop, there: FaultServer, made: Adapter) -> None:
    with generating(made, there) as generator:
        shop.serve(generator, fallback=True)
        assert shop.ask().reply == SAID
        there.loop.call_soon_threadsafe(there.adapters.clear)
        assert shop.ask().reply == SAID and shop.row()["flags"] == [] and not shop.agent.notices


def test_a_person_who_leaves_stops_the_server_and_the_turn_is_logged_as_cut_off(shop: Shop, there: FaultServer,
                                                                               made: Adapter) -> None:
    async def leave() -> None:
        stream = shop.agent.stream("Which payment methods do you take?", f"s{shop.turns}")
        async for event in stream:
            if isinstance(event, Delta):
                break
        await stream.aclose()

    there.words = ("You can pay by card. ", *(f"Or by card {word}. " for word in "abcdefghijklmnop"))
    there.pause = 0.3
    with generating(made, there) as generator:
        shop.serve(generator)
        shop.turns += 1
        asyncio.run(leave())
        until(lambda: there.aborts == 1)
    row = shop.row()
    assert (row["state"], row["error"], row["reply"]) == ("error", "cancelled", "You can pay by card.")


def test_faults_all_at_once_change_no_answer_beside_them(shop: Shop, there: FaultServer, made: Adapter) -> None:
    quick = [fault for fault in BEFORE | AFTER if fault not in SLOW and "huge" not in named(fault)]

    async def many() -> list[Any]:
        async def one(number: int) -> Any:
            return await shop.agent.ask("Which payment methods do you take?", f"dozen{number}")

        return await asyncio.gather(*(one(number) for number in range(len(quick) + 20)), return_exceptions=True)

    with generating(made, there) as generator:
        generator.warm()
        shop.serve(generator)
        generator.fleet.replicas[0].breaker = Breaker(failures=1000)
        there.next(CHAT, *quick)
        done = asyncio.run(many())
        assert sum(isinstance(one, EngineError) for one in done) == len(quick)
        assert [one.reply for one in done if isinstance(one, Done)] == [SAID] * 20
        until(lambda: generator.fleet.table()["servers"][0]["in_flight"] == {})
