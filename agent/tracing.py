"""A turn as OpenTelemetry spans; names are `agent.conventions`.

    invoke_agent finance
    ├── route
    ├── retrieval
    ├── chat smollm2
    └── execute_tool monthly_payment

The parent is the span that is current where the turn begins, so that a turn lies within an app's span or a web framework's.
What a tool or a chat model traces by itself lies within `execute_tool` and `chat`. `route` and `retrieval` are made from the
turn's marks when it has ended. Without the setting `capture_content` nothing that a person, an article, a tool or a model said
is in a span, the words of exceptions neither; with it, what is there is redacted as it is in the store.

Spans are made if the process has set up OpenTelemetry, by itself or by `start`. Where nobody has, nothing of it is imported.
"""

import json
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from agent import conventions as names
from agent.errors import SettingsError
from agent.prompt import MAX_FACTS
from agent.stages import stages

if TYPE_CHECKING:
    from agent.domain import Intent
    from agent.toolbox import Result
    from agent.turn import RunningTurn
    from agent.types import Made

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
LEAVE_S = 3.0
"""Longest wait for a collector at the end."""
PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")


def start() -> Callable[[], None]:
    """Send spans to where the standard OTEL_* variables say, by OTLP over HTTP; gives what sends the rest and ends it.

    Does nothing unless one of ENDPOINTS is set, or where the process has a tracer provider already. SettingsError if it is
    set and cannot be followed. Source: opentelemetry.io/docs/languages/sdk-configuration.
    """
    said = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    off = os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or os.environ.get("OTEL_TRACES_EXPORTER") == "none"
    if said is None or off:
        return lambda: None
    try:
        from opentelemetry import trace
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise SettingsError(f"{said} is set and {error.name} is not installed; `pip install 'retune[otel]'`, "
                            f"or unset {said}.") from error
    for name in PROTOCOLS:
        if (wanted := os.environ.get(name, "http/protobuf")) != "http/protobuf":
            raise SettingsError(f"{name} is {wanted!r} and only http/protobuf is spoken; unset it and let {said} name the "
                                "collector's HTTP port (usually 4318).")
    if isinstance(trace.get_tracer_provider(), TracerProvider):
        return lambda: None
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    provider = TracerProvider(resource=Resource.create({} if named else {"service.name": "retune"}))
    provider.add_span_processor(BatchSpanProcessor(exporter := OTLPSpanExporter()))
    trace.set_tracer_provider(provider)

    def end() -> None:
        patience = threading.Timer(LEAVE_S, exporter.shutdown)  # a collector that is away is tried again for half a minute
        patience.daemon = True
        patience.start()
        provider.shutdown()
        patience.cancel()

    return end


class Trace:
    """`with` it round a running turn; where OpenTelemetry is not set up, everything here does nothing."""

    def __init__(self, running: "RunningTurn") -> None:
        self.running = running
        self.span: Any = None
        self._tracer: Any = None
        self._begun = 0

    def __enter__(self) -> Self:
        if not (api := sys.modules.get("opentelemetry.trace")):
            return self
        agent, turn = self.running.agent, self.running.turn
        self._tracer, self._begun = api.get_tracer("retune"), time.time_ns()
        self._common = {names.PROVIDER: "retune", names.REQUEST_MODEL: _short(agent.settings.generator)}
        span = self._tracer.start_span(f"{names.INVOKE_AGENT} {turn.domain}", start_time=self._begun, attributes={
            names.OPERATION: names.INVOKE_AGENT, names.AGENT_NAME: turn.domain, names.AGENT_VERSION: turn.bundle,
            names.CONVERSATION: turn.session, names.TURN: turn.id, **self._common})
        if span.get_span_context().is_valid:  # else the API alone is there
            self.span = span
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trail: Any) -> None:
        if self.span is None:
            return
        turn = self.running.turn
        if self.span.is_recording():
            self._past()
            self._set(self.span, {names.STATE: turn.state, names.BUNDLE: turn.bundle, names.INTENT: turn.intent,
                                  names.FLAGS: turn.flags, names.ABSTAINED: turn.abstained, names.ENGINE: turn.engine or None,
                                  names.INPUT_TOKENS: turn.prompt_tokens or None, names.OUTPUT_TOKENS: turn.tokens or None})
            self._say(self.span, {names.INPUT_MESSAGES: _messages([{"role": "user", "content": turn.redacted}]),
                                  names.OUTPUT_MESSAGES: _messages([{"role": "assistant", "content": turn.reply}])})
            if error is not None:
                self._fail(self.span, error)
        self.span.end()

    @contextmanager
    def tool(self, intent: "Intent", arguments: Mapping[str, Any]) -> Iterator[Callable[["Result"], None]]:
        """A span that is current while the tool runs; call what it gives with the tool's result."""
        if self.span is None:
            yield lambda result: None
            return
        name = intent.tool.removeprefix("mcp:").rpartition(":")[2]
        kind = "extension" if intent.tool.startswith("mcp:") else "function"
        with self._child(f"{names.EXECUTE_TOOL} {name}", {names.OPERATION: names.EXECUTE_TOOL, names.TOOL_NAME: name,
                                                          names.TOOL_TYPE: kind}) as span, self._current(span):
            self._say(span, {names.TOOL_ARGUMENTS: json.dumps(dict(arguments), default=str)})

            def told(result: "Result") -> None:
                self._say(span, {names.TOOL_RESULT: result.summary})
                if result.failed:
                    self._failed(span, result.error or "_OTHER")

            yield told

    def chat(self, pieces: AsyncIterator[str], made: "Made") -> AsyncIterator[str]:
        """The generator's pieces, and a span from the first being asked for to the last."""
        return pieces if self.span is None else self._chat(pieces, made)

    async def _chat(self, pieces: AsyncIterator[str], made: "Made") -> AsyncIterator[str]:
        running, begun, first = self.running, time.perf_counter(), None
        served = running.agent.settings.served
        common = self._common | ({names.PROVIDER: "vllm"} if served else {})
        asked = {names.OPERATION: names.CHAT, names.CONVERSATION: running.turn.session, names.REQUEST_STREAM: True,
                 names.MAX_TOKENS: running.agent.settings.max_new_tokens, names.RESPONSE_MODEL: running.turn.bundle, **common}
        written: list[str] = []
        with self._child(f"{names.CHAT} {common[names.REQUEST_MODEL]}", asked, client=served) as span:
            self._say(span, {names.INPUT_MESSAGES: _messages(running.messages)})
            try:
                async with aclosing(pieces):
                    while True:
                        with self._current(span):  # not while whoever listens has its turn: that is another's context
                            try:
                                piece = await anext(pieces)
                            except StopAsyncIteration:
                                return
                        first = first or time.perf_counter() - begun
                        written.append(piece)
                        yield piece
            finally:
                engine, _, place = made.engine.partition(" ")
                server = urlsplit(place) if engine == "vllm" else None
                self._set(span, {names.PROVIDER: engine or None, names.ENGINE: made.engine or None, names.FIRST_CHUNK: first,
                                 names.INPUT_TOKENS: made.prompt_tokens, names.OUTPUT_TOKENS: made.tokens,
                                 names.SERVER_ADDRESS: server and server.hostname, names.SERVER_PORT: server and server.port})
                self._say(span, {names.OUTPUT_MESSAGES: _messages([{"role": "assistant", "content": "".join(written)}])})

    def _past(self) -> None:
        """Spans of the stages that have none of their own, from the turn's marks."""
        turn = self.running.turn
        for stage, begin, end in stages(turn.timings_ms):
            begin_ns, end_ns = (self._begun + int(at * 1e9) for at in (begin, end))
            if stage == "route" and turn.route:
                span = self._tracer.start_span(names.ROUTE, self._within(), start_time=begin_ns)
                self._set(span, {names.INTENT: turn.route.intent, names.CONFIDENCE: turn.route.confidence,
                                 names.OUT_OF_SCOPE: turn.route.oos, names.BUNDLE: turn.bundle})
                span.end(end_ns)
            elif stage == "retrieve":
                span = self._tracer.start_span(names.RETRIEVAL, self._within(), start_time=begin_ns)
                self._set(span, {names.OPERATION: names.RETRIEVAL, names.TOP_K: MAX_FACTS,
                                 names.PASSAGES: len(turn.passages)})
                self._say(span, {names.QUERY: turn.redacted,
                                 names.DOCUMENTS: json.dumps([{"id": each.id} for each in turn.passages])})
                span.end(end_ns)

    def _within(self) -> Any:
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(self.span)

    @contextmanager
    def _child(self, name: str, attributes: dict[str, Any], client: bool = False) -> Iterator[Any]:
        """A span below the turn's that has failed if the block does."""
        from opentelemetry.trace import SpanKind

        kind = SpanKind.CLIENT if client else SpanKind.INTERNAL
        span = self._tracer.start_span(name, self._within(), kind=kind, attributes=attributes)
        try:
            yield span
        except GeneratorExit:  # no more is wanted of it: enough was said, or nobody listens, which the turn's own span tells
            raise
        except BaseException as error:
            self._fail(span, error)
            raise
        finally:
            span.end()

    @staticmethod
    @contextmanager
    def _current(span: Any) -> Iterator[None]:
        from opentelemetry import context
        from opentelemetry.trace import set_span_in_context

        token = context.attach(set_span_in_context(span))
        try:
            yield
        finally:
            context.detach(token)

    def _fail(self, span: Any, error: BaseException) -> None:
        """Note an exception; one that only ends a turn that nobody waits for is told as cancelled."""
        if not isinstance(error, Exception):
            return self._failed(span, "cancelled")
        if self.running.agent.settings.capture_content:
            span.record_exception(error)
        else:  # its words, and those of its trace, could be somebody's
            span.add_event(names.EXCEPTION, {names.EXCEPTION_TYPE: type(error).__qualname__})
        self._failed(span, type(error).__qualname__)

    @staticmethod
    def _failed(span: Any, kind: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        span.set_attribute(names.ERROR_TYPE, kind)
        span.set_status(Status(StatusCode.ERROR, kind))

    @staticmethod
    def _set(span: Any, attributes: Mapping[str, Any]) -> None:
        """What is known; None is not."""
        span.set_attributes({name: value for name, value in attributes.items() if value is not None})

    def _say(self, span: Any, content: Mapping[str, str]) -> None:
        """What somebody said, only if that is wished."""
        if self.running.agent.settings.capture_content:
            span.set_attributes(dict(content))


def _messages(said: list[dict[str, str]]) -> str:
    """Messages as the conventions write them."""
    return json.dumps([{"role": each["role"], "parts": [{"type": "text", "content": each["content"]}]} for each in said],
                      ensure_ascii=False)


def _short(model: str) -> str:
    """A model's name; of a folder only the last part, since a path tells of the machine."""
    return os.path.basename(model.rstrip("/\\")) if os.path.isabs(model) or model[:1] in ".~" else model
