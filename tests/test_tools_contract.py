"""What every tool owes the agent, checked over every domain that names one."""

import importlib
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from langchain_core.tools import BaseTool

DOMAINS = Path(__file__).parent.parent / "domains"
NAMED = [
    (folder.parent.name, intent["tool"], intent.get("slots", {}))
    for folder in sorted(DOMAINS.glob("*/domain.toml"))
    for intent in tomllib.loads(folder.read_text(encoding="utf-8"))["intents"].values()
    if intent.get("tool", "").startswith("tools.")
]
CHANGING = {
    "cancel_order",
    "change_address",
    "request_refund",
    "open_ticket",
    "book_appointment",
    "cancel_appointment",
    "set_reminder",
}


def _load(name: str) -> BaseTool:
    module, _, function = name.partition(":")
    found = getattr(importlib.import_module(module), function)
    assert isinstance(found, BaseTool)
    return found


@pytest.mark.parametrize(("domain", "name", "slots"), NAMED, ids=lambda each: str(each)[:40])
def test_a_named_tool_takes_its_slots_and_describes_each(domain, name, slots):
    found = _load(name)
    assert set(slots) <= set(found.args)
    assert found.description and all(each.get("description") for each in found.args.values())
    assert "config" not in found.args  # injected, never asked of a model


@pytest.mark.parametrize("name", sorted({name for _, name, _ in NAMED}))
def test_exactly_the_tools_that_change_something_say_so(name):
    found = _load(name)
    assert bool((found.metadata or {}).get("changes")) == (found.name in CHANGING)


@pytest.mark.parametrize(
    ("domain", "slot"),
    [("medical", "medicines"), ("finance", "tickers"), ("finance", "portfolios")],
)
def test_names_and_aliases_of_a_table_mean_one_row_each(domain, slot):
    from tools.tables import read

    path = DOMAINS / domain / "data" / f"{slot}.csv"
    names = [
        each.strip().casefold()
        for row in read(path, 0)
        for each in {row["name"], *filter(None, row.get("aliases", "").split(";"))}
    ]
    assert len(names) == len(set(names))


def test_importing_every_tool_loads_no_heavy_library():
    modules = sorted({name.partition(":")[0] for _, name, _ in NAMED})
    script = (
        f"import sys, json, importlib; [importlib.import_module(m) for m in {modules!r}];"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, check=True, cwd=DOMAINS.parent
    )
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"torch", "transformers", "numpy", "pandas", "agent", "tuning", "fastapi"}
