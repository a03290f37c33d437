"""Turns as OpenTelemetry spans, caught by the SDK's own exporter in memory."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import parts
import pytest
from langchain_core.tools import ToolException, tool
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from agent import conventions as names
from agent import tracing
from agent.agent import Agent
from agent.errors import Busy, EngineError, SettingsError
from agent.prompt import MAX_FACTS
from agent.types import Delta

SECRET = "zanzibar"


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What was traced; the process's provider is set once, its processor for each test."""
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        trace.set_tracer_provider(provider := TracerProvider())
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def intent_of(agent: Agent, answer: str) -> str:
    return next(name for name, intent in agent.domain.intents.items() if intent.answer == answer)


@pytest.fixture
def agent(home: Path) -> Iterator[Agent]:
    made = parts.agent(home)
    made.serving = replace(made.serving, generator=parts.Counting("Yes, you may. ", 90, 5))
    yield made
    made.close()


def test_a_turn_from_articles_is_an_agent_that_routes_retrieves_and_chats(agent, spans):
    done = agent.ask_sync(f"{intent_of(agent, 'docs')} {SECRET}", "s1")
    found = by_name(spans)
    assert set(found) == {"invoke_agent customer_service", "route", "retrieval", "chat smollm2"}
    root = found["invoke_agent customer_service"]
    assert root.parent is None and root.kind is SpanKind.INTERNAL and root.status.status_code is StatusCode.UNSET
    assert dict(root.attributes) == {
        "gen_ai.operation.name": "invoke_agent", "gen_ai.provider.name": "retune", "gen_ai.agent.name": "customer_service",
        "gen_ai.agent.version": "customer_service@0001", "gen_ai.conversation.id": "s1", "gen_ai.request.model": "smollm2",
        "gen_ai.usage.input_tokens": 90, "gen_ai.usage.output_tokens": 5, "retune.turn.id": done.turn.id,
        "retune.bundle": "customer_service@0001", "retune.state": "answered", "retune.intent": done.turn.intent,
        "retune.flags": (), "retune.abstained": False, "retune.engine": "scripted"}
    for name, span in found.items():
        if span is not root:
            assert span.parent.span_id == root.context.span_id, name
            assert root.start_time <= span.start_time <= span.end_time <= root.end_time, name
    assert found["route"].end_time <= found["retrieval"].end_time <= found["chat smollm2"].end_time
    chat = dict(found["chat smollm2"].attributes)
    assert chat.pop("gen_ai.response.time_to_first_chunk") >= 0
    assert chat == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "scripted", "gen_ai.conversation.id": "s1",
        "gen_ai.request.model": "smollm2", "gen_ai.response.model": "customer_service@0001", "gen_ai.request.max_tokens": 80,
        "gen_ai.request.stream": True, "gen_ai.usage.input_tokens": 90, "gen_ai.usage.output_tokens": 5,
        "retune.engine": "scripted"}
    assert found["route"].attributes["retune.confidence"] == 0.95
    assert dict(found["retrieval"].attributes) == {"gen_ai.operation.name": "retrieval", "gen_ai.retrieval.top_k": MAX_FACTS,
                                                   "retune.passages": len(done.turn.passages)}


def test_a_servers_answer_is_a_call_to_that_server(home, spans):
    agent = parts.agent(home, engine="vllm")
    agent.serving = replace(agent.serving, generator=parts.Counting("Yes. ", 1, 1, "vllm http://models.example:8001"))
    agent.ask_sync(intent_of(agent, "docs"))
    chat = by_name(spans)["chat smollm2"]
    assert chat.kind is SpanKind.CLIENT and chat.attributes["gen_ai.provider.name"] == "vllm"
    assert (chat.attributes["server.address"], chat.attributes["server.port"]) == ("models.example", 8001)
    agent.close()


def test_nothing_that_was_said_is_in_a_span(agent, spans):
    agent.serving = parts.with_generator(agent.serving, f"Our {SECRET} is fine. ", EngineError(f"{SECRET} is not served."))
    docs = intent_of(agent, "docs")
    agent.ask_sync(f"{docs} {SECRET}", "s")
    with pytest.raises(EngineError):
        agent.ask_sync(f"{docs} {SECRET}", "s")
    told = "".join(span.to_json() for span in spans.get_finished_spans())
    assert SECRET not in told and "EngineError" in told


def test_content_is_there_where_it_was_asked_for_and_is_redacted(home, spans):
    agent = parts.agent(home, "I wrote to [EMAIL_1]. ", capture_content=True)
    agent.ask_sync(f"{intent_of(agent, 'docs')} I am anna.kovacs@example.org", "s")
    found = by_name(spans)
    root, chat = found["invoke_agent customer_service"].attributes, found["chat smollm2"].attributes
    (said,) = json.loads(root[names.INPUT_MESSAGES])
    assert said["role"] == "user" and "[EMAIL_1]" in said["parts"][0]["content"]
    assert "I wrote to [EMAIL_1]." in json.loads(root[names.OUTPUT_MESSAGES])[0]["parts"][0]["content"]
    assert json.loads(chat[names.INPUT_MESSAGES])[0]["role"] == "system"
    assert json.loads(found["retrieval"].attributes[names.DOCUMENTS])[0]["id"]
    assert "anna" not in "".join(span.to_json() for span in spans.get_finished_spans())
    agent.close()


def test_what_an_apps_tool_traces_lies_within_its_call_and_the_turn_within_what_the_app_traces(home, spans):
    of_app = trace.get_tracer("app")

    @tool
    def hours(zone: str = "") -> str:
        """When we are open."""
        with of_app.start_as_current_span("database"):
            return "Always."

    agent = parts.agent(home, tools={"opening_hours": hours})
    with of_app.start_as_current_span("GET /chat"):
        agent.ask_sync("opening_hours", "s")
        assert trace.get_current_span().name == "GET /chat"
    found = by_name(spans)
    assert found["database"].parent.span_id == found["execute_tool opening_hours"].context.span_id
    assert found["execute_tool opening_hours"].parent.span_id == found["invoke_agent customer_service"].context.span_id
    assert found["invoke_agent customer_service"].parent.span_id == found["GET /chat"].context.span_id
    agent.close()


def test_a_tool_is_named_and_its_words_are_not(agent, spans):
    done = agent.ask_sync("order_status LK-10482", "s")
    assert done.turn.state == "done" and "LK-10482" in done.reply
    call = by_name(spans)["execute_tool order_status"]
    assert dict(call.attributes) == {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "order_status",
                                     "gen_ai.tool.type": "function"}
    assert "LK-10482" not in "".join(span.to_json() for span in spans.get_finished_spans())


def test_a_tool_that_fails_is_an_error_of_what_it_raised(home, spans):
    @tool
    def hours(zone: str = "") -> str:
        """When we are open."""
        raise ToolException(f"{SECRET} is closed")

    agent = parts.agent(home, tools={"opening_hours": hours})
    assert agent.ask_sync("opening_hours").turn.state == "failed"
    call = by_name(spans)["execute_tool opening_hours"]
    assert call.status.status_code is StatusCode.ERROR and call.attributes["error.type"] == "ToolException"
    assert SECRET not in call.to_json()
    agent.close()


@pytest.mark.parametrize("failure", [Busy("All servers are busy."), EngineError("No.")])
def test_a_failure_is_an_error_of_its_class(agent, spans, failure):
    agent.serving = parts.with_generator(agent.serving, failure)
    with pytest.raises(EngineError):
        agent.ask_sync(intent_of(agent, "docs"))
    for name in ("invoke_agent customer_service", "chat smollm2"):
        span = by_name(spans)[name]
        assert span.status.status_code is StatusCode.ERROR and span.attributes["error.type"] == type(failure).__name__
        assert [event.attributes["exception.type"] for event in span.events] == [type(failure).__name__]


def test_the_fallback_chats_in_a_span_of_its_own(agent, spans):
    busy = parts.with_generator(agent.serving, Busy("All are busy."))
    agent.serving = replace(busy, fallback=lambda: parts.Counting("Yes. ", 1, 1))
    agent.ask_sync(intent_of(agent, "docs"))
    first, second = (span for span in spans.get_finished_spans() if span.name == "chat smollm2")
    assert first.attributes["error.type"] == "Busy" and second.status.status_code is StatusCode.UNSET
    root = by_name(spans)["invoke_agent customer_service"]
    assert root.status.status_code is StatusCode.UNSET and root.attributes["retune.flags"][0] == "fallback"


def test_a_turn_that_nobody_waits_for_ends_its_spans_as_cancelled_and_leaves_the_callers_span_current(agent, spans):
    agent.serving = parts.with_generator(agent.serving, "One is here. Two is there. Three is nowhere.")

    async def leave() -> None:
        with trace.get_tracer("app").start_as_current_span("GET /chat"):
            events = agent.stream(intent_of(agent, "docs"))
            while not isinstance(await anext(events), Delta):
                assert trace.get_current_span().name == "GET /chat"
            await events.aclose()
            assert trace.get_current_span().name == "GET /chat"

    asyncio.run(leave())
    found = by_name(spans)
    root, chat = found["invoke_agent customer_service"], found["chat smollm2"]
    assert root.attributes["error.type"] == "cancelled" and not root.events and chat.status.status_code is StatusCode.UNSET


def test_turns_side_by_side_keep_their_own_spans(agent, spans):
    async def ask_all() -> None:
        await asyncio.gather(*(agent.ask(f"{intent_of(agent, 'docs')} {n}", f"s{n}") for n in range(5)))

    asyncio.run(ask_all())
    roots = {span.context.span_id: span for span in spans.get_finished_spans() if span.name.startswith("invoke_agent")}
    chats = [span for span in spans.get_finished_spans() if span.name.startswith("chat")]
    assert len(roots) == len(chats) == 5 == len({span.parent.span_id for span in chats})
    for chat in chats:
        assert roots[chat.parent.span_id].attributes[names.CONVERSATION] == chat.attributes[names.CONVERSATION]


def test_the_names_are_those_of_the_conventions():
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes

    theirs = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    ours = {value for value in vars(names).values() if isinstance(value, str) and value.startswith("gen_ai.")}
    assert ours - theirs == {"gen_ai.retrieval.top_k"}  # the package is of the conventions before they moved
    operations = {each.value for each in gen_ai_attributes.GenAiOperationNameValues}
    assert {names.INVOKE_AGENT, names.CHAT, names.EXECUTE_TOOL, names.RETRIEVAL} <= operations


def test_a_model_in_a_folder_is_named_without_the_folder():
    assert tracing._short("/srv/models/house-7b/") == "house-7b" and tracing._short("org/house-7b") == "org/house-7b"


def fresh(code: str, home: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Code in a process of its own, beside a file of fake parts."""
    place = os.pathsep.join(map(str, (Path(__file__).parent.parent, Path(__file__).parent)))
    return subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": place, "HOME_OF_IT": str(home)} | env,
                          text=True, capture_output=True)


TURN = """
import os, sys
from pathlib import Path
import parts
from agent import tracing
end = tracing.start()
agent = parts.agent(Path(os.environ["HOME_OF_IT"]), "You have 30 days. ")
print(agent.ask_sync("return_policy").turn.state)
agent.close()
end()
"""


def test_a_turn_loads_nothing_of_opentelemetry_where_nobody_set_it_up(home):
    told = fresh(TURN + "print(sorted(name for name in sys.modules if name.startswith('opentelemetry')))", home)
    assert told.stdout.split() == ["answered", "[]"], told.stderr


class Collector(BaseHTTPRequestHandler):
    """Keeps what OTLP/HTTP clients send."""

    got: ClassVar[list[tuple[str, bytes]]] = []

    def do_POST(self) -> None:
        self.got.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def test_spans_are_sent_to_the_collector_that_the_environment_names(home):
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        told = fresh(TURN, home, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{server.server_port}",
                     OTEL_EXPORTER_OTLP_COMPRESSION="none")
        server.shutdown()
    assert told.stdout.split() == ["answered"], told.stderr
    assert {path for path, _ in Collector.got} == {"/v1/traces"}
    sent = [resource for _, body in Collector.got for resource in ExportTraceServiceRequest.FromString(body).resource_spans]
    assert {value.value.string_value for each in sent for value in each.resource.attributes
            if value.key == "service.name"} == {"retune"}
    assert {span.name for each in sent for scope in each.scope_spans for span in scope.spans} == {
        "invoke_agent customer_service", "route", "retrieval", "chat smollm2"}


def test_a_collector_that_is_away_costs_no_answer(home):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        told = fresh(TURN, home, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free.getsockname()[1]}",
                     OTEL_EXPORTER_OTLP_TIMEOUT="1")
    assert told.stdout.split() == ["answered"] and told.returncode == 0


def test_what_is_missing_for_sending_is_a_sentence(monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(SettingsError, match=r"ENDPOINT is set and .* is not installed; `pip install 'retune\[otel\]'`"):
        tracing.start()
    monkeypatch.undo()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
    with pytest.raises(SettingsError, match="only http/protobuf is spoken"):
        tracing.start()


def test_nothing_is_set_up_unless_the_environment_wishes_it(monkeypatch):
    before = trace.get_tracer_provider()
    tracing.start()()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    for name, value in (("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")):
        with monkeypatch.context() as at:
            at.setenv(name, value)
            tracing.start()()
    assert trace.get_tracer_provider() is before
