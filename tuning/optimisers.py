"""Optimisers and how their rate runs, by the names that recipes use."""

import math
from collections.abc import Callable
from typing import Any

from tuning.recipe import PartRecipe

LEAST = {"linear": 0.02, "cosine": 0.05}  # share of the rate that is left at the end


def make(recipe: PartRecipe, groups: list[dict[str, Any]]) -> Any:
    """A torch optimiser over `groups`, each {"params", "lr"}. adamw decays apart from the gradient, adam and sgd within it."""
    import torch

    groups = [group for group in groups if group["params"]]
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, weight_decay=recipe.weight_decay)
    if recipe.optimiser == "adam":
        return torch.optim.Adam(groups, weight_decay=recipe.weight_decay)
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=recipe.weight_decay)
    assert recipe.optimiser == "adafactor", recipe.optimiser
    from transformers.optimization import Adafactor

    return Adafactor(groups, lr=recipe.learning_rate, scale_parameter=False, relative_step=False, warmup_init=False,
                     weight_decay=recipe.weight_decay)


def rate(recipe: PartRecipe, total: int) -> Callable[[int], float]:
    """Share of the learning rate at each of `total` steps, from 0 on."""
    ramp = max(1, round(recipe.warmup * total))

    def share(step: int) -> float:
        if recipe.schedule == "linear":  # falls from the first step on, so that the rate is the same with and without a ramp
            return min((step + 1) / max(1, recipe.warmup * total), max(LEAST["linear"], 1 - step / total))
        if step < ramp and recipe.warmup:
            return (step + 1) / ramp
        since = step - ramp if recipe.warmup else step
        if recipe.schedule == "cosine":
            least = LEAST["cosine"]
            return least + (1 - least) * 0.5 * (1 + math.cos(math.pi * min(1.0, since / max(1, total - ramp))))
        if recipe.schedule == "inverse_time":
            return 1 / (1 + recipe.decay * since)
        assert recipe.schedule == "constant", recipe.schedule
        return 1.0

    return share
