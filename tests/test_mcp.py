"""Retune as an MCP server, asked by the real client; and a domain whose intent is answered by an MCP server's tool."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import parts
import pytest

from agent import toolbox
from agent.domain import Domain, find
from agent.errors import DomainError, EngineError, SettingsError
from agent.front import Front
from agent.surfaces.mcp import make_server

ROOT = Path(__file__).parent.parent
LIBRARY = {"command": sys.executable, "args": [str(ROOT / "tests" / "faults" / "mcp_server.py")], "timeout_s": 60}


def talk(server: Any, work: Callable[[Any], Awaitable[Any]]) -> Any:
    """What `work(client)` gives, with a client of the server: one in this process, or a program that is started."""
    from mcp import Client

    async def held() -> Any:
        async with Client(server) as client:
            return await work(client)

    return asyncio.run(held())


@pytest.fixture
def front(home: Path) -> Iterator[Front]:
    made = Front({"customer_service": parts.agent(home, "Yes, you may. "),
                  "finance": parts.agent(home, "An index fund follows the market. ", name="finance")})
    yield made
    made.close()


@pytest.fixture
def server(front: Front) -> Any:
    return make_server({name: agent.domain.title for name, agent in front.agents.items()}, lambda: front, "ann")


def test_a_client_asks_goes_on_and_says_what_it_thinks(server, front):
    async def work(client: Any) -> tuple[Any, Any, Any, Any]:
        first = await client.call_tool("ask", {"text": "cancel_order", "domain": "customer_service"})
        session = first.structured_content["session_id"]
        second = await client.call_tool("ask", {"text": "LK-10482", "domain": "customer_service", "session_id": session})
        docs = await client.call_tool("ask", {"text": "return_policy", "domain": "customer_service"})
        noted = await client.call_tool("feedback", {"turn_id": docs.structured_content["turn_id"], "kind": "correction",
                                                    "value": "Within 30 days."})
        return first, second, docs, noted

    first, second, docs, noted = talk(server, work)
    assert first.structured_content["state"] == "asking" and second.structured_content["state"] == "confirming"
    assert second.structured_content["session_id"] == first.structured_content["session_id"]
    said = docs.structured_content
    assert said["answer"] == docs.content[0].text == "Yes, you may." and said["intent"] == "return_policy"
    assert said["sources"][0]["title"] and said["bundle"] == "customer_service@0001" and said["domain"] == "customer_service"
    assert not noted.is_error
    kept, = front.agents["finance"].store.feedback_of(said["turn_id"])
    assert (kept["author"], kept["kind"], kept["value"]) == ("ann", "correction", "Within 30 days.")


def test_the_message_itself_finds_its_domain(server):
    done = talk(server, lambda client: client.call_tool("ask", {"text": "investment_products"}))
    assert done.structured_content["domain"] == "finance"


def test_tools_describe_the_domains_and_say_what_they_change(server):
    listed = talk(server, lambda client: client.list_tools()).tools
    ask, feedback = sorted(listed, key=lambda each: each.name)
    assert "finance (" in ask.description
    assert not ask.annotations.read_only_hint and feedback.annotations.idempotent_hint
    assert set(ask.input_schema["required"]) == {"text"} and "reply" not in json.dumps(feedback.input_schema["properties"]["kind"])
    assert set(ask.output_schema["required"]) >= {"answer", "sources", "bundle", "turn_id", "session_id"}


@pytest.mark.parametrize(("name", "arguments", "said"), [
    ("ask", {"text": "x", "domain": "astrology"}, "There is no domain 'astrology' here; it is one of customer_service, finance"),
    ("feedback", {"turn_id": "none", "kind": "up"}, "There is no turn 'none'"),
    ("feedback", {"turn_id": "none", "kind": "reply", "value": "x"}, "kind"),
    ("ask", {}, "text"),
])
def test_a_mistake_is_a_sentence(server, name, arguments, said):
    result = talk(server, lambda client: client.call_tool(name, arguments))
    assert result.is_error and said in result.content[0].text and "Traceback" not in result.content[0].text


def test_a_failed_answer_says_why_and_is_logged(server, front):
    agent = front.agents["customer_service"]
    agent.serving = parts.with_generator(agent.serving, EngineError("No server answers; start one."))
    result = talk(server, lambda client: client.call_tool("ask", {"text": "return_policy", "domain": "customer_service"}))
    assert result.is_error and "No server answers; start one." in result.content[0].text


def test_the_same_is_served_over_http(server):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    threading.Thread(target=lambda: server.run("streamable-http", port=port), daemon=True).start()
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.05)
    done = talk(f"http://127.0.0.1:{port}/mcp", lambda client: client.call_tool("ask", {"text": "investment_products"}))
    assert done.structured_content["domain"] == "finance"


def test_the_command_speaks_nothing_but_the_protocol(settings, monkeypatch):
    from mcp import StdioServerParameters

    program = StdioServerParameters(command=sys.executable, args=["-m", "agent.surfaces.cli", "mcp", "finance"],
                                    env={"RETUNE_HOME": str(settings.home), "PYTHONPATH": str(ROOT)})

    async def work(client: Any) -> Any:
        return await client.call_tool("ask", {"text": "What would a loan of $12,000 at 6.5% over 5 years cost me a month?"})

    result = talk(program, work)
    assert "$234.79" in result.content[0].text and result.structured_content["bundle"] == "finance@0001"


def test_a_wrong_domain_is_told_before_the_protocol_begins(home):
    told = subprocess.run([sys.executable, "-m", "agent.surfaces.cli", "mcp", "astrology"], text=True, capture_output=True,
                          env=os.environ | {"PYTHONPATH": str(ROOT)})
    assert told.returncode == 1 and told.stdout == "" and "There is no domain 'astrology'" in told.stderr


def test_without_the_extra_the_command_says_how_to_get_it(front, monkeypatch):
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    with pytest.raises(SettingsError, match=r"pip install 'retune\[mcp\]'"):
        make_server({}, lambda: front, "")


# ---- the other way round: a domain's intent, answered by a server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Customer service with its opening hours and its complaints on an MCP server."""
    made = tmp_path / "library_desk"
    shutil.copytree(find("customer_service"), made, ignore=shutil.ignore_patterns("models"))
    toml = (made / "domain.toml").read_text(encoding="utf-8")
    toml = toml.replace('tool = "tools.clock:opening_hours"', 'tool = "mcp:library/number"')
    toml = toml.replace('tool = "tools.tickets:open_ticket"\nslots = { summary = "text" }',
                        'tool = "mcp:library/reserve"\nslots = { book = "text" }').replace("[ask]", '[ask]\nbook = "Which book?"')
    (made / "domain.toml").write_text(toml, encoding="utf-8")
    return made


@pytest.fixture
def desk(folder: Path, home: Path) -> Iterator[Any]:
    """An agent of that domain, its server configured beside domain.toml."""
    entry = LIBRARY | {"env": {"RESERVED": str(home / "reserved.txt")}}
    (folder / "mcp.json").write_text(json.dumps({"mcpServers": {"library": entry}}), encoding="utf-8")
    agent = parts.agent(home, name=folder)
    agent.tools, agent.leave = toolbox.connect(agent.domain, home)
    yield agent
    agent.close()


def test_an_intent_is_answered_by_a_servers_tool_at_once_where_it_only_reads(desk):
    done = desk.ask_sync("opening_hours")
    assert done.turn.state == "done" and '"pid"' in done.reply and done.turn.tool == "mcp:library/number"


def test_a_tool_that_changes_something_asks_first_and_private_words_come_back_to_it_but_not_to_the_disk(desk, home):
    assert desk.ask_sync("complaint", "s").turn.state == "asking"
    asked = desk.ask_sync("the one that anna.kovacs@example.org wrote", "s")
    assert asked.turn.state == "confirming" and not (home / "reserved.txt").exists()
    done = desk.ask_sync("yes", "s")
    assert done.turn.state == "done" and "anna.kovacs@example.org" in done.reply
    assert "anna.kovacs@example.org" in (home / "reserved.txt").read_text(encoding="utf-8")
    (home / "reserved.txt").unlink()
    desk.close()
    assert not [file for file in home.rglob("*") if file.is_file() and b"anna.kovacs" in file.read_bytes()]


def test_a_server_that_is_away_is_a_sentence_and_the_conversation_goes_on(folder, home):
    (home / "mcp.json").write_text(json.dumps({"mcpServers": {"library": {"command": "/no/such/program"}}}), encoding="utf-8")
    agent = parts.agent(home, "Yes, you may. ", name=folder)
    agent.tools, agent.leave = toolbox.connect(agent.domain, home)
    asked = agent.ask_sync("opening_hours", "s")
    assert asked.turn.state == "confirming"  # what nobody could be asked about is asked for
    failed = agent.ask_sync("yes", "s")
    assert failed.turn.state == "failed" and "cannot be started just now" in failed.reply
    assert agent.ask_sync("return_policy", "s").reply == "Yes, you may."
    agent.close()


def test_a_server_that_nobody_named_is_refused_at_once(folder, home):
    with pytest.raises(DomainError, match=r"\[intents.\w+\]: no tool server 'library' is in .*mcp.json or .*mcp.json; add it"):
        toolbox.connect(Domain.load(folder), home)
    (folder / "mcp.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DomainError, match="needs {\"mcpServers\""):
        toolbox.connect(Domain.load(folder), home)


def test_a_domain_without_such_tools_asks_for_no_configuration(home):
    assert toolbox.connect(Domain.load("finance"), home)[0] == {}
