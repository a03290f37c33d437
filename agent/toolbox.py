"""Runs a domain's tools: finds them by `module:function`, checks arguments, turns failures into sentences."""

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from agent.domain import Domain, Intent
from agent.errors import DomainError


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool said."""

    summary: str
    """Sentences with every figure; the guard and the person see exactly these."""
    failed: bool = False
    slot: str = ""
    """The argument that the tool could not use, if one was at fault."""


@cache
def find(name: str) -> Any:
    """The LangChain tool behind `module:function`; DomainError if there is none."""
    module, _, function = name.partition(":")
    try:
        return getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise DomainError(f"There is no tool {name!r} ({error}); correct `tool` in domain.toml.") from error


def changes(intent: Intent) -> bool:
    """Whether the intent's tool changes something, so that a person has to say yes first."""
    return bool((find(intent.tool).metadata or {}).get("changes")) if intent.tool else False


def run(domain: Domain, intent: Intent, arguments: Mapping[str, Any], state: Path, key: str, now: datetime) -> Result:
    """Call the tool; a refusal, bad arguments or a crash become a Result that says so. Source: langchain_core.tools."""
    from langchain_core.tools import ToolException
    from pydantic import ValidationError

    tool = find(intent.tool)
    state.mkdir(parents=True, exist_ok=True)
    site = {"data": domain.folder / "data", "state": state, "key": key, "now": now}
    try:
        result = tool.invoke(dict(arguments), config={"configurable": site})
        return Result(result["summary"])
    except ToolException as error:
        return Result(str(error), failed=True)
    except ValidationError as error:
        first = error.errors()[0]
        return Result(_explain(first), failed=True, slot=str(first["loc"][0]) if first["loc"] else "")
    except Exception as error:  # a tool may be anybody's code: what it raises is explained, never a crash
        return Result(f"That did not work just now ({type(error).__name__}). Please try again, or ask for a person.", failed=True)


def _explain(first: Mapping[str, Any]) -> str:
    """One error of pydantic as a sentence for the person."""
    name = str(first["loc"][0]) if first["loc"] else "a value"
    return f"I cannot use that {name}: {first['msg'][0].lower()}{first['msg'][1:]}. Please give me another."
