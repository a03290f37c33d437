"""An agent for LangChain: as a chat model, and as a Runnable for chains and graphs. Needs langchain-core alone.

Both take an Agent or a Front, and leave all that an answer is made of to it. Custom events `intent`, `evidence` and `tool` of
the run around the model say what happens meanwhile; a domain's tools are runs of their own. The session is
`config["configurable"]["session"]` (`session_id` and `thread_id` mean the same), who writes is `["author"]`. Without a session
every call is a conversation of its own, and the messages before the last one are what is known of it.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, closing, suppress
from typing import Any, NoReturn

from langchain_core.callbacks import (
    AsyncCallbackManagerForLLMRun,
    BaseCallbackManager,
    CallbackManagerForLLMRun,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.base import LangSmithParams
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, convert_to_messages
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config
from pydantic import Field

from agent.errors import DataError
from agent.surfaces.messages import Writer, asked, custom
from agent.surfaces.stepping import stepped
from agent.types import Event

SESSIONS = ("session", "session_id", "thread_id")
"""Names of the session in a config, the first that is there."""


class RetuneChatModel(BaseChatModel):
    """An agent as a chat model: `RetuneChatModel(agent=Agent.load("finance")).invoke("How do credit scores work?")`.

    Answers are AIMessages: `usage_metadata` counts tokens that the generator read and wrote (0 where a tool or a fixed text
    answered), `response_metadata` has the bundle (also as `model_name`), domain, intent, confidence, state, abstained, turn_id
    (for `agent.rate`), session_id, sources [{"id", "title", "source"}], tools, flags, engine and timings_ms.

    The last message has to be a person's and text; DataError says so. System messages are left out: a domain has a persona of
    its own. `stop` ends what is told at the first stop sequence, while the turn is logged whole. Temperature and the like
    have no effect: answers are greedy, their length is the agent's setting `max_new_tokens`. A cache is never asked, since an
    answer from it would be no turn. Raises RetuneError as the agent does.
    """

    agent: Any = Field(repr=False)
    """An Agent or a Front; whoever made it closes it."""
    session: str | None = None
    """Of calls whose config names none."""
    author: str = ""
    """Who writes, where the config does not say."""
    stop: list[str] | None = None
    """Stop sequences of calls that give none."""
    cache: Any = False

    @property
    def _llm_type(self) -> str:
        return "retune"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_name": _name(self.agent)}

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> NoReturn:
        """Refused: which tool answers is the domain's to decide. Give an app's tools to `Agent.load(..., tools=...)`."""
        raise NotImplementedError("An agent calls the tools of its domain; give an app's tools to Agent.load(..., "
                                  'tools={"intent": tool}), by the intent that each answers.')

    def with_structured_output(self, schema: Any, **kwargs: Any) -> NoReturn:
        """Refused: an agent answers in sentences, and `response_metadata` has the rest as data."""
        raise NotImplementedError("An agent answers in sentences; take intent, sources and tools from response_metadata.")

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        """One answer as an AIMessage."""
        return super().invoke(input, config, **self._placed(config, kwargs))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AIMessage:
        """One answer as an AIMessage."""
        return await super().ainvoke(input, config, **self._placed(config, kwargs))

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """The answer as AIMessageChunks, the last of which has usage and metadata."""
        return super().stream(input, config, **self._placed(config, kwargs))

    def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """The answer as AIMessageChunks, the last of which has usage and metadata."""
        return super().astream(input, config, **self._placed(config, kwargs))

    def stream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As LangChain says."""
        return super().stream_events(input, config, **self._placed(config, kwargs))

    def astream_events(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """As LangChain says. Custom events need a run around the model, as AgentRunnable is one."""
        return super().astream_events(input, config, **self._placed(config, kwargs))

    def _placed(self, config: RunnableConfig | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        return place_of(config) | kwargs

    def _events(self, messages: list[BaseMessage], session: str | None = None, author: str = "",
                **_: Any) -> AsyncIterator[Event]:
        wanted = asked(messages)
        return self.agent.stream(wanted.text, session or self.session, author or self.author, wanted.history)

    async def _astream(self, messages: list[BaseMessage], stop: list[str] | None = None,
                       run_manager: AsyncCallbackManagerForLLMRun | None = None,
                       **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        writer, heard = Writer(stop or self.stop or ()), _inside_a_run()
        async with aclosing(self._events(messages, **kwargs)) as events:
            async for event in events:
                if heard and (told := custom(event)):
                    await adispatch_custom_event(*told)
                for chunk in writer.chunks(event):
                    yield chunk

    def _stream(self, messages: list[BaseMessage], stop: list[str] | None = None,
                run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        writer, heard = Writer(stop or self.stop or ()), _inside_a_run()
        with closing(stepped(lambda: self._events(messages, **kwargs))) as events:
            for event in events:
                if heard and (told := custom(event)):
                    dispatch_custom_event(*told)
                yield from writer.chunks(event)

    async def _agenerate(self, messages: list[BaseMessage], stop: list[str] | None = None,
                         run_manager: AsyncCallbackManagerForLLMRun | None = None, **kwargs: Any) -> ChatResult:
        return await agenerate_from_stream(self._astream(messages, stop, run_manager, **kwargs))

    def _generate(self, messages: list[BaseMessage], stop: list[str] | None = None,
                  run_manager: CallbackManagerForLLMRun | None = None, **kwargs: Any) -> ChatResult:
        return generate_from_stream(self._stream(messages, stop, run_manager, **kwargs))

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        known = super()._get_ls_params(stop or self.stop, **kwargs)
        return {"ls_model_name": _name(self.agent)} | known | {"ls_provider": "retune"}


class AgentRunnable(Runnable[Any, Any]):
    """An agent in a chain or as a node of a graph: `graph.add_node("agent", AgentRunnable(agent))`.

    A text, messages or a prompt's value give an AIMessage, as of RetuneChatModel, in pieces where it is streamed. A dict with
    `messages`, as a graph's state is, gives {"messages": [AIMessage]}; one with `input` (a text or messages) an AIMessage.
    A dict may name `session` and `author` too, over the config's. Tags, metadata, callbacks and run names of the config hold
    for the run and those in it. DataError for an input of another shape; else raises RetuneError as the agent does.

    Its custom events, also in `astream_events`: `intent` {"intent", "confidence", "oos", "ranking", "state", "slots", "domain",
    "bundle", "turn_id", "session_id"}, `evidence` {"passages": [{"id", "title", "heading", "source", "text"}]} and `tool`
    {"tool", "arguments", "result"}.
    """

    def __init__(self, agent: Any, *, author: str = "", name: str = "retune") -> None:
        """`agent`: an Agent or a Front; whoever made it closes it."""
        self.model, self.name = RetuneChatModel(agent=agent, author=author), name

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """One answer."""
        return self._call_with_config(self._answer, input, config, **kwargs)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """One answer."""
        return await self._acall_with_config(self._aanswer, input, config, **kwargs)

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """The answer in pieces; that to a graph's state in one."""
        return self._transform_stream_with_config(iter([input]), self._pieces, config, **kwargs)

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """The answer in pieces; that to a graph's state in one."""
        async def once() -> AsyncIterator[Any]:
            yield input

        async with aclosing(self._atransform_stream_with_config(once(), self._apieces, config, **kwargs)) as pieces:
            async for piece in pieces:
                yield piece

    def _answer(self, input: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        messages, place, graph = read(input)
        answer = self.model.invoke(messages, config, **place_of(config) | place | kwargs)
        return {"messages": [answer]} if graph else answer

    async def _aanswer(self, input: Any, config: RunnableConfig, **kwargs: Any) -> Any:
        messages, place, graph = read(input)
        answer = await self.model.ainvoke(messages, config, **place_of(config) | place | kwargs)
        return {"messages": [answer]} if graph else answer

    def _pieces(self, inputs: Iterator[Any], config: RunnableConfig, **kwargs: Any) -> Iterator[Any]:
        input = next(inputs)
        messages, place, graph = read(input)
        if graph:
            yield self._answer(input, config, **kwargs)
        else:
            yield from self.model.stream(messages, config, **place_of(config) | place | kwargs)

    async def _apieces(self, inputs: AsyncIterator[Any], config: RunnableConfig, **kwargs: Any) -> AsyncIterator[Any]:
        input = await anext(inputs)
        messages, place, graph = read(input)
        if graph:
            yield await self._aanswer(input, config, **kwargs)
        else:
            async with aclosing(self.model.astream(messages, config, **place_of(config) | place | kwargs)) as pieces:
                async for piece in pieces:
                    yield piece


def read(input: Any) -> tuple[list[BaseMessage], dict[str, Any], bool]:
    """(messages, session and author if the input names them, whether it is a graph's state); DataError for another shape."""
    place: dict[str, Any] = {}
    graph = isinstance(input, dict) and "messages" in input
    if isinstance(input, dict):
        place = {name: input[name] for name in ("session", "author") if input.get(name)}
        input = input.get("messages", input.get("input"))
    if isinstance(input, str):
        return [HumanMessage(input)], place, graph
    if isinstance(input, PromptValue):
        return input.to_messages(), place, graph
    if isinstance(input, BaseMessage):
        return [input], place, graph
    with suppress(ValueError, TypeError, NotImplementedError, KeyError):  # of LangChain, for what is no message
        if isinstance(input, Sequence):
            return convert_to_messages(input), place, graph
    raise DataError('An agent is asked by a text, messages, or a dict with "messages" or "input".')


def place_of(config: RunnableConfig | None) -> dict[str, Any]:
    """{"session", "author"} as far as the config's `configurable` names them."""
    told = ensure_config(config).get("configurable", {})
    session = next((str(told[name]) for name in SESSIONS if told.get(name)), "")
    return {name: value for name, value in (("session", session), ("author", str(told.get("author") or ""))) if value}


def _inside_a_run() -> bool:
    """Whether a run is around this one that custom events belong to, with somebody who hears them."""
    around = ensure_config().get("callbacks")
    return isinstance(around, BaseCallbackManager) and bool(around.parent_run_id and around.handlers)


def _name(agent: Any) -> str:
    """The domain, or those of a front."""
    return agent.domain.name if hasattr(agent, "domain") else "+".join(agent.agents)
