"""Tuning of the router: LoRA on the encoder with a linear head, then temperature and out-of-scope score on held-out rows.

The head has one output more than there are intents: out of scope. What is written is what `agent.router` reads.
"""

import copy
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agent.encoder import clip
from agent.errors import DataError
from agent.models import BaseModel
from agent.router import oos_features, softmax
from tuning.dataset import OOS, Text, split_rows
from tuning.recipe import RouterRecipe
from tuning.steps import TrainStep, device_of, save_adapter

TARGETS = ["query", "key", "value", "dense"]
SCALE = 16.0  # unit vectors times this go into the head, so that its weights stay near 1


def train(rows: Sequence[Text], recipe: RouterRecipe, base: BaseModel, seed: int, out: Path, threads: int,
          held: Sequence[Text] | None = None) -> Iterator[TrainStep]:
    """Train and write a router folder to `out`; yields steps. `held`: rows for stopping and calibration, else split off."""
    import torch
    from peft import LoraConfig, get_peft_model
    from tokenizers import Tokenizer
    from transformers import AutoModel

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    device = device_of(torch)
    labels = sorted({row.intent for row in rows} - {OOS})
    if len(labels) < 2:
        raise DataError(f"A router needs rows of at least two intents, found {len(labels)}; add rows.")
    fit, held = (list(rows), list(held)) if held else split_rows(rows, recipe.held_out, seed)
    number = {label: i for i, label in enumerate([*labels, OOS])}
    tokenizer = Tokenizer.from_file(str(base.path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    encoder = AutoModel.from_pretrained(base.path, dtype=torch.float32, add_pooling_layer=False)
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = recipe.dropout
    model = get_peft_model(encoder, LoraConfig(r=recipe.rank, lora_alpha=2 * recipe.rank, lora_dropout=0.0,
                                               bias="none", target_modules=TARGETS)).to(device)
    head = torch.nn.Linear(encoder.config.hidden_size, len(number)).to(device)

    def tensors(batch: Sequence[Text]) -> tuple[Any, Any, Any]:
        ids = [clip(encoding.ids) for encoding in tokenizer.encode_batch([row.text for row in batch])]
        longest = max(map(len, ids))
        grid = torch.zeros(len(ids), longest, dtype=torch.long)
        mask = torch.zeros(len(ids), longest, dtype=torch.long)
        for i, line in enumerate(ids):
            grid[i, :len(line)], mask[i, :len(line)] = torch.tensor(line), 1
        return grid.to(device), mask.to(device), torch.tensor([number[row.intent] for row in batch], device=device)

    def vectors(grid: Any, mask: Any) -> Any:
        states = model(input_ids=grid, attention_mask=mask).last_hidden_state
        real = mask[:, :, None].to(states.dtype)
        return torch.nn.functional.normalize((states * real).sum(1) / real.sum(1), dim=1)

    def evaluate() -> tuple[np.ndarray, np.ndarray, float]:
        """(vectors, logits, loss) of the held-out rows."""
        model.eval()
        found, logits = [], []
        with torch.inference_mode():
            for start in range(0, len(held), 64):
                grid, mask, _ = tensors(held[start:start + 64])
                found.append(vectors(grid, mask))
                logits.append(head(found[-1] * SCALE))
            target = torch.tensor([number[row.intent] for row in held], device=device)
            loss = float(torch.nn.functional.cross_entropy(torch.cat(logits), target))
        return torch.cat(found).cpu().numpy(), torch.cat(logits).cpu().numpy(), loss

    groups = [{"params": [p for p in model.parameters() if p.requires_grad], "lr": recipe.learning_rate},
              {"params": list(head.parameters()), "lr": recipe.head_learning_rate}]
    optimiser = torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    steps_an_epoch = math.ceil(len(fit) / recipe.batch)
    total = steps_an_epoch * recipe.epochs
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: min((step + 1) / max(1, recipe.warmup * total),
                                                                          max(0.02, 1 - step / total)))
    generator = np.random.default_rng(seed)
    best, worse, done, kept = math.inf, 0, 0, None
    for epoch in range(recipe.epochs):
        model.train()
        for batch in _batches(fit, recipe.batch, generator):
            grid, mask, target = tensors(batch)
            unit = vectors(grid, mask)
            loss = torch.nn.functional.cross_entropy(head(unit * SCALE), target, label_smoothing=recipe.label_smoothing)
            if recipe.contrastive:
                loss = loss + recipe.contrastive * _contrastive(torch, unit, target, number[OOS])
            loss.backward()
            torch.nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 1.0)
            optimiser.step()
            rate.step()
            optimiser.zero_grad(set_to_none=True)
            done += 1
            yield TrainStep("router", epoch, done, total, float(loss.detach()))
        found, logits, held_loss = evaluate()
        yield TrainStep("router", epoch, done, total, float(loss.detach()), held_loss)
        if held_loss < best:
            best, worse = held_loss, 0
            kept = (found, logits, copy.deepcopy(head.state_dict()))
            save_adapter(model, out / "adapter")
        elif (worse := worse + 1) > recipe.patience:
            break
    assert kept is not None, "at least one epoch was evaluated"
    _write(out, labels, kept[2], kept[0], kept[1], [row.intent for row in held], recipe)


def _batches(rows: Sequence[Text], size: int, generator: np.random.Generator) -> Iterator[list[Text]]:
    """Shuffled, with like lengths together inside a window of eight batches: little padding, still mixed."""
    order = generator.permutation(len(rows))
    made = []
    for start in range(0, len(order), 8 * size):
        window = sorted(order[start:start + 8 * size], key=lambda i: len(rows[i].text))
        made += [window[i:i + size] for i in range(0, len(window), size)]
    for i in generator.permutation(len(made)):
        yield [rows[j] for j in made[i]]


def _contrastive(torch: Any, unit: Any, target: Any, oos: int) -> Any:
    """Supervised contrastive loss inside the batch (Khosla et al., 2020), temperature 0.1; out-of-scope rows are no class."""
    likeness = unit @ unit.T / 0.1
    likeness = likeness - 1e9 * torch.eye(len(unit), device=unit.device)
    same = (target[:, None] == target[None, :]) & (target != oos)[:, None]
    same &= ~torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    count = same.sum(1)
    if not bool((count > 0).any()):
        return unit.sum() * 0.0
    log_share = likeness - torch.logsumexp(likeness, dim=1, keepdim=True)
    return -((log_share * same).sum(1)[count > 0] / count[count > 0]).mean()


def _write(out: Path, labels: list[str], head: dict[str, Any], found: np.ndarray, logits: np.ndarray,
           truth: list[str], recipe: RouterRecipe) -> None:
    """Head as safetensors; labels, temperature, out-of-scope weights and threshold as JSON."""
    from safetensors.numpy import save_file

    save_file({"weight": (head["weight"].cpu().numpy() * SCALE).astype(np.float32),
               "bias": head["bias"].cpu().numpy().astype(np.float32)}, out / "head.safetensors")
    inside = np.array([intent != OOS for intent in truth])
    index = np.array([labels.index(intent) if intent != OOS else -1 for intent in truth])
    temperature = _fit_temperature(logits[inside][:, :-1], index[inside])
    weights = _fit_oos(oos_features(logits, temperature), ~inside)
    score = oos_features(logits, temperature) @ weights[:-1] + weights[-1]
    probability = 1 / (1 + np.exp(-score))
    threshold = float(np.quantile(probability[inside], recipe.coverage))
    table = {"labels": labels, "temperature": temperature, "oos_weights": weights.tolist(), "oos_threshold": threshold,
             "held_out_rows": len(truth)}
    (out / "router.json").write_text(json.dumps(table, indent=1), encoding="utf-8")


def _fit_temperature(logits: np.ndarray, target: np.ndarray) -> float:
    """The one temperature with the least negative log-likelihood on rows that were not trained on."""
    grid = np.exp(np.linspace(np.log(0.2), np.log(8.0), 200))
    losses = [-np.log(softmax(logits / t)[np.arange(len(target)), target] + 1e-12).mean() for t in grid]
    return float(grid[int(np.argmin(losses))])


def _fit_oos(features: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """Logistic weights and bias over the features; without out-of-scope rows: minus the largest logit, as it is."""
    if not outside.any():
        return np.array([1.0, *[0.0] * (features.shape[1] - 1), 0.0])
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000).fit(features, outside)
    return np.array([*fitted.coef_[0], fitted.intercept_[0]])
