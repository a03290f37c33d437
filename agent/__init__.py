"""Retune: a runtime for domain agents whose models are tuned from their own conversations.

`from agent import Agent, Front, ScriptedGenerator`; each name is loaded when it is first asked for, so that this import costs
nothing. `Agent` is one domain's agent, `Front` several in one. A turn is told in events: `Routed`, perhaps `Evidence` or
`ToolCalled`, `Delta`s and `Done`; `Turn` is what became of a message. What goes wrong is a `RetuneError` whose sentence says
the next step.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.agent import Agent
    from agent.errors import RetuneError
    from agent.front import Front
    from agent.generators.scripted import ScriptedGenerator
    from agent.types import Delta, Done, Event, Evidence, Passage, Route, Routed, ToolCalled, Turn

__all__ = ["Agent", "Delta", "Done", "Event", "Evidence", "Front", "Passage", "RetuneError", "Route", "Routed",
           "ScriptedGenerator", "ToolCalled", "Turn"]
_ROOMS = {"Agent": "agent.agent", "Front": "agent.front", "RetuneError": "agent.errors",
          "ScriptedGenerator": "agent.generators.scripted"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'agent' has no attribute {name!r}")
    return getattr(import_module(_ROOMS.get(name, "agent.types")), name)
