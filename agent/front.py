"""Which of several domains a message belongs to. Knows routers and red flags, holds no conversation of its own."""

from collections.abc import Mapping

from agent import slots
from agent.agent import Agent
from agent.dialogue import State
from agent.turn import tidy

STAY = 0.03  # a message that the current domain understands almost as well as the best one stays there


class Front:
    """`pick(text, session, current)` names the domain that should answer."""

    def __init__(self, agents: Mapping[str, Agent]) -> None:
        self.agents = dict(agents)

    def pick(self, text: str, session: str, current: str | None = None) -> str:
        """A domain's name: a red flag decides, then an open question, then the surest router; else the current or first one."""
        text = tidy(text)
        for name, agent in self.agents.items():
            if agent.flags and agent.flags.check(text):
                return name
        if current and self._is_open(current, session):
            return current
        if current and slots.is_follow_up(text):
            return current
        scores = {name: self._score(agent, text) for name, agent in self.agents.items()}
        best = max(scores, key=lambda name: scores[name])
        if current and (scores[best] == 0 or scores[current] >= scores[best] - STAY):
            return current
        return best

    def _score(self, agent: Agent, text: str) -> float:
        """0 to 1: how surely the message is one of the domain's own; 0 if it is out of its scope."""
        route = agent.serving.router.route([text])[0]
        return route.confidence * (1 - route.oos) if route.intent else 0.0

    def _is_open(self, name: str, session: str) -> bool:
        agent = self.agents[name]
        state = State.of(agent.store.session(f"{session}-{name}", name)["state"])
        return bool(state.asking or state.confirming or state.options)
