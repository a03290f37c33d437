"""Runs a domain's tools, found by `module:function` or on an MCP server, or an app's.

Checks arguments and turns failures into sentences. How an MCP server is reached is in `tools.mcp`.
"""

import asyncio
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from agent.domain import MCP, Domain, Intent
from agent.errors import DomainError
from agent.signs import harmless
from agent.types import Route

if TYPE_CHECKING:
    from agent.dialogue import State


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool said."""

    summary: str
    """Sentences with every figure; the guard and the person see exactly these."""
    failed: bool = False
    slot: str = ""
    """The argument that the tool could not use, if one was at fault."""
    error: str = ""
    """The class of what the tool raised, if it did."""


@cache
def find(name: str) -> Any:
    """The LangChain tool behind `module:function`; DomainError if there is none."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise DomainError(f"There is no tool {name!r} ({error}); correct `tool` in domain.toml.") from error


def changes(intent: Intent, tools: Mapping[str, Any] = MappingProxyType({})) -> bool:
    """Whether the intent's tool changes something, so that a person has to say yes first; `tools`: an app's, by intent."""
    if intent.tool.startswith(MCP) and intent.name not in tools:
        return True  # as far as is known here: its server says it to an agent
    tool = tools.get(intent.name) or (find(intent.tool) if intent.tool else None)
    return bool((tool.metadata or {}).get("changes")) if tool else False


def run(domain: Domain, intent: Intent, arguments: Mapping[str, Any], state: Path, key: str, now: datetime) -> Result:
    """Call the domain's tool; a refusal, bad arguments or a crash become a Result that says so."""
    tool = find(intent.tool)
    state.mkdir(parents=True, exist_ok=True)
    site = {"data": domain.folder / "data", "state": state, "key": key, "now": now}
    try:
        result = tool.invoke(dict(arguments), config={"configurable": site})
        return Result(result["summary"])
    except Exception as error:  # a tool may be anybody's code: what it raises is explained, never a crash
        return _failed(error)


async def call(tool: Any, arguments: Mapping[str, Any], site: Mapping[str, Any]) -> Result:
    """Call an app's tool on its own event loop; as `run` for what goes wrong. `site`: what its `configurable` holds."""
    try:
        return Result(spoken(await tool.ainvoke(dict(arguments), config={"configurable": dict(site)})) or "That is done.")
    except Exception as error:  # as above
        return _failed(error)


def install(domain: Domain, tools: Mapping[str, Any]) -> Domain:
    """The domain with an app's tools in the place of its own, by intent; DomainError where one cannot answer its intent."""
    intents = dict(domain.intents)
    for name, tool in tools.items():
        if not hasattr(tool, "ainvoke"):
            raise DomainError(f"What is given for the intent {name!r} is a {type(tool).__name__} and no tool; make it one with "
                              "the decorator @tool of langchain_core.tools.")
        if name not in intents:
            raise DomainError(f"There is no intent {name!r} for the tool {tool.name!r}; {domain.name} knows "
                              f"{', '.join(sorted(intents))}.")
        wanted = tool.get_input_jsonschema()
        needed = [each for each in wanted.get("required", ()) if each not in dict(intents[name].slots)]
        if needed:
            raise DomainError(f"The tool {tool.name!r} needs {', '.join(needed)}, which the intent {name!r} of {domain.name} "
                              f"does not ask for (it has {', '.join(dict(intents[name].slots)) or 'no slots'}); give those "
                              "arguments a default or choose another intent.")
        intents[name] = replace(intents[name], answer="tool", tool=tool.name)
    return replace(domain, intents=intents)


def connect(domain: Domain, home: Path) -> tuple[dict[str, Any], Callable[[], None]]:
    """The domain's tools of MCP servers by intent, and what closes their connections; asks no server yet.

    Servers are those of `mcp.json` beside domain.toml, then of the one in the home. DomainError if one is in neither.
    """
    wanted = {name: intent.tool.removeprefix(MCP) for name, intent in domain.intents.items() if intent.tool.startswith(MCP)}
    if not wanted:
        return {}, lambda: None
    from tools import mcp

    if importlib.util.find_spec("mcp") is None:
        raise DomainError(f"{domain.folder / 'domain.toml'}: {mcp.MISSING}")
    files, known = [folder / "mcp.json" for folder in (domain.folder, home)], {}
    try:
        for file in filter(Path.is_file, files):
            known = mcp.read(file) | known
    except ValueError as error:
        raise DomainError(str(error)) from error
    for name, tool in wanted.items():
        if (server := tool.partition("/")[0]) not in known:
            raise DomainError(f"{domain.folder / 'domain.toml'}, [intents.{name}]: no tool server {server!r} is in "
                              f"{files[0]} or {files[1]}; add it there under mcpServers.")
    servers = mcp.Servers(known)
    return {name: servers.named(tool) for name, tool in wanted.items()}, servers.close


async def meet(tools: Mapping[str, Any], state: "State", route: Route) -> None:
    """Let MCP servers say whether the tools that this turn may need change something; one that cannot be asked counts as so."""
    near = {route.intent, state.intent, state.last_intent, *state.options, *(wish["intent"] for wish in state.waiting)}
    for name in near & tools.keys():
        if hasattr(tools[name], "learn"):
            await asyncio.to_thread(_learn, tools[name])


def _learn(tool: Any) -> None:
    from langchain_core.tools import ToolException

    with suppress(ToolException):  # told when the tool is called
        tool.learn()


def spoken(said: Any) -> str:
    """What an app's tool gave, as a person can read it: its `summary` or text, else its names and values."""
    if isinstance(said, Mapping):
        told = said.get("summary") or said.get("text")  # a block of LangChain's content has a text
        return spoken(told) if told else ", ".join(f"{name}: {spoken(each)}" for name, each in said.items())
    if isinstance(said, list | tuple):
        return ", ".join(filter(None, map(spoken, said)))
    return "" if said is None else harmless(str(said)).strip()


def _failed(error: Exception) -> Result:
    """What a tool raised, as a sentence for the person. Source: langchain_core.tools."""
    from langchain_core.tools import ToolException
    from pydantic import ValidationError

    kind, slot = type(error).__name__, ""
    if isinstance(error, ToolException):
        said = harmless(str(error))
    elif isinstance(error, ValidationError):
        first = error.errors()[0]
        said, slot = _explain(first), str(first["loc"][0]) if first["loc"] else ""
    else:
        said = f"That did not work just now ({kind}). Please try again, or ask for a person."
    return Result(said, True, slot, kind)


def _explain(first: Mapping[str, Any]) -> str:
    """One error of pydantic as a sentence for the person."""
    name = str(first["loc"][0]) if first["loc"] else "a value"
    return f"I cannot use that {name}: {first['msg'][0].lower()}{first['msg'][1:]}. Please give me another."
