"""Commands round the vLLM server that runs on this machine: up, status, down, logs. Print; the work is in agent.vllm."""

import contextlib
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.surfaces.options import Home, Json, show

app = typer.Typer(no_args_is_help=True, help="The vLLM server that writes the answers: one for all domains, on this machine.")
EVERY_S = 10  # between two lines of progress where there is no terminal


@app.command(context_settings={"allow_interspersed_args": False})
def up(extra: Annotated[list[str] | None, typer.Argument(help="After --: options for vLLM as they are.")] = None,
       port: Annotated[int, typer.Option(help="0: a free one.", min=0, max=65535)] = 0,
       rank: Annotated[int, typer.Option(help="--max-lora-rank; 0: the widest of all bundles.", min=0)] = 0,
       slots: Annotated[int, typer.Option(help="--max-loras; 0: one for every domain and two more.", min=0)] = 0,
       max_model_len: Annotated[int, typer.Option("--max-model-len", help="Tokens of prompt and answer; 0: 2048 on a CPU, "
                                                  "else the model's own.", min=0)] = 0,
       wait: Annotated[int, typer.Option(help="Longest wait for it, in seconds.", min=1)] = 600,
       as_json: Json = False, home: Home = None) -> None:
    """Start the server, wait until it is well, and leave it running."""
    from agent.settings import Settings
    from agent.vllm import local
    from agent.vllm.flags import Options
    from agent.vllm.running import Running

    settings = Settings.load(home=home)
    options = Options(port, rank, slots, max_model_len, tuple(extra or ()))
    steps = local.up(settings, options, wait)
    begun, waited, found = -EVERY_S, False, None
    with contextlib.closing(steps):  # Ctrl-C leaves nothing running
        for step in steps:
            if isinstance(step, Running):
                found = step
            elif not as_json:
                begun, waited = _progress(step.seconds, step.said, begun), True
    assert found is not None, "up ends with a server or an error"
    if waited and sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    word = "answers" if waited or as_json else "runs already"
    show(_table(found), as_json, lambda: print(f"vLLM {word} at {found.url} with {_flags(found.flags)}."))


@app.command()
def status(as_json: Json = False, home: Home = None) -> None:
    """What runs, how it is, and what it serves."""
    from agent.settings import Settings
    from agent.vllm import running
    from agent.vllm.fleet import servers
    from agent.vllm.spread import spread

    settings = Settings.load(home=home)
    if settings.vllm:
        rows, bundles = [_foreign(server) for server in servers(settings)], spread(settings, servers(settings))
        show({"servers": rows} | bundles, as_json, lambda: print("\n".join([*map(_line, rows), *_where(bundles)])))
        return
    found = running.now(settings.home)
    table = _table(found) if found else {"url": None, "healthy": False, "pid": None, "uptime_s": 0, "base": None, "flags": {},
                                         "starting": False, "restarts": 0, "models": [], "problem": None}
    bundles = spread(settings, servers(settings) if found else [])
    show(table | bundles, as_json, lambda: print("\n".join([_line(table), *_where(bundles)]) if found
                                                 else "No vLLM server runs here; start one with `retune vllm up`."))


@app.command()
def down(as_json: Json = False, home: Home = None) -> None:
    """Stop the server."""
    from agent.settings import Settings
    from agent.vllm import local
    from agent.vllm.install import NoServer

    settings = Settings.load(home=home)
    if settings.vllm:
        raise NoServer(local.ELSEWHERE.format(settings.vllm))
    stopped = local.down(settings.home)
    show({"stopped": stopped}, as_json, lambda: print("Stopped." if stopped else "No vLLM server runs here."))


@app.command()
def logs(count: Annotated[int, typer.Option("-n", "--lines", help="The last so many lines.", min=0)] = 50,
         follow: Annotated[bool, typer.Option("-f", "--follow", help="And those that come, until Ctrl-C.")] = False,
         home: Home = None) -> None:
    """What the server said."""
    from agent import paths
    from agent.settings import Settings
    from agent.vllm import local, running

    settings = Settings.load(home=home)
    file = paths.vllm(settings.home) / running.LOG
    end = file.stat().st_size if file.exists() else 0  # before the tail is read: a line twice is better than none
    lines = local.tail(settings.home, count)
    if lines:
        print("\n".join(lines))
    elif not follow:
        print("No server has said anything here yet." if not end else "", file=sys.stderr)
    if follow:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(file, end)


def _progress(seconds: float, said: str, last: float) -> float:
    """A line that is written over on a terminal, else one every ten seconds; gives when it last printed."""
    if sys.stderr.isatty():
        print(f"\r\033[KStarting vLLM, {seconds:3.0f} s: {said}", end="", file=sys.stderr, flush=True)
    elif seconds - last >= EVERY_S:
        print(f"Starting vLLM, {seconds:.0f} s: {said}", file=sys.stderr, flush=True)
        return seconds
    return last


def _table(found: Any) -> dict[str, Any]:
    from agent.vllm.running import healthy
    from agent.vllm.wire import Server

    up_s = (datetime.now(UTC) - datetime.fromisoformat(found.started)).total_seconds()
    return {"url": found.url, "healthy": healthy(found.address), "pid": found.pid, "uptime_s": round(up_s), "base": found.base,
            "flags": found.flags | ({"extra": found.extra} if found.extra else {}), "starting": not found.answered,
            "restarts": found.restarts, **_models(Server(found.url, found.key))}


def _foreign(server: Any) -> dict[str, Any]:
    return {"url": server.url, "healthy": server.healthy(), **_models(server)}


def _models(server: Any) -> dict[str, Any]:
    """{"models": names of the base and the adapters, "problem": why there are none, or None}."""
    from agent.errors import EngineError

    try:
        return {"models": [model.name for model in server.models()], "problem": None}
    except EngineError as error:
        return {"models": [], "problem": str(error)}


def _where(bundles: dict[str, Any]) -> list[str]:
    """Bundles with the servers that have them; one that no agent has asked for yet is on none."""
    lines = [f"  {row['bundle']} ({row['alias']}): on {len(row['on'])} of {row['of']}" for row in bundles["bundles"]]
    return [*lines, "  Servers differ: a promotion or a restart is on its way."] if bundles["mixed"] else lines


def _line(row: dict[str, Any]) -> str:
    state = "is well" if row["healthy"] else "is being started" if row.get("starting") else "does not answer"
    more = f", {row['uptime_s']} s up, {row['restarts']} restarts, {_flags(row['flags'])}" if "pid" in row else ""
    problem = f"\n  {row['problem']}" if row["problem"] and row["healthy"] else ""
    return f"{row['url']} {state}{more}\n  serves {', '.join(row['models']) or 'nothing'}{problem}"


def _flags(flags: dict[str, Any]) -> str:
    return ", ".join(name if value is True else f"{name} {value}" for name, value in flags.items())


def _follow(file: Path, place: int) -> None:
    while True:
        size = file.stat().st_size if file.exists() else 0
        if size < place:  # it was begun anew
            place = 0
        if size > place:
            with file.open("rb") as stream:
                stream.seek(place)
                chunk = stream.read()
            place += len(chunk)
            sys.stdout.write(chunk.decode("utf-8", "replace"))
            sys.stdout.flush()
        time.sleep(0.3)
