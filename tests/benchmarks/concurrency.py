"""Conversations at once on one agent in one process: no cross-talk, order kept, nothing lost, memory told.

    python tests/benchmarks/concurrency.py [--conversations 200] [--turns 20] [--home FOLDER] [--out FILE.json]

The router, retrieval, tools, guard, redaction and the store are the domain's real ones; the generator answers at once, with
every word of the conversation's own that its prompt holds. Each conversation has a word, an e-mail address and a loan that no
other has: a foreign one in a prompt, a reply or a row is cross-talk. Some of its messages are sent without waiting for the
answer to the one before. Afterwards what was told is held against the rows, and against what the same conversation is told
when it is held again alone.
"""

import argparse
import asyncio
import json
import random
import re
import resource
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from agent import Agent, Done, ScriptedGenerator
from agent.schema import turns as rows
from agent.types import Made, Message

DOMAIN = "finance"
RESULTS = Path(__file__).parent / "results"
WORD = re.compile(r"\bword[a-z]{6}\b")
MARK = re.compile(r"\[EMAIL_\d+\]")
STRIDE = 5
"""Kinds of messages: `Conversation.message`."""


class Echo(ScriptedGenerator):
    """Says every word of `WORD`'s form that its messages hold, in their order, and the marks of the last message."""

    async def stream(self, messages: Sequence[Message], max_tokens: int, *, session: str = "",
                     made: Made | None = None) -> AsyncIterator[str]:
        """A word at a time."""
        said = [word for message in messages for word in WORD.findall(message["content"])]
        if made is not None:
            made.engine, made.prompt_tokens, made.tokens = "echo", len(messages), len(said)
        for word in said + MARK.findall(messages[-1]["content"]):
            yield f"{word} "
            await asyncio.sleep(0)  # as an engine would, it lets others in


@dataclass
class Conversation:
    """One of them, and what it was told."""

    number: int
    questions: Sequence[str]
    told: list[tuple[str, Done]] = field(default_factory=list)
    took_ms: list[float] = field(default_factory=list)

    @property
    def word(self) -> str:
        """Nobody else's."""
        drawn = random.Random(self.number).choices("abcdefghijklmnop", k=3)
        return "word" + "".join([*drawn, *("qrstuvwxyz"[int(digit)] for digit in f"{self.number:03}")])

    @property
    def session(self) -> str:
        """Its id."""
        return f"conversation-{self.number}"

    @property
    def loan(self) -> int:
        """In dollars; no question of the domain's has such an amount."""
        return 10_003 + 10 * self.number

    def message(self, turn: int) -> str:
        """The next message: a question with its word, one with its address, its loan, what follows on that, on the articles."""
        question = self.questions[(7 * self.number + turn) % len(self.questions)]
        told, signed, following = forms(question, self.word)
        return (told, signed, f"What would a loan of ${self.loan:,} at 6.5% over 5 years cost me a month?", "and over 7 years?",
                following)[turn % STRIDE]

    def foreign(self) -> list[str]:
        """What it was told that is another's: a word, a loan, the answer to another's message."""
        found = []
        for turn, (text, done) in enumerate(self.told):
            heard = WORD.findall(f"{done.reply} {done.turn.reply} {done.turn.redacted}")
            found += [f"{self.session} heard {word} in turn {turn}" for word in {*heard} - {self.word}]
            amount = done.turn.tool_arguments.get("amount", 0)
            if amount % 10 == 3 and 10_000 < amount < 20_000 and amount != self.loan:
                found.append(f"{self.session} has the loan {amount} in turn {turn}")
            if done.turn.question != text:
                found.append(f"{self.session} was told of {done.turn.question!r} in turn {turn}")
        return found


def forms(question: str, word: str) -> tuple[str, str, str]:
    """A question with a word, from an address, and as a follow-up, which takes what went before into its prompt."""
    return (f"{question} My word is {word}.", f"I am {word}@example.org. {question}",
            f"and {question[0].lower()}{question[1:]} My word is {word}.")


async def converse(agent: Agent, conversations: Sequence[Conversation], turns: int, quarter: Any = lambda: None) -> None:
    """All of them at once, each `turns` messages long; `quarter()` is called when a quarter of all turns was told."""
    left = [len(conversations) * turns * part // 4 for part in (1, 2, 3, 4)]
    count = 0

    async def ask(each: Conversation, turn: int) -> None:
        nonlocal count
        begun, text = time.perf_counter(), each.message(turn)
        each.told.append((text, await agent.ask(text, each.session)))
        each.took_ms.append((time.perf_counter() - begun) * 1000)
        count += 1
        while left and count >= left[0]:
            left.pop(0)
            quarter()

    async def talk(each: Conversation) -> None:
        for turn in range(0, turns, STRIDE):
            await ask(each, turn)
            if turn + 1 < turns:
                await ask(each, turn + 1)
            # the loan and what follows from it are sent at once: the second one counts on the first one's place before it
            await asyncio.gather(*(asyncio.create_task(ask(each, later)) for later in range(turn + 2, min(turn + 4, turns))))
            if turn + 4 < turns:
                await ask(each, turn + 4)

    await asyncio.gather(*map(talk, conversations))


def held_against_the_store(agent: Agent, conversations: Sequence[Conversation]) -> list[str]:
    """Where the rows differ from what was told: ids, order, numbers, questions, replies, prompts."""
    names = (rows.c.id, rows.c.session, rows.c.seq, rows.c.question, rows.c.reply, rows.c.error, rows.c.messages)
    with agent.store.reading() as at:
        found = at.execute(sa.select(*names).order_by(rows.c.session, rows.c.seq)).all()
    kept: dict[str, list[Any]] = {}
    for row in found:
        kept.setdefault(row.session, []).append(row)
    wrong = []
    for each in conversations:
        mine = kept.pop(each.session, [])
        if [row.seq for row in mine] != list(range(1, len(each.told) + 1)):
            wrong.append(f"{each.session} has the rows {[row.seq for row in mine]}")
        for row, (_, done) in zip(mine, each.told):
            if (row.id, row.question, row.reply, row.error) != (done.turn.id, done.turn.redacted, done.turn.reply, None):
                wrong.append(f"{each.session}, row {row.seq}: {row.question!r} / {row.reply!r}, error {row.error!r}")
            if any(word != each.word for word in WORD.findall(json.dumps(row.messages))):
                wrong.append(f"{each.session}, row {row.seq}: another's word is in its prompt")
    return wrong + [f"{session} was never begun" for session in kept]


def alone(agent: Agent, conversations: Sequence[Conversation]) -> list[str]:
    """Where a conversation was told anything else than the same one is that is held again with nobody beside it."""
    wrong = []

    async def again(each: Conversation) -> None:
        for turn, (text, before) in enumerate(each.told):
            done = await agent.ask(text, f"alone-{each.number}")
            if (done.reply, done.turn.intent, done.turn.state) != (before.reply, before.turn.intent, before.turn.state):
                wrong.append(f"{each.session}, turn {turn}: {before.reply!r}, and alone {done.reply!r}")

    async def one_after_the_other() -> None:
        for each in conversations:
            await again(each)

    asyncio.run(one_after_the_other())
    return wrong


def begin(agent: Agent, count: int) -> list[Conversation]:
    """That many conversations about the domain's own questions."""
    asked = sorted({row["question"] for row in agent.domain.rows("questions.jsonl")})
    random.Random(5).shuffle(asked)
    return [Conversation(number, asked) for number in range(count)]


def resident() -> float:
    """MB of this process in memory now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize() / 2**20


def measure(agent: Agent, count: int, turns: int) -> dict[str, Any]:
    """The whole table."""
    conversations = begin(agent, count)
    memory = [resident()]
    begun = time.perf_counter()
    asyncio.run(converse(agent, conversations, turns, lambda: memory.append(resident())))
    seconds = time.perf_counter() - begun
    told = sum(len(each.told) for each in conversations)
    wrong = held_against_the_store(agent, conversations)
    with agent.store.reading() as at:
        stored = at.execute(sa.select(sa.func.count()).select_from(rows)).scalar_one()
    held = len(agent.redactors)
    took = sorted(each for conversation in conversations for each in conversation.took_ms)
    return {"conversations": count, "turns_each": turns, "told": told, "rows": stored,
            "foreign": [each for conversation in conversations for each in conversation.foreign()],
            "rows_that_differ": wrong, "otherwise_than_alone": alone(agent, conversations),
            "echoed": sum(done.turn.engine == "echo" for each in conversations for _, done in each.told),
            "by_tools": sum(bool(done.turn.tool_result) for each in conversations for _, done in each.told),
            "seconds": seconds, "turns_s": told / seconds,
            "turn_ms": {"p50": took[len(took) // 2], "p99": took[int(len(took) * 0.99)], "max": took[-1]},
            "memory_mb": [round(each, 1) for each in memory],
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            "redactors": held, "redactors_most": agent.redactors.most, "sessions_in_line": len(agent.line)}


def markdown(table: dict[str, Any]) -> str:
    """As the README of the results shows it."""
    memory, took = table["memory_mb"], table["turn_ms"]
    return "\n".join([
        f"# {table['conversations']} conversations of {table['turns_each']} turns at once, one process",
        f"On {table['device']}.", "",
        "| | |", "|---|---|", f"| turns told / rows in the store | {table['told']} / {table['rows']} |",
        f"| another's word, address, loan or answer in a reply | {len(table['foreign'])} |",
        f"| rows that differ from what was told, are out of order, or have another's word in their prompt "
        f"| {len(table['rows_that_differ'])} |",
        f"| replies other than those of the same conversation alone | {len(table['otherwise_than_alone'])} |",
        f"| of them written by the generator / answered by tools | {table['echoed']} / {table['by_tools']} |",
        f"| turns a second, routing and retrieval included | {table['turns_s']:.1f} |",
        f"| a turn, ms, waiting for the others included: median, p99, longest "
        f"| {took['p50']:.0f}, {took['p99']:.0f}, {took['max']:.0f} |",
        f"| memory, MB: before, after each quarter of the turns | {', '.join(f'{each:.0f}' for each in memory)} |",
        f"| memory at the peak, MB, loading included | {table['peak_mb']:.0f} |",
        f"| sessions whose private values are held / at most | {table['redactors']} / {table['redactors_most']} |",
        f"| sessions still in line | {table['sessions_in_line']} |"])


def main() -> None:
    """Measure, print and keep."""
    from report import device

    asked = argparse.ArgumentParser()
    asked.add_argument("--conversations", type=int, default=200)
    asked.add_argument("--turns", type=int, default=20)
    asked.add_argument("--home", default=None, help="a home with the base models; its database is not used")
    asked.add_argument("--out", type=Path, default=RESULTS / "concurrency.json")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        agent = Agent.load(DOMAIN, generator=Echo(), database=f"sqlite:///{folder}/retune.db", home=given.home)
        try:
            table = measure(agent, given.conversations, given.turns) | {"device": device()}
        finally:
            agent.close()
    given.out.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    given.out.with_suffix(".md").write_text(markdown(table) + "\n", encoding="utf-8")
    print(markdown(table))
    for each in (table["foreign"] + table["rows_that_differ"] + table["otherwise_than_alone"])[:20]:
        print(each)


if __name__ == "__main__":
    main()
