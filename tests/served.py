"""A generator on fault servers: adapters whose probes agree with what those servers say."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from faults.server import FaultServer, chance, follows

from agent.generators.vllm import VllmGenerator
from agent.types import Made
from agent.vllm.adapters import Adapter
from agent.vllm.canary import Probe
from agent.vllm.fleet import Fleet
from agent.vllm.wire import Limits, Server

PATIENT = Limits(connect=5, first_token=20, total=20)
ASKED = [{"role": "user", "content": "How can I pay?"}]
SAID = "You can pay by card or by bank transfer. We take no cash."


def adapter(folder: Path, name: str = "customer_service@0007-1a2b3c4d") -> Adapter:
    """One that a fault server loads, with two probes."""
    place = folder / name
    place.mkdir(exist_ok=True)
    (place / "adapter_config.json").write_text(json.dumps({"r": 8}), encoding="utf-8")
    probes = tuple(Probe(ids, answer, *([chance(tuned, token) for token in answer] for tuned in (False, True)),
                         tuple(follows(False, ids, 2)))
                   for ids, answer in ((ids, follows(True, ids, count)) for ids, count in (([1, 2, 3], 4), ([1, 2, 4], 2))))
    return Adapter(name, place, None, 8, probes)


@contextmanager
def generating(made: Adapter, *servers: FaultServer, limits: Limits = PATIENT, every: float = 3600) -> Iterator[VllmGenerator]:
    """A generator of that adapter on those servers, loaded if it can be; `every`: seconds between two looks of its fleet."""
    fleet = Fleet(lambda: [Server(server.url, server.key, limits) for server in servers], every=every)
    generator = VllmGenerator(fleet, lambda: made, limits.total)
    try:
        yield generator
    finally:
        fleet.close()


async def said(generator: VllmGenerator, session: str = "s", made: Made | None = None, into: list[str] | None = None) -> str:
    """The whole answer; `into` gets the pieces, also of one that fails."""
    pieces = into if into is not None else []
    async for piece in generator.stream(ASKED, 80, session=session, made=made):
        pieces.append(piece)
    return "".join(pieces)


def say(generator: VllmGenerator, session: str = "s", made: Made | None = None, into: list[str] | None = None) -> str:
    """`said` for code without an event loop; nothing here takes a minute."""

    async def soon() -> str:
        async with asyncio.timeout(60):
            return await said(generator, session, made, into)

    return asyncio.run(soon())


def until(true: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
