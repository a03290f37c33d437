"""The commands `retune keys`: make, list and revoke the keys of the HTTP surface. The rules are in `agent.keys`."""

from dataclasses import asdict
from typing import Annotated

import typer

from agent.surfaces.options import Home, Json, show, store_of

app = typer.Typer(no_args_is_help=True, help="Keys for `retune serve`: who may call, for which tenant and for what.")
NameArgument = Annotated[str, typer.Argument(help="The key's name; feedback given with it is kept under that name.")]


@app.command()
def add(name: NameArgument,
        tenant: Annotated[str, typer.Option(help="Whose conversations it sees; keys of one tenant see the same.")] = "main",
        scope: Annotated[str, typer.Option(help="Comma separated: chat, feedback, review, admin.")] = "chat,feedback",
        rate: Annotated[int, typer.Option(help="Calls a minute.", min=1)] = 120,
        at_once: Annotated[int, typer.Option(help="Calls open at the same time.", min=1)] = 8,
        as_json: Json = False, home: Home = None) -> None:
    """Make a key and print it, this once. From the first key on every caller needs one."""
    from agent import keys

    with store_of(home) as store:
        secret, key = keys.add(store, name, tenant, list(filter(None, map(str.strip, scope.split(",")))), rate, at_once)
    show(asdict(key) | {"key": secret}, as_json, lambda: print(
        f"{secret}\nKeep it: it is not stored and cannot be shown again. Key {name!r} of tenant {tenant!r} may "
        f"{', '.join(key.scopes)}."))


@app.command("list")
def list_(as_json: Json = False, home: Home = None) -> None:
    """List keys, without their secrets; revoked ones stay in the list."""
    from agent import keys

    with store_of(home) as store:
        found = keys.listed(store)
    show([asdict(key) for key in found], as_json, lambda: print("\n".join(
        f"{key.name:<20} tenant {key.tenant:<16} {','.join(key.scopes):<28} {key.rate}/min, {key.at_once} at once, "
        f"made {key.created[:10]}{f', revoked {key.revoked[:10]}' if key.revoked else ''}" for key in found)
        or "There are no keys; `retune keys add NAME` makes one."))


@app.command()
def revoke(name: NameArgument, as_json: Json = False, home: Home = None) -> None:
    """Let a key open nothing from now on, also in servers that run."""
    from agent import keys

    with store_of(home) as store:
        key = keys.revoke(store, name)
    show(asdict(key), as_json, lambda: print(f"The key {name!r} opens nothing any more."))
