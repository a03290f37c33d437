"""Retune: a runtime for domain agents whose models are tuned from their own conversations.

`from agent import Agent, ScriptedGenerator`; both are loaded when first asked for, so that this import costs nothing.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agent.agent import Agent
    from agent.generators.scripted import ScriptedGenerator

__all__ = ["Agent", "ScriptedGenerator"]


def __getattr__(name: str) -> Any:
    if name == "Agent":
        from agent.agent import Agent

        return Agent
    if name == "ScriptedGenerator":
        from agent.generators.scripted import ScriptedGenerator

        return ScriptedGenerator
    raise AttributeError(f"module 'agent' has no attribute {name!r}")
