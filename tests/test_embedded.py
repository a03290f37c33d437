"""What an app that holds an agent relies on: claimed history, ratings, observers, order, its own tools and retriever."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from instant import agent
from langchain_core.documents import Document
from langchain_core.language_models import FakeListChatModel, GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import ToolException, tool

from agent import Agent, Delta, Done, Evidence, RetuneError, Routed, ScriptedGenerator
from agent.errors import DataError, DomainError, EngineError
from agent.generators.chat_model import ChatModelGenerator
from agent.types import Made


@pytest.fixture
def make(home):
    """`instant.agent` on the test's home."""
    agents = []

    def build(*answers, **more):
        agents.append(agent(home, *answers, **more))
        return agents[-1]

    yield build
    for each in agents:
        each.close()


# ---- history that a client without a session claims

TOLD = [("My post is ann@example.org, what about a kettle?", "A kettle has 30 days.")]


def test_a_claimed_history_reaches_prompt_and_follow_up_without_private_values_and_is_no_turn(make):
    made = make("As I said, 30 days.")
    done = made.ask_sync("and what about shoes?", "s", history=TOLD)
    seen = made.serving.generator.seen[0]
    assert [message["content"] for message in seen[1:]] == ["My post is [EMAIL_1], what about a kettle?", TOLD[0][1],
                                                            "and what about shoes?"]
    assert [turn["id"] for turn in made.store.conversation("s")] == [done.turn.id]
    assert "ann@example.org" not in str(made.store.turn(done.turn.id))


def test_turns_of_its_own_count_more_than_what_is_claimed(make):
    made = make("It has 30 days.")
    made.ask_sync("what about a toaster?", "s", history=TOLD)
    made.ask_sync("and what about shoes?", "s", history=TOLD)
    said = [message["content"] for message in made.serving.generator.seen[1][1:3]]
    assert said == ["what about a toaster?", "It has 30 days."]


def test_what_was_claimed_to_be_said_is_taken_as_text_alone(make):
    made = make("Fine.")
    made.ask_sync("and what about shoes?", history=[("hello\x1b[31m", "\x00reply" + "x" * 20_000)])
    question, reply = (message["content"] for message in made.serving.generator.seen[0][1:3])
    assert question == "hello[31m" and len(reply) < 10_000 and reply.startswith("replyxxx")


# ---- what people say about a turn

def said(made, turn_id: str) -> list[tuple]:
    return [(row["author"], row["kind"], row["value"]) for row in made.store.feedback_of(turn_id)]


def test_a_rating_and_its_comment_are_on_disk_together_and_a_second_one_replaces_the_first(make):
    made = make("Fine.")
    id = made.ask_sync("can I send it back?").turn.id
    made.rate(id, True, "ann", "kind words from ann@example.org")
    assert sorted(said(made, id)) == [("ann", "comment", "kind words from [EMAIL_1]"), ("ann", "up", None)]
    made.rate(id, False, "ann")
    asyncio.run(made.arate(id, True, "ben"))
    comment = ("ann", "comment", "kind words from [EMAIL_1]")
    assert sorted(said(made, id)) == [comment, ("ann", "down", None), ("ben", "up", None)]


def test_a_correction_is_kept_and_an_empty_or_foreign_one_refused_with_a_sentence(make):
    made = make("Fine.")
    id = made.ask_sync("can I send it back?").turn.id
    made.correct(id, "Within 30 days.", "ann")
    asyncio.run(made.acorrect(id, "In 30 days.", "ben"))
    assert sorted(said(made, id)) == [("ann", "correction", "Within 30 days."), ("ben", "correction", "In 30 days.")]
    with pytest.raises(DataError, match="needs its text"):
        made.correct(id, "  ", "ann")
    with pytest.raises(DataError, match="no turn 'gone'"):
        made.rate("gone", True)


def test_sessions_are_those_of_the_domain_the_last_used_first(make):
    shop, bank = make("Fine."), make("Fine.", domain="finance", usual="credit_score")
    shop.ask_sync("can I send it back?", "one")
    shop.ask_sync("can I send it back?", "two")
    bank.ask_sync("what is a score?", "three")
    shop.ask_sync("and shoes?", "one")
    assert [(row["id"], row["turns"]) for row in shop.sessions()] == [("one", 2), ("two", 1)]
    assert [row["id"] for row in asyncio.run(shop.asessions(limit=1))] == ["one"]


def test_a_rating_in_another_thread_shares_the_marks_of_a_running_session(make):
    made = make("Fine.")
    ids = [made.ask_sync(f"I am ann{number}@example.org, can I send it back?", "s").turn.id for number in range(4)]
    threads = [threading.Thread(target=made.correct, args=(id, f"Write to new{number}@example.org.", "ann"))
               for number, id in enumerate(ids)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    marks = [said(made, id)[0][2] for id in ids]
    assert len(set(marks)) == 4 and all(mark.startswith("Write to [EMAIL_") for mark in marks)


# ---- observers

def test_an_observer_sees_every_turn_that_is_on_disk_with_what_went_wrong(make):
    made = make("One. Two. Three.", EngineError("The engine is gone."))
    seen = []
    made.observers.append(lambda turn, error: seen.append((turn.state, error, made.store.turn(turn.id)["reply"])))

    async def leave() -> None:
        stream = made.stream("can I send it back?")
        async for event in stream:
            if isinstance(event, Delta):
                break
        await stream.aclose()

    asyncio.run(leave())
    with pytest.raises(EngineError):
        made.ask_sync("can I send it back?")
    made.serving.generator._answers = ["Fine."]
    made.ask_sync("can I send it back?")
    assert seen == [("error", "cancelled", "One."), ("error", "The engine is gone.", ""), ("answered", None, "Fine.")]


def test_an_observer_that_fails_costs_no_answer_and_is_noticed(make):
    made, seen = make("Fine."), []
    made.observers += [lambda turn, error: 1 / 0, lambda turn, error: seen.append(turn.reply)]
    assert made.ask_sync("can I send it back?").reply == "Fine."
    assert seen == ["Fine."] and "observer failed (ZeroDivisionError" in made.notices[-1]


def test_a_mistake_in_a_part_is_logged_by_its_kind_and_not_by_what_it_holds(make):
    class Broken(ScriptedGenerator):
        async def stream(self, messages, max_tokens, *, session="", made=None):
            raise KeyError("ann@example.org")
            yield ""

    made = make(generator=Broken())
    with pytest.raises(KeyError):
        made.ask_sync("can I send it back?", "s")
    assert made.store.last_turn("s")["error"] == "The turn failed (KeyError)."


# ---- order, and the log

def test_messages_of_one_session_at_once_are_answered_in_order(make):
    made = make("Fine.")

    async def talk() -> None:
        await asyncio.gather(*(made.ask(f"question {number}?", "s") for number in range(8)), made.ask("other?", "t"))

    asyncio.run(talk())
    assert [turn["question"] for turn in made.store.conversation("s")] == [f"question {number}?" for number in range(8)]


def test_whoever_hears_done_may_ask_again_at_once(make):
    made = make("Fine.")

    async def talk() -> Done:
        async with asyncio.timeout(20):
            async for event in made.stream("can I send it back?", "s"):
                if isinstance(event, Done):
                    return await made.ask("and shoes?", "s")
        raise AssertionError

    assert asyncio.run(talk()).turn.state == "answered"


def test_a_turn_cancelled_while_it_is_logged_is_on_disk_and_told_to_observers(make):
    made, told, reached, go = make("Fine."), [], threading.Event(), threading.Event()
    made.observers.append(lambda turn, error: told.append(error))
    log = made.store.log

    def slow(*given) -> None:
        reached.set()
        assert go.wait(20)
        log(*given)

    made.store.log = slow

    async def run() -> None:
        turn = asyncio.create_task(made.ask("can I send it back?", "s"))
        await asyncio.to_thread(reached.wait, 20)
        turn.cancel()
        await asyncio.sleep(0)
        turn.cancel()
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await turn

    asyncio.run(run())
    assert made.store.last_turn("s")["reply"] == "Fine." and made.store.last_turn("s")["error"] is None and told == [None]


def test_the_event_loop_goes_on_while_a_turn_is_logged(make):
    made, go = make("Fine."), threading.Event()
    log = made.store.log

    def waiting(*given) -> None:
        assert go.wait(20), "only the event loop sets it"
        log(*given)

    made.store.log = waiting

    async def run() -> None:
        turn = asyncio.create_task(made.ask("can I send it back?"))
        await asyncio.sleep(0.2)
        go.set()
        assert (await turn).reply == "Fine."

    asyncio.run(run())


# ---- tools of an app

@tool
async def courier(order: str) -> dict:
    """Where a parcel is."""
    return {"order": order, "place": "Utrecht", "days": 2}


def test_an_apps_tool_answers_its_intent_with_the_slots_as_arguments(make):
    made = make("", usual="order_status", tools={"order_status": courier})
    done = made.ask_sync("where is LK-10482?")
    assert done.reply == "order: LK-10482, place: Utrecht, days: 2" and done.turn.state == "done"
    assert (done.turn.tool, done.turn.tool_arguments, done.turn.tool_result) == ("courier", {"order": "LK-10482"}, done.reply)


def test_a_tool_of_the_domain_asks_for_its_slot_before_an_apps_tool_is_called(make):
    made = make("", usual="order_status", tools={"order_status": courier})
    assert made.ask_sync("where is my order?", "s").turn.state == "asking"
    assert "Utrecht" in made.ask_sync("LK-10482", "s").reply


@pytest.mark.parametrize(("raised", "expected"), [(ToolException("The courier is on strike."), "The courier is on strike."),
                                                  (OSError("10.0.0.7 refused"), "did not work just now (OSError)")])
def test_what_an_apps_tool_raises_is_explained_to_the_person(make, raised, expected):
    @tool
    def fails(order: str) -> str:
        """Where a parcel is."""
        raise raised

    done = make("", usual="order_status", tools={"order_status": fails}).ask_sync("where is LK-10482?")
    assert expected in done.reply and "10.0.0.7" not in done.reply and done.turn.state == "failed"


def test_an_apps_tool_that_changes_something_is_asked_about_first(make):
    @tool
    def block(order: str) -> str:
        """Stop a parcel."""
        return f"{order} is stopped."

    block.metadata = {"changes": True}
    made = make("", usual="order_status", tools={"order_status": block})
    assert made.ask_sync("where is LK-10482?", "s").turn.state == "confirming"
    assert made.ask_sync("yes", "s").reply == "LK-10482 is stopped."


def test_an_article_intent_may_be_given_to_a_tool_and_hears_who_asks(make):
    from langchain_core.runnables import RunnableConfig

    @tool
    def policy(config: RunnableConfig) -> str:
        """The policy of this customer."""
        site = config["configurable"]
        return f"{site['author']} of {site['session']} has 60 days."

    made = make("", tools={"return_policy": policy})
    assert made.ask_sync("can I send it back?", "s", "ann").reply == "ann of s has 60 days."


def test_private_values_that_an_apps_tool_tells_are_shown_and_not_logged(make):
    @tool
    def contact(order: str) -> str:
        """Who has the parcel."""
        return f"Ask ben.lee@example.org about {order}."

    made = make("", usual="order_status", tools={"order_status": contact})
    done = made.ask_sync("where is LK-10482?")
    assert "ben.lee@example.org" in done.reply and "ben.lee" not in str(made.store.turn(done.turn.id))


def test_a_tool_that_cannot_answer_its_intent_is_refused_at_once(make):
    with pytest.raises(DomainError, match="no intent 'weather' for the tool 'courier'.*order_status"):
        make("", tools={"weather": courier})
    with pytest.raises(DomainError, match="needs order, which the intent 'return_policy' of customer_service does not ask for"):
        make("", tools={"return_policy": courier})
    with pytest.raises(DomainError, match="is a function and no tool; make it one with the decorator @tool"):
        make("", tools={"order_status": lambda order: order})


@pytest.mark.parametrize(("given", "sentence"), [({"generator": "gpt"}, "generator is a str; give a ScriptedGenerator or a chat"),
                                                 ({"retriever": []}, "retriever is a list; give a BaseRetriever"),
                                                 ({"tools": {"credit_score": 7}}, "is a int and no tool"),
                                                 ({"temperature": 1}, "no setting 'temperature'")])
def test_a_part_of_another_kind_is_refused_before_anything_is_loaded(home, given, sentence):
    with pytest.raises(RetuneError, match=sentence):
        Agent.load("finance", home=home, **given)
    assert list(home.iterdir()) == []


def test_an_event_loop_is_told_to_await(make):
    made = make("Fine.")

    async def run() -> None:
        made.ask_sync("can I send it back?")

    with pytest.raises(RuntimeError, match="use `await agent.ask"):
        asyncio.run(run())


# ---- a retriever of an app

class Shelf(BaseRetriever):
    documents: list[Document] = []
    asked: list[str] = []
    fails: bool = False

    def _get_relevant_documents(self, query, *, run_manager):
        self.asked.append(query)
        if self.fails:
            raise ConnectionError("no route to host")
        return self.documents


def test_an_apps_documents_are_the_facts_of_the_prompt_and_the_guard_with_their_source(make):
    shelf = Shelf(documents=[Document("Shoes can be sent back within 45 days.", id="a7",
                                      metadata={"source": "https://shop.example/shoes.html", "title": "Shoes"}),
                             Document("Call ann@example.org.", metadata={"source": "notes/contacts.md"})])
    made = make("You have 45 days. You have 46 days. Write to [EMAIL_2].", retriever=shelf)
    done = made.ask_sync("I am ben@example.org, can I send it back?")
    assert [(each.id, each.title, each.source) for each in done.turn.passages] == [
        ("a7", "Shoes", "https://shop.example/shoes.html"), (done.turn.passages[1].id, "contacts.md", "notes/contacts.md")]
    assert done.turn.passages[1].id.startswith("notes/contacts.md#")
    assert "- Shoes: Shoes can be sent back within 45 days." in made.serving.generator.seen[0][0]["content"]
    assert "45 days" in done.reply and "46" not in done.reply and "unsupported_number" in done.turn.flags
    assert "ann@example.org" in done.reply and "example.org" not in str(made.store.turn(done.turn.id))
    assert shelf.asked == ["I am [EMAIL_1], can I send it back?"]


def test_a_long_document_is_shown_up_to_the_end_of_a_sentence(make):
    made = make("Fine.", retriever=Shelf(documents=[Document("A sentence that goes on. " * 500)]))
    text = made.ask_sync("can I send it back?").turn.passages[0].text
    assert 1400 < len(text) <= 1500 and text.endswith("goes on.")


def test_a_retriever_that_fails_ends_the_turn_with_its_sentence(make):
    made = make("Fine.", retriever=Shelf(fails=True))
    with pytest.raises(EngineError, match="retriever failed .ConnectionError: no route to host"):
        made.ask_sync("can I send it back?", "s")
    assert made.store.last_turn("s")["state"] == "error"


def test_a_retriever_that_finds_nothing_leaves_the_prompt_without_facts(make):
    made = make("Fine.", retriever=Shelf())
    assert made.ask_sync("can I send it back?").turn.passages == ()
    assert "(none)" in made.serving.generator.seen[0][0]["content"]


def test_evidence_is_told_before_the_answer_is_written(make):
    made = make("Fine.")

    async def run() -> list:
        return [event async for event in made.stream("can I send it back?")]

    events = asyncio.run(run())
    assert [type(event) for event in events] == [Routed, Evidence, Delta, Done]
    assert events[1].passages == events[-1].turn.passages != ()


# ---- a LangChain model as the generator

def test_any_chat_model_of_langchain_writes_the_answer_under_the_guard(make):
    model = FakeListChatModel(responses=["You have 30 days. You have 471 days."])
    done = make(generator=ChatModelGenerator(model)).ask_sync("can I send it back within 30 days?")
    assert done.reply.startswith("You have 30 days.") and "471" not in done.reply
    assert done.turn.engine == "langchain FakeListChatModel"


def test_a_chat_models_tokens_are_counted_where_it_tells_them_and_its_failure_is_an_engine_error():
    class Counting(GenericFakeChatModel):
        def _stream(self, messages, stop=None, run_manager=None, **kwargs):
            for chunk in super()._stream(messages, stop, run_manager, **kwargs):
                yield chunk
            chunk.message = AIMessageChunk("", usage_metadata={"input_tokens": 7, "output_tokens": 2, "total_tokens": 9})
            yield chunk

    async def run(model) -> tuple[str, Made]:
        made = Made()
        asked = [{"role": "system", "content": "x"}, {"role": "user", "content": "y"}]
        return "".join([piece async for piece in ChatModelGenerator(model).stream(asked, 80, made=made)]), made

    text, made = asyncio.run(run(Counting(messages=iter([AIMessage("hello there")]))))
    assert text == "hello there" and (made.prompt_tokens, made.tokens) == (7, 2)
    with pytest.raises(EngineError, match="langchain FakeListChatModel failed .FakeListChatModelError.*ask again"):
        asyncio.run(run(FakeListChatModel(responses=["a", "b"], error_on_chunk_number=0)))


def test_a_chat_model_that_does_not_stop_is_stopped():
    async def run() -> str:
        generator = ChatModelGenerator(FakeListChatModel(responses=["on and on " * 1000]))
        return "".join([piece async for piece in generator.stream([{"role": "user", "content": "y"}], 10)])

    assert len(asyncio.run(run())) == 40


# ---- the package

def test_public_names_are_there_and_load_nothing_before_they_are_asked_for():
    code = ("import sys, agent; assert set(agent.__all__) <= set(dir(agent) + agent.__all__); before = set(sys.modules)\n"
            "assert not any(name.startswith('agent.') for name in before)\n"
            "assert all(getattr(agent, name) for name in agent.__all__)\n"
            "from agent import *\nassert Agent and Front and Turn")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)

