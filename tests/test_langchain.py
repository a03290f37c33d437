"""The agent in LangChain and LangGraph: chat model and Runnable, events, sessions, callbacks, stop sequences and errors."""

import asyncio
from pathlib import Path

import pytest
from instant import agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_tests.integration_tests import ChatModelIntegrationTests
from langchain_tests.unit_tests import ChatModelUnitTests

from agent import Front
from agent.errors import DataError, EngineError
from agent.generators.chat_model import ChatModelGenerator
from agent.surfaces.langchain import AgentRunnable, RetuneChatModel
from agent.surfaces.messages import asked
from agent.types import Made

ASK = "can I send it back?"


@pytest.fixture
def make(home: Path):
    """`instant.agent` on the test's home."""
    agents = []

    def build(*answers, **more):
        agents.append(agent(home, *answers, **more))
        return agents[-1]

    yield build
    for each in agents:
        each.close()


@tool
def courier(order: str) -> str:
    """Where a parcel is."""
    return f"{order} is in Utrecht."


def session(name: str, **more) -> dict:
    return {"configurable": {"session": name, "author": "ann"}} | more


# ---- LangChain's own tests

@pytest.fixture(scope="module")
def standing(tmp_path_factory):
    """An agent for all of them."""
    made = agent(tmp_path_factory.mktemp("standard"), "You can send it back.")
    yield made
    made.close()


class Standard:
    """What both suites are told about the model."""

    @pytest.fixture(autouse=True)
    def held(self, standing):
        self.made = standing

    @property
    def chat_model_class(self):
        return RetuneChatModel

    @property
    def chat_model_params(self):
        return {"agent": self.made}

    # Which tool answers is the domain's to decide; what the model says to somebody who binds some is tested below.
    @property
    def has_tool_calling(self):
        return False

    @property
    def has_tool_choice(self):
        return False

    @property
    def has_structured_output(self):
        return False

    # Which bundle answers is the registry's to decide.
    @property
    def supports_model_override(self):
        return False


class TestUnits(Standard, ChatModelUnitTests):
    """LangChain's tests of how a model is made."""


@pytest.mark.asyncio
@pytest.mark.filterwarnings("ignore:The test .* is marked with '@pytest.mark.asyncio' but it is not an async function")
class TestIntegration(Standard, ChatModelIntegrationTests):
    """LangChain's tests of how a model answers."""


# ---- the chat model

def test_an_answer_names_its_bundle_intent_turn_session_and_sources(make):
    made = make("You can send it back.")
    answer = RetuneChatModel(agent=made).invoke(ASK, session("s"))
    about = answer.response_metadata
    assert answer.content == "You can send it back." and about["model_name"] == about["bundle"] == "customer_service@0001"
    assert (about["intent"], about["session_id"], about["state"]) == ("return_policy", "s", "answered")
    assert about["sources"][0]["source"] and made.store.turn(about["turn_id"])["reply"] == answer.content
    assert made.store.session("s", "customer_service")["author"] == "ann"


def test_tokens_are_counted_as_the_generator_tells_them(make):
    class Counting(FakeListChatModel):
        pass

    class Told(ChatModelGenerator):
        async def stream(self, messages, max_tokens, *, session="", made: Made | None = None):
            made.prompt_tokens, made.tokens = 40, 5
            yield "You can."

    answer = RetuneChatModel(agent=make(generator=Told(Counting(responses=["x"])))).invoke(ASK)
    assert answer.usage_metadata == {"input_tokens": 40, "output_tokens": 5, "total_tokens": 45}


def test_a_stream_is_the_answer_in_pieces_and_its_last_one_has_the_rest(make):
    model = RetuneChatModel(agent=make("You can. Send it back. Keep the box."))
    pieces = list(model.stream(ASK))
    assert len(pieces) > 3 and "".join(piece.text for piece in pieces) == "You can. Send it back. Keep the box."
    assert pieces[-1].chunk_position == "last" and pieces[-1].response_metadata["finish_reason"] == "stop"
    assert all(not piece.response_metadata.get("turn_id") for piece in pieces[:-1])


@pytest.mark.parametrize(("stop", "told"), [(["Keep"], "You can. Send it back. "), (["can", "Send"], "You "),
                                            (["back. Ke"], "You can. Send it "),
                                            (["nowhere", ""], "You can. Send it back. Keep the box.")])
def test_what_is_told_ends_at_a_stop_sequence_and_the_log_has_it_all(make, stop, told):
    made = make("You can. Send it back. Keep the box.")
    model = RetuneChatModel(agent=made)
    answer = model.invoke(ASK, stop=stop)
    assert answer.content == told == "".join(piece.text for piece in model.stream(ASK, stop=stop))
    assert RetuneChatModel(agent=made, stop=stop).invoke(ASK).content == told
    assert made.store.turn(answer.response_metadata["turn_id"])["reply"] == "You can. Send it back. Keep the box."


def test_messages_before_the_last_one_are_what_a_call_without_a_session_knows(make):
    made = make("Also 30 days.")
    model = RetuneChatModel(agent=made)
    model.invoke([SystemMessage("Be rude."), HumanMessage("what about a kettle?"), AIMessage("A kettle has 30 days."),
                  HumanMessage("and what"), HumanMessage("about shoes?")])
    contents = [message["content"] for message in made.serving.generator.seen[0][1:]]
    assert contents == ["what about a kettle?", "A kettle has 30 days.", "and what\nabout shoes?"]
    assert "rude" not in str(made.serving.generator.seen)


def test_messages_are_read_as_pairs_whatever_stands_between():
    messages = [AIMessage("Hello, how can I help?"), HumanMessage([{"type": "text", "text": "one"}]),
                AIMessage("", tool_calls=[{"name": "t", "args": {}, "id": "1"}]), ToolMessage("x", tool_call_id="1"),
                AIMessage("two"), HumanMessage("three"), AIMessageChunk("four"), HumanMessage("five")]
    read = asked(messages)
    assert read.text == "five" and read.history == (("one", "two"), ("three", "four"))


@pytest.mark.parametrize(("messages", "sentence"), [
    ([], "last message has to be a person's"), ([AIMessage("hello")], "last message has to be a person's"),
    ([HumanMessage([{"type": "image", "url": "https://x.example/a.png"}])], "reads text alone; leave out pictures")])
def test_what_an_agent_cannot_read_is_refused_with_the_next_step(make, messages, sentence):
    with pytest.raises(DataError, match=sentence):
        RetuneChatModel(agent=make("Fine.")).invoke(messages)


def test_binding_tools_or_a_schema_is_refused_with_the_way_that_works(make):
    model = RetuneChatModel(agent=make("Fine."))
    with pytest.raises(NotImplementedError, match="give an app's tools to Agent.load"):
        model.bind_tools([courier])
    with pytest.raises(NotImplementedError, match="response_metadata"):
        model.with_structured_output({"title": "x", "type": "object", "properties": {}})


def test_a_failing_engine_reaches_the_caller_and_the_callbacks(make):
    class Errors(BaseCallbackHandler):
        def __init__(self):
            self.seen = []

        def on_llm_error(self, error, **more):
            self.seen.append(str(error))

    handler = Errors()
    for model in (RetuneChatModel(agent=make(EngineError("The engine is gone."))),):
        with pytest.raises(EngineError, match="engine is gone"):
            model.invoke(ASK, {"callbacks": [handler]})
        with pytest.raises(EngineError, match="engine is gone"):
            list(model.stream(ASK, {"callbacks": [handler]}))
    assert handler.seen == ["The engine is gone."] * 2


def test_a_cache_of_langchains_never_answers_in_the_place_of_a_turn(make):
    from langchain_core.caches import InMemoryCache
    from langchain_core.globals import set_llm_cache

    made = make("Fine.")
    set_llm_cache(InMemoryCache())
    try:
        for _ in range(2):
            RetuneChatModel(agent=made).invoke(ASK, session("s"))
    finally:
        set_llm_cache(None)
    assert len(made.store.conversation("s")) == 2


def test_a_model_does_not_show_its_agent(make):
    made = make("Fine.")
    made.ask_sync("I am ann@example.org", "s")
    assert len(repr(RetuneChatModel(agent=made))) < 500 and "ann@example.org" not in repr(made)


def test_a_sync_stream_left_early_is_logged_as_cancelled(make):
    made = make("One. Two. Three. Four.")
    for name, runnable in (("s", RetuneChatModel(agent=made)), ("t", AgentRunnable(made))):
        for _ in runnable.stream(ASK, session(name)):
            break
        assert made.store.last_turn(name)["error"] == "cancelled" and len(made.line) == 0


def test_code_inside_an_event_loop_may_call_it_without_await(make):
    async def run() -> AIMessage:
        return RetuneChatModel(agent=make("Fine.")).invoke(ASK)

    assert asyncio.run(run()).content == "Fine."


# ---- the Runnable

def test_a_text_messages_a_prompt_and_a_state_are_answered(make):
    runnable = AgentRunnable(make("Fine."))
    prompt = ChatPromptTemplate.from_messages([("human", "can I send {what} back?")])
    assert runnable.invoke(ASK).content == "Fine."
    assert runnable.invoke([("human", ASK)]).content == runnable.invoke(HumanMessage(ASK)).content == "Fine."
    assert (prompt | runnable | StrOutputParser()).invoke({"what": "a kettle"}) == "Fine."
    assert runnable.invoke({"input": ASK}).content == "Fine."
    state = runnable.invoke({"messages": [{"role": "user", "content": ASK}]})
    assert [type(each) for each in state["messages"]] == [AIMessage]


@pytest.mark.parametrize("wrong", [None, 7, {}, {"question": "x"}, [7], [{"content": "x"}]])
def test_another_shape_is_refused_with_those_that_work(make, wrong):
    with pytest.raises(DataError, match='asked by a text, messages, or a dict with "messages" or "input"'):
        AgentRunnable(make("Fine.")).invoke(wrong)


def test_a_session_goes_on_by_any_of_its_names_and_an_input_may_name_it(make):
    made = make("Fine.")
    runnable = AgentRunnable(made, author="bob")
    for name in ("session", "session_id", "thread_id"):
        runnable.invoke(ASK, {"configurable": {name: "s"}})
    asyncio.run(runnable.ainvoke({"input": ASK, "session": "s", "author": "eve"}))
    list(runnable.stream(ASK, {"configurable": {"session": "s"}}))
    assert len(made.store.conversation("s")) == 5 and made.sessions()[0]["author"] == "bob"


def test_a_batch_answers_each_and_calls_without_a_session_share_nothing(make):
    made = make("Fine.")
    runnable = AgentRunnable(made)
    answers = runnable.batch([ASK] * 4) + asyncio.run(runnable.abatch([ASK] * 4))
    assert len({answer.response_metadata["session_id"] for answer in answers}) == 8
    wrong = asyncio.run(runnable.abatch([ASK, 7], return_exceptions=True))
    assert wrong[0].content == "Fine." and isinstance(wrong[1], DataError)


def told(runnable, input, config=None) -> list[dict]:
    async def run() -> list[dict]:
        return [event async for event in runnable.astream_events(input, config, version="v2")]

    return asyncio.run(run())


def test_events_tell_intent_and_evidence_before_the_text_with_tags_and_metadata(make):
    made = make("You can. Send it back.")
    events = told(AgentRunnable(made), ASK, session("s", tags=["shop"], metadata={"page": "returns"}, run_name="help"))
    names = [event["name"] if event["event"] == "on_custom_event" else event["event"] for event in events]
    assert names[0] == "on_chain_start" and names[-1] == "on_chain_end" and events[0]["name"] == "help"
    assert names.index("intent") < names.index("evidence") < names.index("on_chat_model_stream")
    intent = next(event for event in events if event["name"] == "intent")
    assert intent["data"]["intent"] == "return_policy" and intent["data"]["turn_id"] == made.store.last_turn("s")["id"]
    evidence = next(event for event in events if event["name"] == "evidence")
    assert evidence["data"]["passages"][0]["source"]
    assert all("shop" in event["tags"] and event["metadata"]["page"] == "returns" for event in events)
    pieces = [event["data"]["chunk"].text for event in events if event["event"] == "on_chain_stream"]
    assert "".join(pieces) == "You can. Send it back." == events[-1]["data"]["output"].content


def test_events_tell_a_tool_as_a_run_of_its_own_and_by_name(make):
    events = told(AgentRunnable(make("", usual="order_status", tools={"order_status": courier})), "where is LK-10482?")
    custom = next(event for event in events if event["event"] == "on_custom_event" and event["name"] == "tool")
    assert custom["data"] == {"tool": "courier", "arguments": {"order": "LK-10482"}, "result": "LK-10482 is in Utrecht."}
    start = next(event for event in events if event["event"] == "on_tool_start")
    assert start["name"] == "courier" and start["parent_ids"] == [events[0]["run_id"]]


def test_events_of_a_domains_own_tool_are_told_too(make):
    events = told(AgentRunnable(make("", domain="finance", usual="calculate")), "what is 12 * 7?")
    assert "84" in events[-1]["data"]["output"].content
    assert {"on_tool_start", "on_tool_end"} <= {event["event"] for event in events}


def test_what_a_chat_model_writes_is_heard_by_nobody_before_the_guard_has_seen_it(make):
    made = make(generator=ChatModelGenerator(FakeListChatModel(responses=["You have 30 days. You have 471 days."])))
    assert "471" not in str(told(AgentRunnable(made), "can I send it back within 30 days?"))


def test_callbacks_hear_the_whole_run_also_of_a_sync_call(make):
    class Heard(BaseCallbackHandler):
        def __init__(self):
            self.names = []

        def on_chain_start(self, serialized, inputs, **more):
            self.names.append("chain")

        def on_chat_model_start(self, serialized, messages, **more):
            self.names.append("model")

        def on_custom_event(self, name, data, **more):
            self.names.append(name)

        def on_tool_start(self, serialized, text, **more):
            self.names.append("run of the tool")

    heard = [Heard(), Heard()]
    runnable = AgentRunnable(make("", usual="order_status", tools={"order_status": courier}))
    runnable.invoke("where is LK-10482?", {"callbacks": [heard[0]]})
    list(runnable.stream("where is LK-10482?", {"callbacks": [heard[1]]}))
    assert heard[0].names == heard[1].names == ["chain", "model", "intent", "run of the tool", "tool"]


def test_an_async_stream_left_early_is_logged_as_cancelled(make):
    made = make("One. Two. Three. Four.")

    async def leave() -> None:
        stream = AgentRunnable(made).astream(ASK, session("s"))
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(leave())
    assert made.store.last_turn("s")["error"] == "cancelled"


# ---- in a graph

def test_it_is_a_node_of_a_graph_two_turns_streamed(make):
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.graph import END, START, MessagesState, StateGraph

    made = make("You have 30 days. Keep the box.", "Shoes as well.")
    graph = (StateGraph(MessagesState).add_node("agent", AgentRunnable(made))
             .add_edge(START, "agent").add_edge("agent", END).compile(checkpointer=InMemorySaver()))
    thread = {"configurable": {"thread_id": "t"}}

    async def turn(text: str) -> tuple[list[str], list[AIMessage]]:
        pieces, states = [], []
        async for kind, item in graph.astream({"messages": [("human", text)]}, thread, stream_mode=["messages", "values"]):
            if kind == "messages":
                pieces.append(item[0].text)
                assert item[1]["langgraph_node"] == "agent"
            else:
                states.append(item)
        return pieces, states[-1]["messages"]

    said = ["can I send it back within 30 days?", "and what about shoes?"]

    async def run() -> None:
        pieces, messages = await turn(said[0])
        assert len(pieces) > 2 and "".join(pieces) == "You have 30 days. Keep the box." == messages[-1].content
        pieces, messages = await turn(said[1])
        assert "".join(pieces) == "Shoes as well." and [message.type for message in messages] == ["human", "ai"] * 2

    asyncio.run(run())
    assert [turn["question"] for turn in made.store.conversation("t")] == said
    seen = made.serving.generator.seen[1]
    assert [message["content"] for message in seen[1:3]] == [said[0], "You have 30 days. Keep the box."]


def test_a_front_is_a_runnable_too(home):
    front = Front({name: agent(home, "Fine.", domain=name, usual=None) for name in ("customer_service", "finance")})
    try:
        runnable = AgentRunnable(front)
        assert runnable.model._get_ls_params()["ls_model_name"] == "customer_service+finance"
        answers = [runnable.invoke(text, session("s")) for text in ("credit_score please", "return_policy please")]
        assert [answer.response_metadata["domain"] for answer in answers] == ["finance", "customer_service"]
    finally:
        front.close()


def test_the_real_generator_streams_through_langchain(settings):
    from agent import Agent

    with_models = Agent.load("finance", home=settings.home)
    try:
        pieces = list(RetuneChatModel(agent=with_models).stream("How do credit scores work?"))
        whole = pieces[0]
        for piece in pieces[1:]:
            whole += piece
        assert whole.text and whole.usage_metadata["output_tokens"] > 3 and whole.response_metadata["sources"]
    finally:
        with_models.close()
