"""Line-mode chat: reads a line, streams the answer, teaches by commands. No agent logic."""

import asyncio
import sys
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from agent.agent import Agent
from agent.errors import RetuneError
from agent.front import Front
from agent.types import Delta, Done

HELP = """\
/up            the last answer was good
/down          the last answer was bad
/correct TEXT  the better answer to the last question
/why           what the last answer was made from
/domain NAME   talk to another domain
/new           begin a new conversation
/quit          leave (Ctrl+D does too)"""


class Chat:
    """One person at a terminal or a pipe; `answer(line)` handles one line.

    With several domains the message decides which one answers, until `/domain NAME` settles it.
    """

    def __init__(self, agents: Callable[[str], Agent], domains: Sequence[str], author: str, show: Callable[[str], None]) -> None:
        self.agents, self.author, self.show = agents, author, show
        self.front = Front({name: agents(name) for name in domains})
        self.agent = agents(domains[0])
        self.session, self.last = uuid.uuid4().hex, None

    def choose(self, line: str) -> None:
        """Take the agent that the line belongs to."""
        if len(self.front.agents) > 1 and not line.startswith("/"):
            current = self.agent.domain.name if self.last else None
            self.agent = self.front.agents[self.front.pick(line, self.session, current)]

    async def answer(self, line: str) -> bool:
        """Handle one line; False to leave."""
        line = line.strip()
        if not line.startswith("/"):
            await self._turn(line)
            return True
        command, _, rest = line.partition(" ")
        if command in ("/quit", "/exit"):
            return False
        try:
            self.show(self._command(command, rest.strip()) + "\n")
        except RetuneError as error:
            self.show(f"{error}\n")
        return True

    def _session(self) -> str:
        return f"{self.session}-{self.agent.domain.name}"

    async def _turn(self, line: str) -> None:
        try:
            async for event in self.agent.stream(line, self._session()):
                if isinstance(event, Delta):
                    self.show(event.text)
                elif isinstance(event, Done):
                    self.last = event
                    self.show(f"\n{foot(event)}\n")
        except RetuneError as error:
            self.show(f"\n{error}\n")

    def _command(self, command: str, rest: str) -> str:
        if command == "/help":
            return HELP
        if command == "/new":
            self.session, self.last = uuid.uuid4().hex, None
            return "A new conversation."
        if command == "/domain":
            self.agent = self.agents(rest)
            self.front = Front({rest: self.agent})
            self.session, self.last = uuid.uuid4().hex, None
            return f"Now talking to {self.agent.domain.title}."
        if command not in ("/up", "/down", "/correct", "/why"):
            return f"There is no command {command}; /help shows them all."
        if self.last is None:
            return "There is no answer yet; ask something first."
        if command == "/why":
            return why(self.last)
        if command == "/correct" and not rest:
            return "Write the better answer after /correct."
        self.agent.store.feedback(self.last.turn.id, self.author, {"/up": "up", "/down": "down"}.get(command, "correction"),
                                  self._redacted(rest) or None)
        return {"/up": "Noted: a good answer.", "/down": "Noted: a bad answer. /correct TEXT teaches a better one.",
                "/correct": "Noted: the better answer will be trained on after review."}[command]

    def _redacted(self, text: str) -> str:
        return self.agent.redactors[self._session()].redact(text) if text else ""


def foot(done: Done) -> str:
    """One line under an answer: what served it."""
    turn = done.turn
    parts = [turn.state, turn.intent or "", f"{turn.route.confidence:.0%}" if turn.route and turn.intent else "",
             turn.bundle, f"{turn.timings_ms.get('first_word', turn.timings_ms['total']) / 1000:.2f} s to the first word", *turn.flags]
    return "  [" + " · ".join(part for part in parts if part) + "]"


def why(done: Done) -> str:
    """Intents with scores, passages with sources, tool calls, rules that fired, bundle."""
    turn = done.turn
    lines = [f"turn {turn.id} · bundle {turn.bundle} · state {turn.state}"]
    if turn.route:
        ranking = ", ".join(f"{name} {share:.0%}" for name, share in turn.route.ranking[:3])
        lines.append(f"intents: {ranking} · out of scope {turn.route.oos:.0%}")
    if turn.slots:
        lines.append("slots: " + ", ".join(f"{name} = {value}" for name, value in turn.slots.items()))
    lines += [f"passage {p.id}: {p.title}, {p.heading} (source: {p.source})" for p in turn.passages]
    if turn.tool_result:
        lines.append(f"tool {turn.tool}({turn.tool_arguments}) -> {turn.tool_result}")
    lines += [f"rule: {flag}" for flag in turn.flags]
    lines.append("times (ms): " + ", ".join(f"{stage} {spent:.0f}" for stage, spent in turn.timings_ms.items()))
    return "\n".join(lines)


def run(chat: Chat, lines: Iterator[str] | None) -> None:
    """Until the lines end: from a pipe, or typed at a prompt when `lines` is None."""
    async def loop() -> None:
        while True:
            if lines is None:
                try:
                    line = await asyncio.to_thread(input, "> ")
                except (EOFError, KeyboardInterrupt):
                    return
            else:
                line = next(lines, None)
                if line is None:
                    return
            if not line.strip():
                continue
            chat.choose(line.strip())
            if lines is not None:
                chat.show(f"{chat.agent.domain.name}> {line.strip()}\n")
            if not await chat.answer(line):
                return

    asyncio.run(loop())


def write(text: str) -> None:
    """To the terminal at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def events_to_table(done: Done) -> dict[str, Any]:
    """What `retune ask --json` prints."""
    turn = done.turn
    return {"answer": done.reply, "intent": turn.intent, "confidence": turn.route.confidence if turn.route else None,
            "abstained": turn.abstained, "state": turn.state,
            "sources": [{"id": p.id, "title": p.title, "source": p.source} for p in turn.passages],
            "tools": [{"tool": turn.tool, "arguments": turn.tool_arguments, "result": turn.tool_result}] if turn.tool_result else [],
            "bundle": turn.bundle, "turn_id": turn.id, "session_id": turn.session, "flags": list(turn.flags),
            "timings_ms": turn.timings_ms}


