"""Supervised tuning of the generator's LoRA adapter on grounded rows.

Rows that share facts lie side by side in one sequence: the common prefix is computed once, and an attention mask lets
each row see the prefix and itself alone, which gives the same loss as one sequence a row (see the test). The head runs
on answer tokens only.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent import prompt
from agent.domain import Domain
from agent.errors import DataError
from agent.models import BaseModel
from tuning.dataset import Example, Group, Search, make_groups, split_examples
from tuning.recipe import GeneratorRecipe
from tuning.steps import TrainStep, device_of, save_adapter

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True, slots=True)
class Sequenced:
    """One group as token ids with what each token may see."""

    ids: list[int]
    positions: list[int]
    branch: list[int]
    """0 for the shared prefix, 1, 2, ... for the rows after it."""
    targets: list[tuple[int, int]]
    """(position in `ids`, token that has to follow)."""


def encode_group(group: Group, domain: Domain, tokenizer: Any, max_length: int,
                 until: Callable[[Example], int | None] = lambda example: None) -> list[Sequenced]:
    """The group as one sequence, or several where it would pass max_length.

    `until`: how many tokens of a row's answer are trained, None for all of it with its end.
    """
    def rows_of(example: Example) -> tuple[list[int], list[int]]:
        messages = prompt.render(domain, group.facts, example.history, example.question)
        opened = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        ask = tokenizer(opened, add_special_tokens=False)["input_ids"]
        answer = tokenizer(example.answer, add_special_tokens=False)["input_ids"]
        return ask, [*answer, tokenizer.eos_token_id][:until(example)]

    head = tokenizer.apply_chat_template(prompt.render(domain, group.facts, (), "")[:1], tokenize=False)
    prefix = tokenizer(head, add_special_tokens=False)["input_ids"]
    made: list[Sequenced] = []
    for example in group.examples:
        ask, answer = rows_of(example)
        assert ask[:len(prefix)] == prefix, f"the system message is not a token prefix for {example.id}"
        size = len(ask) - len(prefix) + len(answer) - 1
        if not made or len(made[-1].ids) + size > max_length:
            if len(prefix) + size > max_length:
                raise DataError(f"Row {example.id} needs {len(prefix) + size} tokens and the recipe allows {max_length}; "
                                "shorten it or raise max_length.")
            made.append(Sequenced(list(prefix), list(range(len(prefix))), [0] * len(prefix), []))
        into = made[-1]
        number, own = max(into.branch) + 1, ask[len(prefix):] + answer[:-1]
        first_target = len(into.ids) + len(ask) - len(prefix) - 1  # the last token of the question foretells the answer
        into.targets.extend((first_target + i, token) for i, token in enumerate(answer))
        into.positions.extend(range(len(prefix), len(prefix) + len(own)))
        into.branch.extend([number] * len(own))
        into.ids.extend(own)
    return made


def collate(batch: Sequence[Sequenced], pad: int) -> dict[str, Any]:
    """Tensors of a batch: input_ids, position_ids [B, T], attention_mask bool [B, 1, T, T], rows, columns, targets."""
    import torch

    longest = max(len(item.ids) for item in batch)
    ids = torch.full((len(batch), longest), pad)
    positions, branch = torch.zeros_like(ids), torch.full_like(ids, -1)
    for i, item in enumerate(batch):
        ids[i, :len(item.ids)] = torch.tensor(item.ids)
        positions[i, :len(item.ids)] = torch.tensor(item.positions)
        branch[i, :len(item.ids)] = torch.tensor(item.branch)
    causal = torch.ones(longest, longest, dtype=torch.bool).tril()
    same = branch[:, :, None] == branch[:, None, :]
    sees = causal & (same | (branch[:, None, :] == 0))
    places = [(i, column, token) for i, item in enumerate(batch) for column, token in item.targets]
    rows, columns, targets = (torch.tensor(values) for values in zip(*places))
    return {"input_ids": ids, "position_ids": positions, "attention_mask": sees[:, None],
            "rows": rows, "columns": columns, "targets": targets}


def loss_of(model: Any, batch: dict[str, Any]) -> Any:
    """Mean cross-entropy of the answer tokens; the head sees those positions only."""
    import torch

    causal_lm = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden = causal_lm.model(input_ids=batch["input_ids"], position_ids=batch["position_ids"],
                             attention_mask=batch["attention_mask"], use_cache=False).last_hidden_state
    logits = causal_lm.lm_head(hidden[batch["rows"], batch["columns"]])
    return torch.nn.functional.cross_entropy(logits.float(), batch["targets"])


@dataclass(frozen=True, slots=True)
class Source:
    """One domain's rows with the search that finds their facts."""

    domain: Domain
    examples: Sequence[Example]
    search: Search


def train(sources: Sequence[Source], recipe: GeneratorRecipe, base: BaseModel, seed: int, out: Path,
          threads: int) -> Iterator[TrainStep]:
    """Train and write a PEFT adapter folder to `out`; yields steps. The best epoch by held-out loss is kept.

    Several sources train one adapter: reading is the same skill in every domain.
    """
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device = device_of(torch)
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).to(device)
    model = get_peft_model(model, LoraConfig(r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=0.0, bias="none",
                                             target_modules=TARGETS, task_type="CAUSAL_LM",
                                             layers_to_transform=list(range(recipe.frozen_layers, model.config.num_hidden_layers))))
    fit, kept = [], []
    for source in sources:
        train_rows, held_rows = split_examples(source.examples, recipe.held_out, seed)
        train_rows = random.Random(seed).sample(train_rows, min(recipe.rows, len(train_rows)))
        if not train_rows or not held_rows:
            raise DataError(f"{source.domain.name}: {len(source.examples)} grounded rows are too few to train on; "
                            "write some in dialogues.jsonl.")
        fit.append(replace(source, examples=train_rows))
        kept.append(replace(source, examples=held_rows))

    def batches(part: Sequence[Source], groups_seed: int, whole: float = 1.0) -> list[dict[str, Any]]:
        drawn = random.Random(groups_seed)

        def until(example: Example) -> int | None:  # which passage to tell is chosen in an answer's first words
            return None if drawn.random() < whole else recipe.answer_start

        encoded = [item for source in part
                   for group in make_groups(source.examples, source.domain, source.search, recipe.group, groups_seed)
                   for item in encode_group(group, source.domain, tokenizer, recipe.max_length, until)]
        encoded.sort(key=lambda item: len(item.ids))  # like lengths together: little padding
        made = [encoded[i:i + recipe.batch] for i in range(0, len(encoded), recipe.batch)]
        random.Random(groups_seed).shuffle(made)
        return [collate(items, tokenizer.pad_token_id) for items in made]

    held = batches(kept, seed)
    plan = [batches(fit, seed + epoch, recipe.whole_answers) for epoch in range(recipe.epochs)]
    total = sum(map(len, plan))
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _cosine(step, total, recipe.warmup))
    best, worse, done = math.inf, 0, 0
    for epoch, part in enumerate(plan):
        model.train()
        for batch in part:
            with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
                loss = loss_of(model, {key: value.to(device) for key, value in batch.items()})
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            rate.step()
            optimiser.zero_grad(set_to_none=True)
            done += 1
            yield TrainStep("generator", epoch, done, total, float(loss.detach()))
        held_loss = _held_out(model, held, device)
        yield TrainStep("generator", epoch, done, total, float(loss.detach()), held_loss)
        if held_loss < best:
            best, worse = held_loss, 0
            save_adapter(model, out)
        elif (worse := worse + 1) > recipe.patience:
            return


def _cosine(step: int, total: int, warmup: float) -> float:
    ramp = max(1, round(warmup * total))
    if step < ramp:
        return (step + 1) / ramp
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - ramp) / max(1, total - ramp)))


def _held_out(model: Any, batches: Sequence[dict[str, Any]], device: str) -> float:
    import torch

    model.eval()
    with torch.inference_mode():
        losses = [(float(loss_of(model, {k: v.to(device) for k, v in b.items()})), len(b["targets"])) for b in batches]
    return sum(loss * count for loss, count in losses) / sum(count for _, count in losses)
