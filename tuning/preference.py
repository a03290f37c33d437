"""Preferences through TRL: DPO on corrections, KTO and APO-zero on thumbs, each held to the adapter that it starts from.

Knows rows and an adapter folder; nothing of the store, and nothing of whether what comes out is better.
"""

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from agent import prompt
from agent.domain import Domain
from agent.errors import DataError
from agent.models import BaseModel
from tuning import methods
from tuning.recipe import PreferenceRecipe
from tuning.rows import Row
from tuning.steps import TrainStep, device_of, in_steps, save_adapter

LIKED = ("up", "correction", "reply")
"""Signals whose answer is what people want; that of `down` is what they do not."""
AT_ONCE = 4
"""Sequences in memory at once: a prompt with two facts has up to a thousand tokens."""


def train(rows: Sequence[Row], recipe: PreferenceRecipe, base: BaseModel, champion_adapter: Path, domain: Domain, seed: int,
          out: Path, threads: int) -> Iterator[TrainStep]:
    """Go on from the LoRA folder `champion_adapter` and write a LoRA folder to `out`; yields steps.

    The reference is a frozen copy of that adapter, so the model is held to what it was and not to the bare base. TRL
    makes the copy itself (named `ref`) where the model comes with an adapter. Closing the iterator stops training.
    Raises DataError where there is no pair (dpo), or nothing liked or nothing disliked (kto, apo_zero_unpaired), and
    StoreError if the disk is full.
    """
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert recipe.method != "none", "the caller skips this stage"
    wanted = pairs(rows, domain) if recipe.method == "dpo" else thumbs(rows, domain, seed)
    if recipe.method == "kto" and recipe.batch < 2:
        raise DataError("kto compares the rows of a batch with one another; set batch of [preference] to 2 or more.")
    if not (champion_adapter / "adapter_config.json").is_file():
        raise DataError(f"{champion_adapter} holds no LoRA adapter, and preferences go on from one; tune the generator with "
                        "method lora, rslora or adalora first, or set method of [preference] to none.")
    torch.set_num_threads(threads)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, champion_adapter, is_trainable=True)
    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(wanted, recipe, model, AutoTokenizer.from_pretrained(base.path), seed, Path(scratch))
        yield from in_steps(lambda tell: _run(trainer, threads, tell))
    with methods.writing(out):
        save_adapter(model, out)


def pairs(rows: Sequence[Row], domain: Domain) -> list[dict[str, Any]]:
    """{prompt, chosen, rejected} of every row whose reply somebody wrote better; a row of weight n stands there n times."""
    found = [{"prompt": _asked(row, domain), "chosen": _said(row.answer), "rejected": _said(row.rejected)}
             for row in rows if row.part == "generator" and row.answer and row.rejected
             and row.answer.strip() != row.rejected.strip() for _ in range(row.weight)]
    if not found:
        raise DataError("dpo needs corrections, a reply with a better one beside it, and there is none; "
                        "give some (/correct in chat) or choose kto or none in [preference].")
    return found


def thumbs(rows: Sequence[Row], domain: Domain, seed: int) -> list[dict[str, Any]]:
    """{prompt, completion, label} of every liked or disliked reply; the two kinds lie evenly mixed, as KTO reads in order.

    A correction gives both: what the person wrote, and the reply that it replaced.
    """
    kinds: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    for row in rows:
        if row.part != "generator":
            continue
        told = [(row.answer, True)] if row.signal in LIKED else [(row.answer, False)] if row.signal == "down" else []
        for words, label in [*told, (row.rejected, False)]:
            if words:
                kinds[label] += [{"prompt": _asked(row, domain), "completion": _said(words), "label": label}] * row.weight
    if not kinds[True] or not kinds[False]:
        there, missing = ("liked", "disliked") if kinds[True] else ("disliked", "liked")
        raise DataError(f"kto and apo_zero_unpaired need liked and disliked replies: there are {len(kinds[there == 'liked'])} "
                        f"{there} and no {missing} ones; collect thumbs of both kinds or set method of [preference] to none.")
    order = random.Random(seed)
    for told in kinds.values():
        order.shuffle(told)
    placed = [((i + 0.5) / len(told), label, row) for label, told in kinds.items() for i, row in enumerate(told)]
    return [row for _, _, row in sorted(placed, key=lambda place: place[:2])]


def balance(liked: int, disliked: int) -> tuple[float, float]:
    """Weights of both kinds so that (weight x count) stand 7 to 6, inside the 1:1 to 4:3 of KTO's authors (2402.01306, eq. 8).

    The larger kind weighs less, rather than the smaller one more: a step never grows.
    """
    return (7 * disliked / (6 * liked), 1.0) if 6 * liked >= 7 * disliked else (1.0, 6 * liked / (7 * disliked))


def _asked(row: Row, domain: Domain) -> list[dict[str, str]]:
    return prompt.render(domain, row.facts, row.history, row.question)


def _said(words: str | None) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": (words or "").strip()}]


def _at_once(batch: int, least: int, most: int) -> int:
    """The largest part of a batch that fits into memory, in which it divides; the rest is accumulated."""
    return next((size for size in range(min(most, batch), least - 1, -1) if batch % size == 0), batch)


def _trainer(wanted: list[dict[str, Any]], recipe: PreferenceRecipe, model: Any, tokenizer: Any, seed: int,
             scratch: Path) -> Any:
    import datasets
    import torch
    import trl
    from transformers import PrinterCallback

    dpo = recipe.method == "dpo"
    size = _at_once(recipe.batch, 1, AT_ONCE // 2) if dpo else _at_once(recipe.batch, 2, AT_ONCE)
    if not dpo and len(wanted) % size == 1:  # a batch of one row would be its own estimate of the KL term
        wanted = [*wanted, next(row for row in wanted if row["label"] != wanted[-1]["label"])]
    common = dict(
        output_dir=str(scratch), seed=seed, data_seed=seed, learning_rate=recipe.learning_rate, beta=recipe.beta,
        num_train_epochs=recipe.epochs, per_device_train_batch_size=size, gradient_accumulation_steps=recipe.batch // size,
        lr_scheduler_type="linear", weight_decay=0.0, max_length=None, gradient_checkpointing=False,
        use_cpu=device_of(torch) == "cpu", bf16=device_of(torch) == "cuda", logging_steps=1, save_strategy="no",
        report_to="none", disable_tqdm=True, push_to_hub=False, dataloader_pin_memory=False)
    if dpo:
        losses = [("sigmoid", 1.0), *([("sft", recipe.sft_weight)] if recipe.sft_weight else [])]
        made, settings = trl.DPOTrainer, trl.DPOConfig(loss_type=[name for name, _ in losses],
                                                       loss_weights=[weight for _, weight in losses], **common)
    else:
        liked = sum(row["label"] for row in wanted)
        weights = balance(liked, len(wanted) - liked)
        made, settings = trl.KTOTrainer, trl.KTOConfig(loss_type=recipe.method, desirable_weight=weights[0],
                                                       undesirable_weight=weights[1], **common)

    datasets.disable_progress_bars()
    trainer = _silent(made)(model=model, args=settings, train_dataset=datasets.Dataset.from_list(wanted),
                            processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    return trainer


def _silent(trainer: type) -> type:
    """A trainer of TRL that sends nothing anywhere, whatever the environment says."""
    return type(trainer.__name__, (trainer,), {"_send_telemetry": lambda self: None})


def _run(trainer: Any, threads: int, tell: Callable[[TrainStep], None]) -> None:
    """In the trainer's own thread."""
    import torch
    from transformers import TrainerCallback

    class Reporter(TrainerCallback):
        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **_: Any) -> None:
            if "loss" in logs:  # the summary at the end has none
                epoch = (state.global_step - 1) * int(args.num_train_epochs) // state.max_steps
                tell(TrainStep("preference", epoch, state.global_step, state.max_steps, logs["loss"]))

    torch.set_num_threads(threads)
    trainer.add_callback(Reporter())
    trainer.train()
