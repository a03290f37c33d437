"""Supervised tuning of the generator on grounded rows.

Rows that share facts lie side by side in one sequence: the common prefix is computed once, and an attention mask lets
each row see the prefix and itself alone, which gives the same loss as one sequence a row (see the test). The head runs
on answer tokens only.
"""

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agent import prompt
from agent.domain import Domain
from agent.errors import DataError
from agent.models import BaseModel
from tuning import losses, methods, trainer
from tuning.dataset import Example, Group, Search, make_groups, split_examples
from tuning.recipe import GeneratorRecipe
from tuning.steps import Note, TrainStep


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


def logits_of(model: Any, batch: dict[str, Any]) -> Any:
    """[targets, vocabulary]; the head sees the positions that foretell answer tokens only."""
    import torch

    causal_lm, places, sees = methods.base_of(model), batch["position_ids"], batch["attention_mask"]
    if (prefix := methods.prefix_of(model, len(sees))) is not None:  # comes before everything and is seen by all
        length = prefix.get_seq_length()
        places, sees = places + length, torch.nn.functional.pad(sees, (length, 0), value=True)
    hidden = causal_lm.model(input_ids=batch["input_ids"], position_ids=places, attention_mask=sees, past_key_values=prefix,
                             use_cache=prefix is not None).last_hidden_state
    return causal_lm.lm_head(hidden[batch["rows"], batch["columns"]])


def loss_of(model: Any, batch: dict[str, Any]) -> Any:
    """Mean cross-entropy of the answer tokens."""
    return losses.mean_loss(logits_of(model, batch), batch["targets"])


@dataclass(frozen=True, slots=True)
class Source:
    """One domain's rows with the search that finds their facts."""

    domain: Domain
    examples: Sequence[Example]
    search: Search


def train(sources: Sequence[Source], recipe: GeneratorRecipe, base: BaseModel, seed: int, out: Path, threads: int,
          state: Path | None = None, curves: Path | None = None, start: Path | None = None) -> Iterator[TrainStep | Note]:
    """Train and write what was tuned to the folder `out`; yields steps, first a Note if vLLM cannot take it as it is.

    Several sources train one adapter: reading is the same skill in every domain. The best epoch by held-out loss is kept.
    state: a folder for the trainer's states; after a kill the same call goes on from the last. curves: one for TensorBoard.
    start: a LoRA folder that is gone on from.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    plain, sentence = methods.servable(recipe.method)
    if not plain or recipe.method == "adalora":
        yield Note(sentence)
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    fit, kept = [], []
    for source in sources:
        train_rows, held_rows = split_examples(source.examples, recipe.held_out, seed)
        train_rows = _few_refusals(random.Random(seed).sample(train_rows, min(recipe.rows, len(train_rows))),
                                   source.domain.unknown, recipe.refusals)
        if not train_rows or not held_rows:
            raise DataError(f"{source.domain.name}: {len(source.examples)} grounded rows are too few to train on; "
                            "write some in dialogues.jsonl.")
        fit.append(replace(source, examples=train_rows))
        kept.append(replace(source, examples=held_rows))

    def batches(part: Sequence[Source], groups_seed: int, whole: float = 1.0) -> list[list[Sequenced]]:
        drawn = random.Random(groups_seed)

        def until(example: Example) -> int | None:  # which passage to tell is chosen in an answer's first words
            return None if drawn.random() < whole else recipe.answer_start

        encoded = [item for source in part
                   for group in make_groups(source.examples, source.domain, source.search, recipe.group, groups_seed)
                   for item in encode_group(group, source.domain, tokenizer, recipe.max_length, until)]
        encoded.sort(key=lambda item: len(item.ids))  # like lengths together: little padding
        made = [encoded[i:i + recipe.batch] for i in range(0, len(encoded), recipe.batch)]
        random.Random(groups_seed).shuffle(made)
        return made

    held = batches(kept, seed)
    epochs = [batches(fit, seed + epoch, recipe.whole_answers) for epoch in range(recipe.epochs)]
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32)
    tuned = methods.apply(model, recipe, "generator", trainer.steps_of(epochs, recipe))
    if start:
        methods.go_on(tuned, recipe, start)
    groups = [{"params": [value for value in tuned.parameters() if value.requires_grad], "lr": recipe.learning_rate}]

    def tensors(batch: Sequence[Sequenced]) -> dict[str, Any]:
        return collate(batch, tokenizer.pad_token_id)

    yield from trainer.run(trainer.Job("generator", _net(tuned, recipe), tuned, groups, epochs, tensors,
                                       lambda: _held_out(tuned, map(tensors, held)), recipe, seed, threads, state, curves))
    methods.save(tuned, recipe, base.path / "model.safetensors", out)


def _few_refusals(rows: Sequence[Example], unknown: str, share: float) -> list[Example]:
    """The rows without the last of those that refuse, so that no more than `share` of them do."""
    refusing = [row for row in rows if row.answer == unknown]
    most = len(refusing) if share >= 1 else round(share / (1 - share) * (len(rows) - len(refusing)))
    gone = set(map(id, refusing[most:]))
    return [row for row in rows if id(row) not in gone]


def _net(model: Any, recipe: GeneratorRecipe) -> Any:
    """A module whose forward gives the loss of a batch."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, **batch: Any) -> Any:
            loss = losses.mean_loss(logits_of(self.model, batch), batch["targets"], loss=recipe.loss,
                                    gamma=recipe.focal_gamma, smoothing=recipe.label_smoothing)
            return loss + methods.penalty(self.model)

    return Net()


def _held_out(model: Any, batches: Iterable[dict[str, Any]]) -> float:
    import torch

    model.eval()
    total = count = 0
    with torch.no_grad():
        for batch in batches:
            batch = {key: value.to(model.device) for key, value in batch.items()}
            total, count = total + float(loss_of(model, batch)) * len(batch["targets"]), count + len(batch["targets"])
    return total / count
