"""Retune as an MCP server: `retune mcp` gives a client the tools `ask` and `feedback`. Needs `pip install 'retune[mcp]'`.

    {"mcpServers": {"retune": {"command": "retune", "args": ["mcp", "finance"]}}}

Over stdio nothing but the protocol is on standard output; what there is to tell is on standard error. With a port it is
streamable HTTP on this machine alone, without keys: off the machine is `retune serve`. Agents are loaded while the client says
hello, so that it never waits for models before its first question. The other way round, tools of MCP servers: `tools.mcp`.
"""

import asyncio
import getpass
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import typer

from agent.surfaces.options import Home, loader

if TYPE_CHECKING:
    from agent.front import Front
    from agent.types import Done

app = typer.Typer()
Kind = Literal["up", "down", "correction", "intent", "none_of_these", "comment"]
"""What a client may say: `agent.teaching.KINDS` without a person's reply after a hand-off."""


class Answer(TypedDict):
    """What `ask` gives beside the words of the answer."""

    answer: str
    domain: str
    intent: str | None
    state: str
    abstained: bool
    sources: list[dict[str, str]]
    """Articles that it rests on: {"id", "title", "source"}."""
    bundle: str
    turn_id: str
    session_id: str


class Noted(TypedDict):
    """What `feedback` gives."""

    turn_id: str
    kind: str


@app.command()
def mcp(domain: Annotated[list[str] | None, typer.Argument(help="Domains or folders; without any, all that ship.")] = None,
        port: Annotated[int, typer.Option(help="Streamable HTTP at http://127.0.0.1:PORT/mcp instead of stdio.", min=0,
                                          max=65535)] = 0,
        author: Annotated[str | None, typer.Option(help="Whose feedback it is; without it the name you are logged in with."
                                                   )] = None,
        home: Home = None) -> None:
    """Let MCP clients ask the agents and say what they think of the answers."""
    from agent.domain import Domain, shipped
    from agent.front import Front

    titles = {}
    for name in domain or shipped():  # a wrong name is told before the protocol begins
        found = Domain.load(name)
        titles[found.name] = found.title
    with loader(home, quiet=True, follow=True) as load, ThreadPoolExecutor(1, thread_name_prefix="load") as loading:
        agents = loading.submit(lambda: Front({found.domain.name: found for found in map(load, domain or shipped())}))
        server = make_server(titles, agents.result, getpass.getuser() if author is None else author)
        if port:
            server.run("streamable-http", port=port)
        else:
            server.run()


def make_server(titles: Mapping[str, str], agents: Callable[[], "Front"], author: str) -> Any:
    """An mcp.server.MCPServer for domains by name and title; `agents()` gives them, and may block until they are loaded.

    `author`: whose feedback it is. SettingsError if the extra is not installed.
    """
    from agent.errors import RetuneError, SettingsError

    try:
        from mcp.server import MCPServer
        from mcp.server.mcpserver.exceptions import ToolError
        from mcp.types import CallToolResult, TextContent, ToolAnnotations
    except ImportError as error:
        raise SettingsError("`retune mcp` needs the extra: `pip install 'retune[mcp]'`.") from error

    known = ", ".join(f"{name} ({title})" for name, title in titles.items())
    server = MCPServer("retune", instructions=f"Agents of these domains answer from their own articles and tools: {known}.",
                       log_level="ERROR")

    @server.tool(description=f"Ask an agent of one of these domains: {known}. Without a domain the message decides. Pass "
                             "the session_id of an answer to go on with its conversation; the agent may ask back, and asks for "
                             "a yes before it changes anything.",
                 annotations=ToolAnnotations(title="Ask a Retune agent", read_only_hint=False, open_world_hint=False))
    async def ask(text: str, domain: str = "", session_id: str = "") -> Annotated[CallToolResult, Answer]:
        try:
            front = await asyncio.to_thread(agents)
            done = await _chosen(front, domain, tuple(titles)).ask(text, session_id or None, author)
        except RetuneError as error:
            raise ToolError(str(error)) from error
        return CallToolResult(content=[TextContent(type="text", text=done.reply)], structured_content=dict(_answer(done)))

    @server.tool(description="Say what a person thinks of an answer, by its turn_id: up or down; a better answer (correction), "
                             "the intent it should have had, or a comment as the value. Saying it again is nothing; the "
                             "opposite takes it back.",
                 annotations=ToolAnnotations(title="Rate or correct an answer", read_only_hint=False, destructive_hint=False,
                                             idempotent_hint=True, open_world_hint=False))
    async def feedback(turn_id: str, kind: Kind, value: str = "") -> Noted:
        try:
            front = await asyncio.to_thread(agents)
            await asyncio.to_thread(front.feedback, turn_id, kind, author, value or None)
        except RetuneError as error:
            raise ToolError(str(error)) from error
        return {"turn_id": turn_id, "kind": kind}

    return server


def _chosen(front: "Front", domain: str, names: Sequence[str]) -> Any:
    from agent.errors import DataError

    if domain and domain not in front.agents:
        raise DataError(f"There is no domain {domain!r} here; it is one of {', '.join(names)}, or none.")
    return front.agents[domain or names[0]] if domain or len(names) == 1 else front


def _answer(done: "Done") -> Answer:
    turn = done.turn
    return {"answer": done.reply, "domain": turn.domain, "intent": turn.intent, "state": turn.state,
            "abstained": turn.abstained,
            "sources": [{"id": each.id, "title": each.title, "source": each.source} for each in turn.passages],
            "bundle": turn.bundle, "turn_id": turn.id, "session_id": turn.session}
