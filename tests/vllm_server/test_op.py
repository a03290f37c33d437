"""The plugin in a real server: who has no adapter, or another one, gets nothing of a neighbour's in the same step."""

import asyncio
import time
from pathlib import Path
from typing import Any

from agent.vllm.wire import Server

ADAPTER = Path(__file__).parents[2] / "domains/finance/models/generator"
QUESTIONS = ["What is an APR?", "How do I report a lost card?", "Name three colours.", "What is a fixed rate?"]
SLOTS = 8  # names; at least as many as the server has slots, so that the last one is in use


async def answer(server: Server, model: str, question: str) -> str:
    """A greedy answer of twelve tokens."""
    pieces = server.chat(model, [{"role": "user", "content": question}], 12, time.monotonic() + 120)
    return "".join([piece.text async for piece in pieces])


async def answers(server: Server, turns: list[tuple[str, str]]) -> list[str]:
    """Those of all turns, which run at once."""
    return list(await asyncio.gather(*(answer(server, model, question) for model, question in turns)))


async def alone(server: Server, turns: list[tuple[str, str]]) -> list[str]:
    """Those of all turns, one after the other."""
    return [await answer(server, model, question) for model, question in turns]


def test_base_and_adapters_in_one_step_answer_as_each_does_alone(place: Any) -> None:
    server = Server(place.url, place.key)
    base = next(model.name for model in server.models() if not model.parent)
    names = [f"op@{number}" for number in range(SLOTS)]
    try:
        for name in names:
            server.load(name, str(ADAPTER.resolve()))
        asyncio.run(answers(server, [(name, "Hello") for name in names]))  # every slot is filled
        turns = [(model, question) for question in QUESTIONS for model in (base, names[-1], names[0])]
        expected = asyncio.run(alone(server, turns))
        assert expected[0::3] != expected[1::3]  # the adapter can be told from the base at all
        assert expected[1::3] == expected[2::3]  # one adapter under two names
        assert asyncio.run(answers(server, turns)) == expected
    finally:
        for name in names:
            server.unload(name)
