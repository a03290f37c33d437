"""The agent on a real server: who answers is named, what is said is what the weights say, and faults are told."""

import asyncio
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import pytest

from agent.domain import Domain, shipped
from agent.errors import BundleError, EngineError, Rejected, Unreachable
from agent.generators.local import LocalGenerator
from agent.models import ensure
from agent.vllm import adapters
from agent.vllm.wire import Server

ASKED = {"customer_service": "How long do I have to send something back?", "medical": "How much water should I drink a day?",
         "finance": "What is an exchange-traded fund?"}


@pytest.mark.parametrize("name", shipped())
def test_ask_answers_by_the_server_and_names_the_bundle(place, name):
    came = place.retune("ask", name, ASKED[name], "--json")
    assert came.returncode == 0, came.stderr
    told = json.loads(came.stdout)
    assert told["bundle"] == f"{name}@0001" and told["engine"] == f"vllm {place.url}" and "fallback" not in told["flags"]
    assert told["tokens"]["answer"] > 3 and told["tokens"]["prompt"] > 50
    here = {model.name: model for model in Server(place.url, place.key).models()}
    assert any(served.startswith(f"{name}@0001-") and model.parent == "smollm2" for served, model in here.items())


def test_chat_takes_three_domains_through_one_server(place):
    lines = "\n".join(line for name in shipped() for line in (f"/domain {name}", ASKED[name], "/why"))
    came = place.retune("chat", stdin=lines)
    assert came.returncode == 0, came.stderr
    for name in shipped():
        assert re.search(rf"\[(answered|refused).*{name}@0001", came.stdout), came.stdout
    assert came.stdout.count(f"written by vllm {place.url}") == 3


def test_the_server_says_what_the_model_in_process_says(place):
    """Both greedy, both with the adapter, one merged and one beside the base."""
    agent = place.agent("finance")
    try:
        done = agent.ask_sync(ASKED["finance"])
        messages = agent.store.turn(done.turn.id)["messages"]
        served = asyncio.run(_whole(agent.serving.generator, messages))
        base = ensure("smollm2", agent.settings)
        local = LocalGenerator(base, agent.serving.bundle.part("generator"), place.settings(engine="transformers"))
        assert served == local.write(messages, 80)
        assert served != LocalGenerator(base, None, place.settings(engine="transformers")).write(messages, 80)
    finally:
        agent.close()


def test_one_of_the_options_and_nothing_else_is_chosen(place):
    agent = place.agent("finance")
    try:
        messages = [{"role": "user", "content": "Is a bond a kind of loan? Answer with one word."}]
        assert asyncio.run(agent.serving.generator.choose(messages, ["certainly", "by no means"])) in ("certainly", "by no means")
    finally:
        agent.close()


def test_who_stops_listening_stops_the_server(place):
    agent = place.agent("finance")
    agent.ask_sync(ASKED["finance"])

    async def leave() -> None:
        messages = [{"role": "user", "content": "Count from one to one thousand in words."}]
        streams = [agent.serving.generator.stream(messages, 1000, session=str(i)) for i in range(8)]
        for stream in streams:
            await anext(stream)
        for stream in streams:
            await stream.aclose()
        async with asyncio.timeout(60):
            while _running(place):
                await asyncio.sleep(0.2)

    asyncio.run(leave())
    assert agent.ask_sync("How are ETF dividends taxed?").turn.state in ("answered", "refused")
    agent.close()


def test_a_wrong_key_is_said_to_be_one(place):
    agent = place.agent("finance", vllm=place.url, vllm_key="wrong")
    with pytest.raises(Rejected, match="refuses the key; set vllm_key"):
        agent.ask_sync(ASKED["finance"])
    assert agent.store.sessions("finance", 1)
    agent.close()


def test_a_rank_above_the_servers_is_told_with_the_flag(place, tmp_path):
    part = _copy(place, tmp_path, r=32)
    with pytest.raises(Rejected, match="smaller --max-lora-rank than wide needs"):
        Server(place.url, place.key).load("wide", str(part))


def test_a_folder_that_the_server_does_not_see_is_named(place):
    with pytest.raises(Rejected, match="/nowhere/at/all .*must share that folder"):
        Server(place.url, place.key).load("far", "/nowhere/at/all")


def test_damaged_weights_never_reach_the_server(place, tmp_path):
    """vLLM takes them without a word, and answers nonsense to everybody from then on."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    part = _copy(place, tmp_path)
    values = load_file(part / "adapter_model.safetensors")
    name = sorted(values)[0]
    values[name] = np.full_like(values[name], np.nan)
    save_file(values, part / "adapter_model.safetensors")
    with pytest.raises(BundleError, match="not finite"):
        adapters.check(part, ensure("smollm2", place.settings()))


def test_an_unreachable_server_is_an_error_or_a_declared_fallback(place):
    alone = place.agent("finance", vllm="http://127.0.0.1:9", generator=None)
    with pytest.raises(Unreachable, match="No vLLM server answers at http://127.0.0.1:9 .*retune vllm up"):
        alone.ask_sync(ASKED["finance"])
    alone.close()
    helped = place.agent("finance", vllm="http://127.0.0.1:9", fallback=True)
    done = helped.ask_sync(ASKED["finance"])
    assert done.turn.flags == ("fallback",) and done.turn.engine in ("onnx", "transformers") and done.reply
    assert "The model in process answers instead." in helped.notices[-1]
    helped.close()


def test_a_server_killed_in_mid_answer_is_an_error_and_comes_back_with_its_adapters(place):
    agent = place.agent("finance")
    agent.ask_sync(ASKED["finance"])
    session = "killed"

    async def kill() -> None:
        said = []
        messages = [{"role": "user", "content": "Tell me a long story about a fox, a hen and a river."}]
        with pytest.raises(EngineError) as raised:
            async for piece in agent.serving.generator.stream(messages, 900, session=session):
                said.append(piece)
                if len(said) == 3:
                    engines = _engines(place.home)
                    assert engines
                    for process in engines:
                        os.kill(process, signal.SIGKILL)
        assert len(said) >= 3 and place.url in str(raised.value)

    asyncio.run(kill())
    deadline, done = time.monotonic() + 300, None
    while done is None and time.monotonic() < deadline:
        try:
            done = agent.ask_sync(ASKED["finance"])
        except EngineError:
            time.sleep(2)
    assert done is not None and done.turn.engine == f"vllm {place.url}"
    told = json.loads(place.retune("vllm", "status", "--json").stdout)
    assert told["restarts"] >= 1
    agent.close()


def _engines(home: Path) -> list[int]:
    """The processes of the server, below the one that keeps it running."""
    keeper = json.loads((home / "vllm" / "server.json").read_text(encoding="utf-8"))["pid"]
    found, parents = [], [keeper]
    while parents:
        parent = parents.pop()
        children = [int(number) for file in Path(f"/proc/{parent}/task").glob("*/children")
                    for number in file.read_text(encoding="ascii").split()]
        parents += children
        found += children
    return found


def _running(place) -> float:
    import httpx2

    text = httpx2.get(f"{place.url}/metrics", headers={"Authorization": f"Bearer {place.key}"}).text
    return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
               if line.startswith(("vllm:num_requests_running", "vllm:num_requests_waiting")) and "by_reason" not in line)


def _copy(place, tmp_path: Path, **config: object) -> Path:
    part = tmp_path / "part"
    shutil.copytree(Domain.load("finance").models / "generator", part)
    if config:
        file = part / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | config), encoding="utf-8")
        import numpy as np
        from safetensors.numpy import load_file, save_file

        values = load_file(part / "adapter_model.safetensors")
        wide = {name: np.concatenate([value, value], axis=0 if "lora_A" in name else 1) for name, value in values.items()}
        save_file(wide, part / "adapter_model.safetensors")
    return part


async def _whole(generator, messages) -> str:
    return "".join([piece async for piece in generator.stream(messages, 80)])
