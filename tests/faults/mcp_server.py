"""An MCP server over stdio, or HTTP with --http PORT, whose tools behave well or badly, one way each."""

import asyncio
import os
import sys
from pathlib import Path

from mcp.server import MCPServer
from mcp.types import ToolAnnotations

server = MCPServer("faulty", log_level="ERROR")
READS = ToolAnnotations(read_only_hint=True)


@server.tool(annotations=READS)
def opening(town: str, day: int = 1) -> str:
    """When the library of a town is open."""
    return f"The library of {town} is open from 9 to 17 on day {day}."


@server.tool()
def reserve(book: str) -> str:
    """Reserve a book."""
    with Path(os.environ["RESERVED"]).open("a", encoding="utf-8") as file:
        file.write(book + "\n")
    return f"{book} is reserved for you."


@server.tool(annotations=ToolAnnotations(read_only_hint=True, destructive_hint=True))
def contradicts() -> str:
    """Says that it reads and that it destroys."""
    return "done"


@server.tool(annotations=READS)
def controls() -> str:
    """Speaks to the terminal."""
    return "\x1b[2J\x07wiped\u202e!"


@server.tool(annotations=READS)
def endless() -> str:
    """Says too much."""
    return "word " * 100_000


@server.tool(annotations=READS)
def environment() -> str:
    """The names of the variables that it got."""
    return " ".join(sorted(os.environ))


@server.tool(annotations=READS)
def fails() -> str:
    """Raises."""
    raise ValueError("secret of the server")


@server.tool(annotations=READS)
async def hangs() -> str:
    """Never answers."""
    await asyncio.sleep(3600)
    return "late"


@server.tool(annotations=READS)
def number() -> dict[str, int]:
    """A structured result."""
    return {"pid": os.getpid()}


@server.tool(annotations=READS)
def dies_once() -> str:
    """Ends the program in the middle of the first call."""
    mark = Path(os.environ["RESERVED"])
    if mark.exists():
        return "alive again"
    mark.touch()
    os._exit(3)


@server.tool()
def dies(book: str) -> str:
    """Changes something, and ends the program before it says so."""
    reserve(book)
    os._exit(3)


@server.tool(annotations=READS)
def garbage() -> str:
    """Writes what is no protocol to where the protocol is spoken, then answers."""
    print("Hello, I am a log line!", flush=True)
    return "still here"


if __name__ == "__main__":
    if sys.argv[1:2] == ["--http"]:
        server.run("streamable-http", port=int(sys.argv[2]))
    else:
        server.run()
