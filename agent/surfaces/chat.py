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
/intent NAME   what the last message was about; without a name: what there is
/none          the last message was about none of these
/comment TEXT  anything else about the last answer
/reply TEXT    as the person it was handed off to: the answer
/why           what the last answer was made from
/domain NAME   talk to another domain
/new           begin a new conversation
/quit          leave (Ctrl+D does too)"""
TEACH = {  # command -> kind of feedback, what is said when it is kept
    "/up": ("up", "Noted: a good answer."),
    "/down": ("down", "Noted: a bad answer. /correct TEXT teaches a better one."),
    "/correct": ("correction", "Noted: the better answer will be trained on after review."),
    "/intent": ("intent", "Noted: what the message was about."),
    "/none": ("none_of_these", "Noted: that was about none of them."),
    "/comment": ("comment", "Noted: your comment."),
    "/reply": ("reply", "Noted: the reply is kept with the conversation, which no longer waits."),
}
MISSING = {"/correct": "Write the better answer after /correct.", "/comment": "Write your comment after /comment.",
           "/reply": "Write the answer after /reply."}


class Chat:
    """One person at a terminal or a pipe; `answer(line)` handles one line.

    With several domains the message decides which one answers, until `/domain NAME` settles it.
    """

    def __init__(self, agents: Callable[[str], Agent], domains: Sequence[str], author: str,
                 show: Callable[[str], None]) -> None:
        self.agents, self.author, self.show = agents, author, show
        self.front = Front({name: agents(name) for name in domains})
        self.agent = agents(domains[0])
        self.begin()

    def begin(self) -> None:
        """A new conversation, of which nothing can be taught yet."""
        self.session = uuid.uuid4().hex
        self.last: Done | None = None
        self.handed: Done | None = None  # the newest turn that waits for a person

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
            async for event in self.agent.stream(line, self._session(), self.author):
                if isinstance(event, Delta):
                    self.show(event.text)
                elif isinstance(event, Done):
                    self.last = event
                    self.handed = event if event.turn.state in ("handoff", "escalated") else self.handed
                    self.show(f"\n{foot(event)}\n")
        except RetuneError as error:
            self.last = None  # or what is said of a failed turn would be kept about the one before it
            self.show(f"\n{error}\n")

    def _command(self, command: str, rest: str) -> str:
        if command == "/help":
            return HELP
        if command == "/new":
            self.begin()
            return "A new conversation."
        if command == "/domain":
            self.agent = self.agents(rest)
            self.front = Front({rest: self.agent})
            self.begin()
            return f"Now talking to {self.agent.domain.title}."
        if command == "/why":
            return why(self.last) if self.last else "There is no answer yet; ask something first."
        if command not in TEACH:
            return f"There is no command {command}; /help shows them all."
        return self._teach(command, rest)

    def _teach(self, command: str, rest: str) -> str:
        about = self.handed if command == "/reply" else self.last
        # the message after it may have gone to another domain
        agent = self.front.agents.get(about.turn.domain, self.agent) if about else self.agent
        if command == "/intent" and not rest:
            return "\n".join(f"{name}  {intent.about}" for name, intent in sorted(agent.domain.intents.items()))
        if about is None:
            return ("Nothing in this conversation was handed off to a person." if command == "/reply"
                    else "There is no answer yet; ask something first.")
        if command in MISSING and not rest:
            return MISSING[command]
        kind, said = TEACH[command]
        agent.feedback(about.turn.id, kind, self.author, rest or None)
        return said


def foot(done: Done) -> str:
    """One line under an answer: what served it."""
    turn = done.turn
    parts = [turn.state, turn.intent or "", f"{turn.route.confidence:.0%}" if turn.route and turn.intent else "",
             turn.bundle, f"{turn.timings_ms.get('first_word', turn.timings_ms['total']) / 1000:.2f} s to the first word",
             *turn.flags]
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
    if turn.engine:
        lines.append(f"written by {turn.engine}: {turn.prompt_tokens} tokens read, {turn.tokens} written")
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
    tools = [{"tool": turn.tool, "arguments": turn.tool_arguments, "result": turn.tool_result}] if turn.tool_result else []
    return {"answer": done.reply, "intent": turn.intent, "confidence": turn.route.confidence if turn.route else None,
            "abstained": turn.abstained, "state": turn.state,
            "sources": [{"id": p.id, "title": p.title, "source": p.source} for p in turn.passages],
            "tools": tools, "bundle": turn.bundle, "turn_id": turn.id, "session_id": turn.session, "flags": list(turn.flags),
            "timings_ms": turn.timings_ms, "engine": turn.engine,
            "tokens": {"prompt": turn.prompt_tokens, "answer": turn.tokens}}


