"""Training speed of the generator beside TRL: the same rows, batches, order, adapter, rate and steps, one after the other.

What differs is how a batch is computed. Retune lays rows that share facts side by side in one sequence and runs the head on
answer tokens alone; TRL's `SFTTrainer` gets a row a sequence. TRL runs twice: with its defaults, and with what one would
change by hand on a CPU (no gradient checkpointing, float32). The rate is ours in all three, since TRL's default of 2e-5 is
for tuning all weights; so is the loss on answer tokens alone, without cutting rows (of token ids TRL would train on the
prompts too, and on the first 1,024 tokens).

    python tests/benchmarks/train.py [STEPS] [--defaults]

With --defaults TRL's defaults train too; where a CPU has no bf16 units, one step of those takes many minutes.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from agent import paths
from agent.domain import Domain
from agent.encoder import Encoder
from agent.models import ensure
from agent.retrieve import Index
from agent.settings import Settings
from tuning import dataset, methods, recipe, train_generator, trainer
from tuning.train_generator import Sequenced

HERE = Path(__file__).resolve().parent
ROWS = 8  # of a batch, TRL's default
HELD = 4  # groups that measure the final loss


def main() -> None:
    """Train three times and write the table."""
    os.environ.update(HF_HUB_DISABLE_TELEMETRY="1", TRANSFORMERS_VERBOSITY="error", HF_HUB_OFFLINE="1")
    numbers = [int(word) for word in sys.argv[1:] if word.isdigit()]
    steps = numbers[0] if numbers else 8
    settings = Settings.load()
    base = ensure(settings.generator, settings)
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base.path)
    groups = full_groups(Domain.load("finance"), settings, tokenizer, steps + HELD)
    fit, held = groups[:steps], groups[steps:]
    how = replace(recipe.load("default").generator, schedule="constant", warmup=0.0, epochs=1, batch=1, bf16="off")
    arms = {"Retune": by_retune, "TRL, float32 without checkpointing": partial(
        by_trl, {"gradient_checkpointing": False, "bf16": False})}
    arms |= {"TRL, defaults": partial(by_trl, {})} if "--defaults" in sys.argv else {}
    table: dict[str, Any] = {"steps": steps, "rows": steps * ROWS, "threads": settings.cores, "arms": {}}
    for name, train in arms.items():
        table["arms"][name] = train(fit, held, how, base, tokenizer, settings)
        print(f"{name}: {table['arms'][name]}", file=sys.stderr, flush=True)
    ours = table["arms"]["Retune"]
    for arm in table["arms"].values():
        arm["speed"] = arm["answer_tokens"] / arm["train_s"]
        arm["ours_is_faster_by"] = arm["train_s"] / ours["train_s"]
        arm["final_loss_to_ours"] = arm["final_loss"] / ours["final_loss"] - 1
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / f"train-{steps}.json").write_text(json.dumps(table, indent=1), encoding="utf-8")
    (HERE / "results" / f"train-{steps}.md").write_text(as_markdown(table), encoding="utf-8")
    print(as_markdown(table))


def full_groups(domain: Domain, settings: Settings, tokenizer: Any, count: int) -> list[Sequenced]:
    """Groups of exactly ROWS questions that share their facts, whole answers, one sequence each."""
    encoder = ensure(settings.encoder, settings)
    index = Index.build(domain, Encoder(encoder, None, settings.cores), encoder.fingerprint, paths.index(settings.home))
    rows = [row for row in dataset.generator_rows(domain) if row.evidence and not row.history]
    made = dataset.make_groups(rows, domain, partial(index.search, unseen=True), ROWS, 7)
    whole = [group for group in made if len(group.examples) == ROWS][:count]
    assert len(whole) == count, f"only {len(whole)} groups of {ROWS} rows"
    return [train_generator.encode_group(group, domain, tokenizer, 4000)[0] for group in whole]


def fresh(how: recipe.GeneratorRecipe, base: Any) -> Any:
    """The base with a new adapter, the same each time."""
    import torch
    from transformers import AutoModelForCausalLM

    torch.manual_seed(7)
    return methods.apply(AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32), how, "generator", 1)


def by_retune(fit: Sequence[Sequenced], held: Sequence[Sequenced], how: Any, base: Any, tokenizer: Any,
              settings: Settings) -> dict[str, float]:
    """As `retune train` does it."""
    model = fresh(how, base)
    pad = tokenizer.pad_token_id
    job = trainer.Job("generator", train_generator._net(model, how), model,
                      [{"params": [value for value in model.parameters() if value.requires_grad], "lr": how.learning_rate}],
                      [[[group] for group in fit]], lambda batch: train_generator.collate(batch, pad), lambda: 0.0, how, 7,
                      settings.cores)
    started = time.perf_counter()
    for _ in trainer.run(job):
        pass
    return figures(time.perf_counter() - started, model, fit, held, pad)


def by_trl(changes: dict[str, Any], fit: Sequence[Sequenced], held: Sequence[Sequenced], how: Any, base: Any, tokenizer: Any,
           settings: Settings) -> dict[str, float]:
    """SFTTrainer on the same tokens, a row a sequence, in the same order."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    torch.set_num_threads(settings.cores)
    rows = [row for group in fit for row in apart(group)]
    model = fresh(how, base)
    with tempfile.TemporaryDirectory() as folder:
        told = SFTConfig(output_dir=folder, learning_rate=how.learning_rate, lr_scheduler_type="constant", num_train_epochs=1,
                         train_sampling_strategy="sequential", use_cpu=True, report_to="none", save_strategy="no",
                         disable_tqdm=True, weight_decay=how.weight_decay, completion_only_loss=True, max_length=None,
                         **changes)
        trains = SFTTrainer(model=model, args=told, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
        started = time.perf_counter()
        trains.train()
        spent = time.perf_counter() - started
    return figures(spent, model, fit, held, tokenizer.pad_token_id)


def apart(group: Sequenced) -> Iterator[dict[str, list[int]]]:
    """The rows of a group as sequences of their own: {"input_ids", "completion_mask"}."""
    prefix = [token for token, branch in zip(group.ids, group.branch) if branch == 0]
    for number in range(1, max(group.branch) + 1):
        own = [i for i, branch in enumerate(group.branch) if branch == number]
        targets = [(place, token) for place, token in group.targets if group.branch[place] == number]
        asked = own.index(targets[0][0]) + 1
        ids = prefix + [group.ids[i] for i in own[:asked]] + [token for _, token in targets]
        yield {"input_ids": ids, "completion_mask": [0] * (len(ids) - len(targets)) + [1] * len(targets)}


def figures(spent: float, model: Any, fit: Sequence[Sequenced], held: Sequence[Sequenced], pad: int) -> dict[str, float]:
    """Seconds, answer tokens trained on, and the loss on held-out groups, measured in the same way for all."""
    model = model.float().eval()
    if hasattr(model, "gradient_checkpointing_disable"):
        model.gradient_checkpointing_disable()
    loss = train_generator._held_out(model, (train_generator.collate([group], pad) for group in held))
    return {"train_s": spent, "answer_tokens": sum(len(group.targets) for group in fit), "final_loss": loss}


def as_markdown(table: dict[str, Any]) -> str:
    """For the README."""
    lines = [f"{table['rows']} rows in {table['steps']} steps, {table['threads']} threads, one run.", "",
             "| | answer tokens a second | ours is faster by | held-out loss at the end | to ours |", "|---|---|---|---|---|"]
    lines += [f"| {name} | {arm['speed']:.1f} | {arm['ours_is_faster_by']:.2f} | {arm['final_loss']:.4f} | "
              f"{arm['final_loss_to_ours']:+.2%} |" for name, arm in table["arms"].items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
