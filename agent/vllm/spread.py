"""Which bundles which servers have, seen from outside: for a status line and for readiness. Loads nothing."""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from agent.domain import Domain, shipped
from agent.errors import EngineError, RetuneError
from agent.registry import Registry
from agent.settings import Settings
from agent.vllm.adapters import adapter_name
from agent.vllm.wire import Server


def spread(settings: Settings, servers: Sequence[Server]) -> dict[str, Any]:
    """{"bundles": [{"bundle", "alias", "on": URLs, "of": count}], "mixed": whether a champion is on some servers only}.

    Of the shipped domains; a bundle without an adapter is on every server, and is left out.
    """
    lists: dict[str, set[str]] = {}
    for server in servers:
        with suppress(EngineError):
            lists[server.url] = {model.name for model in server.models()}
    rows = []
    for name in shipped():
        with suppress(RetuneError):  # a damaged domain or bundle is the doctor's business
            registry = Registry(Domain.load(name), settings.home)
            for alias in registry.aliases():
                bundle = registry.get(alias)
                if bundle.part("generator"):
                    on = [url for url, names in lists.items() if adapter_name(bundle) in names]
                    rows.append({"bundle": bundle.name, "alias": alias, "on": on, "of": len(servers)})
    return {"bundles": rows, "mixed": any(row["alias"] == "champion" and 0 < len(row["on"]) < row["of"] for row in rows)}
