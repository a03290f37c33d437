"""Tools of real MCP servers, which are programs that behave well or badly (tests/faults/mcp_server.py)."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from langchain_core.tools import BaseTool, ToolException

from tools import mcp

SERVER = Path(__file__).parent / "faults" / "mcp_server.py"


def started(reserved: Path, timeout_s: float = 60) -> mcp.Servers:
    """The faulty server by its command; what it reserves stands in a file."""
    entry = {"command": sys.executable, "args": [str(SERVER)], "env": {"RESERVED": str(reserved)}, "timeout_s": timeout_s}
    return mcp.Servers(mcp.read(written(reserved.parent, {"library": entry})))


def written(folder: Path, servers: object) -> Path:
    file = folder / "mcp.json"
    file.write_text(json.dumps({"mcpServers": servers}), encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def reserved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mcp") / "reserved.txt"


@pytest.fixture(scope="module")
def library(reserved: Path) -> Iterator[mcp.Servers]:
    servers = started(reserved)
    yield servers
    servers.close()


def test_a_tool_is_described_and_called_as_its_server_says(library):
    tool = library.tool("library/opening")
    assert isinstance(tool, BaseTool) and tool.name == "library_opening"
    assert tool.description == "When the library of a town is open." and set(tool.args) == {"town", "day"}
    result = tool.invoke({"town": "Cork", "day": 3.0})  # slots are floats, the server wants an integer
    assert result["summary"] == "The library of Cork is open from 9 to 17 on day 3."


def test_only_a_tool_that_says_it_only_reads_runs_unasked(library):
    asked = {tool.name for tool in library.tools() if tool.metadata["changes"]}
    assert asked == {"library_reserve", "library_contradicts", "library_dies"}


def test_what_was_never_asked_counts_as_changing_and_starts_nothing(tmp_path):
    servers = started(tmp_path / "reserved.txt")
    tool = servers.named("library/opening")
    assert tool.metadata["changes"] and servers._loop._thread is None
    tool.learn()
    assert not tool.metadata["changes"] and set(tool.args) == {"town", "day"}
    servers.close()


def test_an_answer_cannot_speak_to_a_terminal_and_has_an_end(library):
    assert library.tool("library/controls").invoke({})["summary"] == "[2Jwiped!"
    endless = library.tool("library/endless").invoke({})
    assert len(endless["summary"]) <= mcp.LONGEST + 2 and endless["data"] is None


def test_a_structured_answer_comes_as_text_and_as_data(library):
    result = library.tool("library/number").invoke({})
    assert json.loads(result["summary"]) == result["data"] and result["data"]["pid"] > 0


def test_a_server_gets_no_secret_of_this_process(library, monkeypatch):
    monkeypatch.setenv("DATABASE_PASSWORD", "hunter2")
    names = library.tool("library/environment").invoke({})["summary"].split()
    assert "RESERVED" in names and "PATH" in names and not {"DATABASE_PASSWORD", "RETUNE_HOME"} & set(names)


def test_a_failure_of_the_server_is_a_sentence_without_its_inner_words(library):
    with pytest.raises(ToolException, match="Error executing tool fails") as failed:
        library.tool("library/fails").invoke({})
    assert "secret" not in str(failed.value)
    with pytest.raises(ToolException, match="town"):
        library.tool("library/opening").invoke({"town": 3})


def test_lines_that_are_no_protocol_cost_nothing(library, capfd):
    assert library.tool("library/garbage").invoke({})["summary"] == "still here"
    assert "log line" not in "".join(capfd.readouterr())


def test_many_threads_and_an_event_loop_share_one_connection(library):
    tool = library.tool("library/opening")
    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(lambda day: tool.invoke({"town": "Cork", "day": day})["summary"], range(40)))
    assert [f"on day {day}." in text for day, text in enumerate(said)] == [True] * 40

    async def both() -> list[dict]:
        return await asyncio.gather(*(tool.ainvoke({"town": "Ennis", "day": day}) for day in range(5)))

    assert len({result["summary"] for result in asyncio.run(both())}) == 5
    numbers = {library.tool("library/number").invoke({})["data"]["pid"] for _ in range(3)}
    assert len(numbers) == 1


def test_a_server_that_dies_is_started_again_but_a_change_is_never_made_twice(library, reserved):
    reserved.unlink(missing_ok=True)
    first = library.tool("library/number").invoke({})["data"]["pid"]
    assert library.tool("library/dies_once").invoke({})["summary"] == "alive again"  # it only reads: asked again
    assert library.tool("library/number").invoke({})["data"]["pid"] != first
    reserved.write_text("", encoding="utf-8")
    with pytest.raises(ToolException, match="not known; please look before you try again"):
        library.tool("library/dies").invoke({"book": "Emma"})
    assert library.tool("library/reserve").invoke({"book": "Persuasion"})["summary"] == "Persuasion is reserved for you."
    assert reserved.read_text(encoding="utf-8").split() == ["Emma", "Persuasion"]


def test_a_connection_that_died_while_idle_is_noticed_before_anything_is_changed(library, reserved):
    reserve = library.tool("library/reserve")
    os.kill(library.tool("library/number").invoke({})["data"]["pid"], signal.SIGKILL)
    reserved.write_text("", encoding="utf-8")
    assert reserve.invoke({"book": "Emma"})["summary"] == "Emma is reserved for you."
    assert reserved.read_text(encoding="utf-8").split() == ["Emma"]


def test_a_tool_that_is_not_there_and_a_server_that_is_not_there_are_told(library):
    with pytest.raises(ToolException, match="'library' has no tool 'lend'; it has contradicts, controls"):
        library.tool("library/lend")
    with pytest.raises(ToolException, match="no tool server 'shop' in mcp.json; it names library"):
        library.tool("shop/lend")


@pytest.mark.parametrize("command", [["/no/such/program"], [sys.executable, "-c", "raise SystemExit('no licence')"],
                                     [sys.executable, "-c", "print('hello', flush=True)"]],
                         ids=["missing", "ends at once", "talks nonsense"])
def test_a_server_that_cannot_be_used_is_a_sentence_and_is_left_alone_for_a_while(command, caplog):
    servers = mcp.Servers({"shop": mcp.Server("shop", command[0], tuple(command[1:]), timeout_s=60)})
    for _ in range(2):
        with pytest.raises(ToolException, match="'shop' cannot be started just now. Please try again later"):
            servers.tool("shop/lend")
    assert len([line for line in caplog.messages if line.startswith("MCP server shop")]) == 1
    servers.close()


def test_a_server_that_hangs_costs_its_time_out_and_no_more():
    deaf = mcp.Servers({"shop": mcp.Server("shop", sys.executable, ("-c", "import time; time.sleep(600)"), timeout_s=0.3)})
    with pytest.raises(ToolException, match="cannot be started just now"):
        deaf.tool("shop/lend")
    deaf.close()


def test_a_call_that_hangs_ends_with_a_sentence_and_the_next_one_works(library, monkeypatch):
    tool, patient = library.tool("library/hangs"), library.known["library"]
    monkeypatch.setitem(library.known, "library", replace(patient, timeout_s=0.3))
    with pytest.raises(ToolException, match="did not answer within 0.3 s. Please try again."):
        tool.invoke({})
    monkeypatch.undo()
    assert library.tool("library/controls").invoke({})["summary"]


def test_closing_ends_the_programs_and_the_calls_that_still_run(tmp_path):
    servers = started(tmp_path / "reserved.txt")
    pid = servers.tool("library/number").invoke({})["data"]["pid"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(servers.tool("library/hangs").invoke, {})
        servers.close()
        with pytest.raises(ToolException):
            waiting.result()
    assert not Path(f"/proc/{pid}").exists() or "zombie" in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    with pytest.raises(ToolException, match="are closed"):
        servers.tool("library/number")
    servers.close()


@pytest.fixture
def http(tmp_path: Path) -> Iterator[str]:
    """The faulty server's URL, over streamable HTTP."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = subprocess.Popen([sys.executable, str(SERVER), "--http", str(port)], stderr=subprocess.DEVNULL)
    while program.poll() is None:
        with socket.socket() as there:
            if there.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.1)
    yield f"http://127.0.0.1:{port}/mcp"
    program.terminate()
    program.wait()


def test_a_server_is_reached_over_http_too(http, tmp_path, monkeypatch):
    monkeypatch.setenv("LIBRARY_URL", http)
    entry = {"url": "${LIBRARY_URL}", "headers": {"X-Key": "${KEY:-k}"}}
    servers = mcp.Servers(mcp.read(written(tmp_path, {"library": entry})))
    assert servers.known["library"].headers == {"X-Key": "k"}
    assert "9 to 17" in servers.tool("library/opening").invoke({"town": "Cork"})["summary"]
    servers.close()


class Redirects(BaseHTTPRequestHandler):
    """Sends every request on to where it should not lead; `asked` are the paths that came."""

    asked: ClassVar[list[str]] = []
    to = ""

    def do_POST(self) -> None:
        self.asked.append(self.path)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(307)
        self.send_header("Location", f"{self.to}/trap")
        self.end_headers()

    do_GET = do_DELETE = do_POST

    def log_message(self, *_: object) -> None:
        pass


def test_a_server_cannot_send_us_to_another_address():
    with HTTPServer(("127.0.0.1", 0), Redirects) as here, HTTPServer(("127.0.0.1", 0), Redirects) as trap:
        Redirects.to = f"http://127.0.0.1:{trap.server_port}"
        for each in (here, trap):
            threading.Thread(target=each.serve_forever, daemon=True).start()
        servers = mcp.Servers({"shop": mcp.Server("shop", url=f"http://127.0.0.1:{here.server_port}/mcp", timeout_s=30)})
        with pytest.raises(ToolException, match="cannot be reached just now"):
            servers.tools()
        servers.close()
        for each in (here, trap):
            each.shutdown()
    assert Redirects.asked and set(Redirects.asked) == {"/mcp"}


@pytest.mark.parametrize(("servers", "said"), [
    ([], "needs {\"mcpServers\""),
    ({"a b": {"command": "x"}}, "rename it"),
    ({"shop": {}}, "either \"command\""),
    ({"shop": {"command": "x", "url": "http://x"}}, "either \"command\""),
    ({"shop": {"command": ["x"]}}, "command is"),
    ({"shop": {"command": "x", "args": "y"}}, "args is 'y'"),
    ({"shop": {"command": "x", "args": [1]}}, "args is [1]"),
    ({"shop": {"command": "x", "env": {"A": 1}}}, "env is"),
    ({"shop": {"command": "x", "cwd": 3}}, "cwd is 3"),
    ({"shop": {"command": "x", "timeout_s": -1}}, "timeout_s is -1"),
    ({"shop": {"command": "x", "timeout_s": True}}, "timeout_s is True"),
    ({"shop": {"url": "file:///etc/passwd"}}, "must begin with http"),
    ({"shop": {"url": "http://x", "type": "sse"}}, "streamable HTTP"),
    ({"shop": {"command": "x", "env": {"KEY": "${NOT_SET_ANYWHERE}"}}}, "uses ${NOT_SET_ANYWHERE}, which is not set"),
])
def test_a_mistake_in_mcp_json_names_its_place_and_the_remedy(tmp_path, servers, said):
    with pytest.raises(ValueError) as refused:
        mcp.read(written(tmp_path, servers))
    assert said in str(refused.value) and str(tmp_path / "mcp.json") in str(refused.value)


def test_a_file_that_is_no_json_or_not_there_is_told_and_a_disabled_server_is_left_out(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        mcp.read(tmp_path / "mcp.json")
    (tmp_path / "mcp.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is not valid JSON"):
        mcp.read(tmp_path / "mcp.json")
    entry = {"command": "x", "autoApprove": ["y"]}
    assert list(mcp.read(written(tmp_path, {"a": entry | {"disabled": True}, "b": entry}))) == ["b"]


def test_keys_are_not_shown_where_a_server_is():
    shown = repr(mcp.Server("shop", url="http://x", headers={"Authorization": "Bearer hush"}, env={"TOKEN": "hush"}))
    assert "hush" not in shown
