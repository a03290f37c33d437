"""`retune metrics`: what the store counts, for Prometheus. What a server counts is at its own /metrics."""

import signal
import threading
from typing import Annotated

import typer

from agent.surfaces.options import Home, store_of

app = typer.Typer()


@app.command()
def metrics(port: Annotated[int, typer.Option(help="Serve them at http://HOST:PORT/metrics until Ctrl-C; 0: print them once.",
                                              min=0, max=65535)] = 0,
            host: Annotated[str, typer.Option(help="Address to listen on; there are no keys here.")] = "127.0.0.1",
            home: Home = None) -> None:
    """Feedback, runs and hand-offs waiting, as Prometheus reads them; beside `retune schedule`, which serves nothing."""
    from prometheus_client import start_http_server

    from agent.errors import SettingsError
    from agent.surfaces.metrics import Metrics

    with store_of(home) as store:
        made = Metrics(store)
        if not port:
            print(made.render()[0].decode(), end="")
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        try:
            server, thread = start_http_server(port, host, made.registry)
        except OSError as error:
            raise SettingsError(f"{host}:{port} cannot be listened on ({error.strerror}); "
                                "take another --port or --host.") from error
        print(f"metrics at http://{host}:{port}/metrics; Ctrl-C ends it", flush=True)
        stop.wait()
        server.shutdown()
        thread.join()
