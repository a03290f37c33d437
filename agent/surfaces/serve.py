"""`retune serve`: the agents over HTTP until a signal. Opens, checks who may come in, runs the server, drains it.

The first SIGTERM or Ctrl-C stops accepting and lets what is being answered end, for `--grace` seconds; the second ends it at
once. Either way every turn that began is in the log, the ones cut off as cancelled.
"""

import asyncio
import gc
import os
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agent.surfaces.options import Home, loader, store_of

if TYPE_CHECKING:
    from agent.surfaces.http.limits import Turns

app = typer.Typer()
KEEP_S = 75  # longer than clients and proxies keep an idle connection, or one is closed just as a call comes
LEAVE_S = 2.0  # for the last words of streams that were cut off


@app.command()
def serve(host: Annotated[str, typer.Option(help="Address to listen on; off loopback every caller needs a key.")] = "127.0.0.1",
          port: Annotated[int, typer.Option(help="0: a free one.", min=0, max=65535)] = 8080,
          domain: Annotated[list[str] | None, typer.Option(help="A name or a folder, again for more; else all.")] = None,
          grace: Annotated[int, typer.Option(help="Seconds for open answers to end after the first signal.", min=0)] = 10,
          home: Home = None) -> None:
    """Serve the agents over HTTP: OpenAI's chat completions, sessions, feedback, hand-offs, bundles, a web chat at /."""
    from agent import keys
    from agent.domain import shipped
    from agent.errors import SettingsError
    from agent.surfaces.http.app import make_app
    from agent.surfaces.http.gate import is_loopback
    from agent.surfaces.metrics import Metrics

    if not is_loopback(host):
        with store_of(home) as store:
            if all(key.revoked for key in keys.listed(store)):
                raise SettingsError(f"{host} can be reached from other machines, and there is no key: make one with `retune "
                                    "keys add NAME --tenant TENANT`, or serve this machine alone with --host 127.0.0.1.")
    with loader(home, follow=True) as load:
        agents = [load(name) for name in domain or shipped()]
        made = make_app(agents, host, metrics=Metrics(agents[0].store, agents))
        gc.collect()
        gc.freeze()  # what is loaded by now stays: to look through it again stops every answer for a fifth of a second
        left = asyncio.run(run(made, host, port, grace))
    if left:
        print(f"retune: {left} answers were cut off; they are logged as cancelled.", file=sys.stderr)


async def run(made: Any, host: str, port: int, grace: int) -> int:
    """Serve an app of `make_app` until a signal, then drain it; gives how many answers were cut off."""
    import socket

    import uvicorn

    from agent.errors import SettingsError

    shared = made.state.shared
    turns: Turns = shared.turns

    class Server(uvicorn.Server):
        """One signal drains, the next one ends; neither kills the process before the log is written."""

        def handle_exit(self, sig: int, frame: Any) -> None:
            loop.call_soon_threadsafe(self.leave)

        def leave(self) -> None:
            """Called in the event loop for each signal."""
            seconds = 0 if self.should_exit else grace
            self.should_exit = shared.stopping = True
            ending.append(asyncio.create_task(self.end(seconds)))

        async def end(self, seconds: float) -> None:
            """Every stream ends when its turn does; a caller who does not read that is left after a moment."""
            await turns.end(seconds)
            await asyncio.sleep(LEAVE_S)
            self.force_exit = True

    ending: list[asyncio.Task[None]] = []
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        if os.name == "posix":  # elsewhere it lets two processes share a port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            raise SettingsError(f"{host}:{port} cannot be listened on ({error.strerror}); take another --port.") from error
        name = f"[{host}]" if ":" in host else host
        config = uvicorn.Config(made, log_level="warning", access_log=False, server_header=False, proxy_headers=False,
                                timeout_keep_alive=KEEP_S, timeout_graceful_shutdown=int(grace + LEAVE_S), lifespan="on", ws="none")
        server = Server(config)
        print(f"Retune answers at http://{name}:{listener.getsockname()[1]} (docs at /docs); Ctrl-C ends it.", flush=True)
        await server.serve(sockets=[listener])
    for task in ending:
        task.cancel()
    await turns.end(0)
    return turns.cut_off
