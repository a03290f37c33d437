"""Tuning of the router: the encoder with a linear head, then temperature and out-of-scope score on held-out rows.

The head has one output more than there are intents: out of scope. What is written is what `agent.router` reads.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agent import weights
from agent.encoder import Encoder, clip
from agent.errors import DataError
from agent.models import BaseModel
from tuning import calibration, choose, finish_router, losses, methods, trainer
from tuning.dataset import OOS, Text, split_rows
from tuning.recipe import RouterRecipe
from tuning.steps import TrainStep

SCALE = 16.0  # unit vectors times this go into the head, so that its weights stay near 1


def train(rows: Sequence[Text], recipe: RouterRecipe, base: BaseModel, seed: int, out: Path, threads: int,
          held: Sequence[Text] | None = None, state: Path | None = None, curves: Path | None = None,
          augment: Callable[[list[Text]], list[Text]] = lambda rows: rows, start: Path | None = None) -> Iterator[TrainStep]:
    """Train and write a router folder to `out`; yields steps.

    held: rows for stopping and calibration, else split off. state: a folder for the trainer's states; after a kill the same
    call goes on from the last. curves: a folder for TensorBoard. augment: sees the rows that are trained on, never the held.
    start: a router folder whose adapter and head are gone on from.
    Equal rows weigh what they are many, and none of them is held out while another is trained on; one text with two intents is
    kept with both, so that neither is sure.
    Raises DataError for rows that cannot be trained on, StoreError if a disk is full.
    """
    labels = labels_of(rows)
    plain: list[Encoder] = []

    def embed(texts: Sequence[str]) -> np.ndarray:
        if not plain:
            plain.append(Encoder(base, None, threads))
        return plain[0].embed(texts)

    if recipe.choose == "on":
        recipe = choose.choose(rows, recipe, embed, seed)
    fit, kept = (list(rows), list(held)) if held else split_rows(list(dict.fromkeys(rows)), recipe.held_out, seed)
    if not held:  # a row that is there twice weighs twice, and stands on one side alone
        trained = set(fit)
        fit = [row for row in rows if row in trained]
    if strange := {row.intent for row in kept} - {OOS, *labels}:
        raise DataError(f"Held-out rows have the intent {min(strange)!r}, which no row to train on has; add rows.")
    if all(row.intent == OOS for row in kept):
        raise DataError("No intent has two rows, so none can be held out; add rows.")
    again = recipe.refit == "on" and not held
    first = out / ".first" if again else out  # measured, then thrown away
    first.mkdir(exist_ok=True)
    job = _Job(recipe, base, labels, seed, threads, curves, start, augment, embed)
    head = yield from _fit(job, fit, kept, first, state and (state / "first" if again else state))
    finish_router.finish(first, base, labels, *head.tuned, head.centres, kept, recipe.coverage, threads, head.plain)
    if again:
        head = yield from _fit(job, [*fit, *kept], None, out, state and state / "again")
        finish_router.take_over(first, out, *head.tuned, head.centres, head.plain)
        shutil.rmtree(first)


def labels_of(rows: Sequence[Text]) -> list[str]:
    """The intents that a router of these rows knows, in its order; DataError if they are fewer than two."""
    labels = sorted({row.intent for row in rows} - {OOS})
    if len(labels) < 2:
        raise DataError(f"A router needs rows of at least two intents, found {len(labels)}; add rows.")
    return labels


@dataclass(frozen=True, slots=True)
class _Job:
    """What two runs on more and on fewer rows have in common."""

    recipe: RouterRecipe
    base: BaseModel
    labels: list[str]
    seed: int
    threads: int
    curves: Path | None
    start: Path | None
    augment: Callable[[list[Text]], list[Text]]
    embed: choose.Embed


class _Heads(NamedTuple):
    """(weight [labels + 1, hidden], bias [labels + 1]) for unit vectors, the intents' mean directions [labels, hidden], and
    weight and bias for vectors of the untuned encoder.
    """

    tuned: tuple[np.ndarray, np.ndarray]
    centres: np.ndarray
    plain: tuple[np.ndarray, np.ndarray] | None


def _fit(job: _Job, fit: list[Text], held: list[Text] | None, out: Path, state: Path | None) -> Iterator[TrainStep]:
    """One training, whose adapter is written to `out`/adapter; returns the heads. Without `held` the last epoch is kept."""
    import torch
    from transformers import AutoModel

    recipe, base, labels = job.recipe, job.base, job.labels
    torch.set_num_threads(job.threads)
    torch.manual_seed(job.seed)
    fit = job.augment(fit) + (choose.named(labels) if recipe.intent_names == "on" else [])
    number = {label: i for i, label in enumerate([*labels, OOS])}
    generator = np.random.default_rng(job.seed)
    epochs = [list(_batches(fit, recipe.batch, generator)) for _ in range(recipe.epochs)]
    encoder = AutoModel.from_pretrained(base.path, dtype=torch.float32, add_pooling_layer=False)
    tuned = methods.apply(encoder, recipe, "router", trainer.steps_of(epochs, recipe))
    head = torch.nn.Linear(encoder.config.hidden_size, len(number))
    if recipe.head_start == "prototypes":
        _begin(head, job.embed([row.text for row in fit]), [number[row.intent] for row in fit])
    if job.start:
        methods.go_on(tuned, recipe, job.start / "adapter")
        _go_on(head, job.start, number)
    shares = losses.balanced([number[row.intent] for row in fit], len(number)) if recipe.class_weights == "balanced" else None
    net = _net(tuned, head, recipe, shares, number[OOS])
    tensors = _reader(base, number)

    def held_out() -> float:
        net.eval()
        with torch.no_grad():
            grids = (tensors(held[start:start + 64]) for start in range(0, len(held), 64))
            logits = torch.cat([head(net.vectors(grid["ids"].to(head.weight.device), grid["mask"].to(head.weight.device)) * SCALE)
                                for grid in grids])
        target = torch.tensor([number[row.intent] for row in held], device=logits.device)
        return float(losses.mean_loss(logits, target))

    groups = [{"params": [value for value in tuned.parameters() if value.requires_grad], "lr": recipe.learning_rate},
              {"params": list(head.parameters()), "lr": recipe.head_learning_rate}]
    yield from trainer.run(trainer.Job("router", net, tuned, groups, epochs, tensors, held_out if held else None, recipe, job.seed,
                                       job.threads, state, job.curves))
    weight, bias = head.weight.detach().cpu().numpy() * SCALE, head.bias.detach().cpu().numpy()
    methods.save(tuned, recipe, base.path / "model.safetensors", out / "adapter")
    adapter = out / "adapter" if (out / "adapter").exists() else None
    middles, added = finish_router.centres(base, adapter, fit, labels, job.threads), None
    if recipe.plain_head and adapter:
        added = calibration.fit_plain(job.embed([row.text for row in fit]), [row.intent for row in fit], labels, recipe.plain_head)
    return _Heads((weight, bias), middles, added)


def _begin(head: Any, vectors: np.ndarray, targets: Sequence[int]) -> None:
    """Each output begins as the mean direction of its rows; one without rows, such as out of scope, as it was drawn."""
    import torch

    with torch.no_grad():
        head.bias.zero_()
        for number in set(targets):
            mean = vectors[np.array(targets) == number].mean(0)
            head.weight[number] = torch.from_numpy(mean / np.linalg.norm(mean))


def _go_on(head: Any, start: Path, number: dict[str, int]) -> None:
    """The rows of the head that the other router has too; a new intent keeps its fresh one."""
    import torch

    values = weights.read(start / "head.safetensors")
    old = [*json.loads((start / "router.json").read_text(encoding="utf-8"))["labels"], OOS]
    with torch.no_grad():
        for place, label in enumerate(old):
            if label in number:
                tuned = values["weight"][place, :head.in_features] / SCALE  # what follows belongs to the plain encoder
                head.weight[number[label]] = torch.from_numpy(tuned)
                head.bias[number[label]] = float(values["bias"][place])


def _reader(base: BaseModel, number: dict[str, int]) -> Callable[[Sequence[Text]], dict[str, Any]]:
    """Rows into tensors ids, mask [n, tokens] and target [n]."""
    import torch
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(base.path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def tensors(batch: Sequence[Text]) -> dict[str, Any]:
        ids = [clip(encoding.ids) for encoding in tokenizer.encode_batch([row.text for row in batch])]
        longest = max(map(len, ids))
        grid = torch.zeros(len(ids), longest, dtype=torch.long)
        mask = torch.zeros(len(ids), longest, dtype=torch.long)
        for i, line in enumerate(ids):
            grid[i, :len(line)], mask[i, :len(line)] = torch.tensor(line), 1
        return {"ids": grid, "mask": mask, "target": torch.tensor([number[row.intent] for row in batch])}

    return tensors


def _net(encoder: Any, head: Any, recipe: RouterRecipe, shares: Sequence[float] | None, oos: int) -> Any:
    """A module whose forward gives the loss of a batch, and whose `vectors` are the unit vectors."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = encoder, head
            self.register_buffer("shares", None if shares is None else torch.tensor(shares), persistent=False)

        def vectors(self, ids: Any, mask: Any) -> Any:
            states = self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            real = mask[:, :, None].to(states.dtype)
            return torch.nn.functional.normalize((states * real).sum(1) / real.sum(1), dim=1)

        def forward(self, ids: Any, mask: Any, target: Any) -> Any:
            unit = self.vectors(ids, mask)
            loss = losses.mean_loss(self.head(unit * SCALE), target, loss=recipe.loss, gamma=recipe.focal_gamma,
                                    smoothing=recipe.label_smoothing, weights=self.shares)
            if recipe.contrastive:
                loss = loss + recipe.contrastive * losses.contrastive(unit, target, oos)
            return loss + methods.penalty(self.encoder)

    return Net()


def _batches(rows: Sequence[Text], size: int, generator: np.random.Generator) -> Iterator[list[Text]]:
    """Shuffled, with like lengths together inside a window of eight batches: little padding, still mixed."""
    order = generator.permutation(len(rows))
    made = []
    for start in range(0, len(order), 8 * size):
        window = sorted(order[start:start + 8 * size], key=lambda i: len(rows[i].text))
        made += [window[i:i + size] for i in range(0, len(window), size)]
    for i in generator.permutation(len(made)):
        yield [rows[j] for j in made[i]]
