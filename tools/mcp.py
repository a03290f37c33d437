"""Tools of MCP servers as LangChain tools, from the usual `mcpServers` configuration.

    servers = mcp.Servers(mcp.read(Path("mcp.json")))
    tools = servers.tools()          # every server is asked what it has
    servers.close()

Knows what a server's tools look like to a domain or an app; how a connection is kept is in `link`. Needs the extra:
`pip install 'retune[mcp]'`. A server is reached when something of it is first needed, never before. It may be anybody's
program: what it says is text to be shown, without control characters and of bounded length, and whatever it does wrong becomes
a ToolException with a sentence. A configuration names programs that are run and addresses that are called: take one only
from somebody whose program you would run. Addresses come from it alone; no server and no model can name another one.
"""

import importlib.util
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.tools import BaseTool, ToolException
from pydantic import PrivateAttr

from tools.link import Loop, Offered

MISSING = "Tools of MCP servers need the extra: `pip install 'retune[mcp]'`."
LONGEST = 4000
"""Characters of an answer that are kept."""
TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Server:
    """How one server is reached: a command that is started, or a URL."""

    name: str
    command: str = ""
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Added to the few variables that every server gets (PATH, HOME and the like); never this process's whole environment."""
    cwd: str | None = None
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout_s: float = TIMEOUT_S
    """Longest wait for the server to be there, and for each answer."""


class Servers:
    """Servers by name, their connections kept until `close`. Any thread may use it."""

    def __init__(self, known: Mapping[str, Server]) -> None:
        self.known = dict(known)
        self._loop = Loop()

    def named(self, name: str) -> "Remote":
        """The tool `server/tool` before anything is known of it; asks no server."""
        server, _, tool = name.partition("/")
        made = Remote(name=re.sub(r"[^\w-]", "_", f"{server}_{tool}", flags=re.ASCII)[:64], description=tool,
                      args_schema={"type": "object", "properties": {}}, metadata={"mcp": name, "changes": True})
        made._servers = self
        return made

    def tool(self, name: str) -> "Remote":
        """The tool `server/tool` as its server describes it; ToolException if that cannot be asked or has none such."""
        made = self.named(name)
        made.learn()
        return made

    def tools(self, *names: str) -> list[BaseTool]:
        """Every tool of these servers, without names of all of them; each is called SERVER_TOOL. ToolException as `tool`."""
        return [self.tool(f"{server}/{each.name}") for server in names or self.known for each in self._offered(server)]

    def close(self) -> None:
        """End every connection, and the programs that were started; again is nothing."""
        self._loop.close()

    def _offered(self, server: str) -> list[Offered]:
        if server not in self.known:
            raise ToolException(f"There is no tool server {server!r} in mcp.json; it names {', '.join(self.known) or 'none'}.")
        if importlib.util.find_spec("mcp") is None:
            raise ToolException(MISSING)
        return self._loop.offered(self.known[server])


class Remote(BaseTool):
    """One tool of a server; gives {"summary": what it said, "data": its structured result or None}, as Retune's own do.

    Its `metadata["changes"]`, whether a person has to say yes first, is True until the server said that it only reads.
    """

    _servers: Servers = PrivateAttr()

    def learn(self) -> Offered:
        """Take over what the server says of the tool now; connects if need be. ToolException with a sentence if it cannot."""
        server, _, tool = self.metadata["mcp"].partition("/")
        offered = {each.name: each for each in self._servers._offered(server)}
        if tool not in offered:
            raise ToolException(f"The tool server {server!r} has no tool {tool!r}; "
                                f"it has {', '.join(sorted(offered)) or 'none'}.")
        found = offered[tool]
        self.metadata = self.metadata | {"changes": found.changes}
        if (schema := {"type": "object", "properties": {}} | found.schema) != self.args_schema:
            self.args_schema, self.description = schema, readable(found.about, 1000) or tool
        return found

    def _run(self, /, **arguments: Any) -> dict[str, Any]:
        found = self.learn()
        server = self._servers.known[self.metadata["mcp"].partition("/")[0]]
        whole = {name for name, kind in found.schema.get("properties", {}).items()
                 if isinstance(kind, dict) and kind.get("type") == "integer"}  # slots are read as floats
        fitting = {name: int(value) if name in whole and isinstance(value, float) and value.is_integer() else value
                   for name, value in arguments.items()}
        return _told(server, self._servers._loop.call(server, found, fitting))


def read(file: Path) -> dict[str, Server]:
    """The servers of an `mcp.json`: {"mcpServers": {name: {"command", "args", "env", "cwd"} or {"url", "headers"}}}.

    `${NAME}` and `${NAME:-instead}` stand for variables of the environment, so that no key need be in the file; `timeout_s`
    is ours; `disabled` leaves a server out; what other programs note beside is let be. ValueError names file and remedy.
    """
    try:
        table = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{file} cannot be read ({error.strerror}); correct its place or its permissions.") from error
    except ValueError as error:
        raise ValueError(f"{file} is not valid JSON ({error}); correct it there.") from error
    servers = table.get("mcpServers") if isinstance(table, dict) else None
    if not isinstance(servers, dict):
        raise ValueError(f'{file} needs {{"mcpServers": {{NAME: {{"command": ...}}}}}}; correct it.')
    return {name: _server(name, entry, f"{file}, mcpServers.{name}") for name, entry in servers.items()
            if not (isinstance(entry, dict) and entry.get("disabled"))}


def _server(name: str, entry: Any, place: str) -> Server:
    if not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"{place}: a server's name has letters, digits, '.', '-' and '_' alone; rename it.")
    if not isinstance(entry, dict) or bool(entry.get("command")) == bool(entry.get("url")):
        raise ValueError(f'{place} needs either "command" (a program that is started) or "url"; correct it.')
    if entry.get("type", entry.get("transport")) == "sse":
        raise ValueError(f"{place}: the old SSE transport is not spoken; give the server's streamable HTTP URL.")
    texts = {key: entry.get(key, "") for key in ("command", "url")}
    lists, maps = {"args": entry.get("args", [])}, {key: entry.get(key, {}) for key in ("env", "headers")}
    cwd, timeout = entry.get("cwd"), entry.get("timeout_s", TIMEOUT_S)
    for key, value in (texts | lists | maps).items():
        inner = value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]
        if type(value) is not {"args": list, "env": dict, "headers": dict}.get(key, str) or not all(
                isinstance(each, str) for each in inner):
            raise ValueError(f"{place}: {key} is {value!r}; see the server's own instructions for how it is written.")
    if not isinstance(cwd, str | None):
        raise ValueError(f"{place}: cwd is {cwd!r}; it must be a folder.")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 600:
        raise ValueError(f"{place}: timeout_s is {timeout!r}; it must be a number of seconds, at most 600.")
    filled = {key: _filled(value, place) for key, value in texts.items()}
    if filled["url"] and not re.match(r"https?://[^/\s]", filled["url"]):
        raise ValueError(f"{place}: url is {filled['url']!r}; it must begin with http:// or https://.")
    return Server(name, filled["command"], tuple(_filled(each, place) for each in lists["args"]),
                  {key: _filled(value, place) for key, value in maps["env"].items()}, cwd, filled["url"],
                  {key: _filled(value, place) for key, value in maps["headers"].items()}, float(timeout))


def _filled(text: str, place: str) -> str:
    """With variables of the environment in place of `${NAME}` and `${NAME:-instead}`."""

    def value(found: re.Match[str]) -> str:
        name, instead = found[1], found[2]
        if (said := os.environ.get(name, instead)) is None:
            raise ValueError(f"{place} uses ${{{name}}}, which is not set; set it in the environment.")
        return said

    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}", value, text)


def _told(server: Server, answer: Any) -> dict[str, Any]:
    """A server's answer (mcp.types.CallToolResult) as a tool's result; ToolException if it says that it failed."""
    said = readable("\n".join(filter(None, (_part(part) for part in answer.content))))
    data = answer.structured_content
    written = json.dumps(data, ensure_ascii=False, default=str)
    if answer.is_error:
        raise ToolException(readable(said, 500) or f"The tool server {server.name!r} says that it failed, and not why.")
    if not said and data is not None:
        said = readable(written)
    return {"summary": said or "That is done.", "data": data if len(written) <= LONGEST else None}


def _part(part: Any) -> str:
    """The text of one block of content; for what is no text, that it was there."""
    if part.type == "text":
        return part.text
    if part.type == "resource":
        return getattr(part.resource, "text", "(a file)")
    return f"(a link: {part.name})" if part.type == "resource_link" else f"(an {part.type})"


def readable(text: str, longest: int = LONGEST) -> str:
    """Without characters that a terminal could obey, and at most so long."""
    text = "".join(sign for sign in text if sign in "\n\t\u200c\u200d" or sign.isprintable()).strip()
    return text if len(text) <= longest else text[:longest].rsplit(None, 1)[0] + " …"
