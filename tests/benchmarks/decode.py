"""The fast engine beside transformers' own `generate`, in one run: first word, tokens a second, same text.

Run: python tests/benchmarks/decode.py [prompts]. Writes results/decode.md and decode.json beside this file.
"""

import json
import statistics
import sys
import time
from pathlib import Path

from agent import prompt
from agent.domain import Domain
from agent.generators.onnx import OnnxDecoder
from agent.generators.tokens import Tokens
from agent.registry import Registry
from agent.serving import Bases
from agent.settings import Settings

NEW = 48  # tokens of each answer
RESULTS = Path(__file__).parent / "results"


def prompts(domain: Domain, count: int) -> list[list[dict[str, str]]]:
    """Prompts of about 300 tokens: four facts and a held-out question."""
    facts = [prompt.fact(p.title, p.heading, p.text) for p in domain.passages]
    rows = [row for row in domain.rows("eval/questions.jsonl") if not row.get("history")][:count]
    return [prompt.render(domain, facts[4 * i % (len(facts) - 4):][:4], (), row["question"]) for i, row in enumerate(rows)]


def measure_fast(decoder: OnnxDecoder, ids: list[int]) -> tuple[float, float, list[int]]:
    """(seconds to the first token, tokens a second after it, tokens)."""
    started = time.perf_counter()
    stream = decoder.decode(ids, NEW)
    tokens = [next(stream)]
    first = time.perf_counter() - started
    started = time.perf_counter()
    tokens += list(stream)
    return first, (len(tokens) - 1) / (time.perf_counter() - started), tokens


def measure_reference(model, ids: list[int]) -> tuple[float, float, list[int]]:
    """The same of `generate`: one call for the first token, one for all."""
    import torch

    def run(count: int) -> tuple[float, list[int]]:
        started = time.perf_counter()
        out = model.generate(torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), do_sample=False,
                             max_new_tokens=count, min_new_tokens=count, pad_token_id=2)
        return time.perf_counter() - started, out[0, len(ids):].tolist()

    first, _ = run(1)
    whole, tokens = run(NEW)
    return first, (NEW - 1) / (whole - first), tokens


def main() -> None:
    """Measure, print and write the table."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    count = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    settings = Settings.load()
    bases, domain = Bases.ensure(settings), Domain.load("customer_service")
    adapter = Registry(domain, settings.home).get().part("generator")
    torch.set_num_threads(settings.cores)
    tokens = Tokens(bases.generator.path)
    encoded = [tokens.encode(messages) for messages in prompts(domain, count)]
    fast = OnnxDecoder(bases.generator, adapter, settings.cores)
    model = AutoModelForCausalLM.from_pretrained(bases.generator.path, dtype=torch.float32)
    model = (PeftModel.from_pretrained(model, adapter).merge_and_unload() if adapter else model).eval()
    model.generation_config.eos_token_id = None  # both write all NEW tokens
    rows = []
    for ids in encoded:
        cold, speed, written = measure_fast(fast, ids)  # the constant beginning is held from the prompt before, as in a chat
        fast._held = []
        nothing_held, _, _ = measure_fast(fast, ids)
        first, reference, expected = measure_reference(model, ids)
        rows.append({"tokens": len(ids), "first_word_s": cold, "first_word_nothing_held_s": nothing_held, "tokens_s": speed,
                     "reference_first_word_s": first, "reference_tokens_s": reference, "same_text": written == expected})
    median = {key: statistics.median(row[key] for row in rows) for key in rows[0] if key != "same_text"}
    same = sum(row["same_text"] for row in rows)
    lines = ["# Decoding on a CPU: ONNX Runtime beside transformers", "",
             f"{len(rows)} prompts, median {median['tokens']:.0f} tokens, {NEW} new tokens each, {settings.cores} threads, one run.", "",
             "| | transformers `generate` | Retune | ratio |", "|---|---|---|---|",
             f"| tokens a second | {median['reference_tokens_s']:.1f} | {median['tokens_s']:.1f} "
             f"| {median['tokens_s'] / median['reference_tokens_s']:.2f} |",
             f"| first word, persona held (s) | {median['reference_first_word_s']:.2f} | {median['first_word_s']:.2f} "
             f"| {median['reference_first_word_s'] / median['first_word_s']:.2f} |",
             f"| first word, nothing held (s) | {median['reference_first_word_s']:.2f} "
             f"| {median['first_word_nothing_held_s']:.2f} "
             f"| {median['reference_first_word_s'] / median['first_word_nothing_held_s']:.2f} |",
             f"| same greedy text | | {same} of {len(rows)} | |"]
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "decode.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (RESULTS / "decode.json").write_text(json.dumps({"median": median, "same_text": same, "rows": rows}, indent=1), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
