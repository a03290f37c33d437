"""Recipes: complete settings of a training run, read from TOML, saved beside the weights. No hidden defaults."""

import tomllib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from agent import paths
from agent.errors import DataError


@dataclass(frozen=True, slots=True)
class RouterRecipe:
    """How the encoder and its head are tuned."""

    rank: int
    """LoRA rank on all linear layers of the encoder; alpha is twice the rank."""
    learning_rate: float
    head_learning_rate: float
    epochs: int
    """At most; early stopping on the held-out loss keeps the best epoch."""
    batch: int
    warmup: float
    """Share of the steps."""
    weight_decay: float
    dropout: float
    label_smoothing: float
    contrastive: float
    """Weight of the supervised contrastive loss beside cross-entropy."""
    held_out: float
    """Share of the rows kept for early stopping, temperature and the out-of-scope score."""
    coverage: float
    """Share of in-scope rows that the out-of-scope threshold has to let through."""
    patience: int
    """Epochs without a better held-out loss before training stops."""


@dataclass(frozen=True, slots=True)
class GeneratorRecipe:
    """How the generator's adapter is tuned."""

    rank: int
    """LoRA rank on all linear layers from `first_layer` on."""
    alpha: int
    first_layer: int
    """Layers below it stay as they are: half of the time is saved, as nothing flows back through them."""
    learning_rate: float
    epochs: int
    rows: int
    """At most so many rows a domain, drawn by the seed."""
    group: int
    """Rows that share one set of facts in a sequence (the shared prefix is computed once)."""
    batch: int
    """Groups a step."""
    warmup: float
    weight_decay: float
    max_length: int
    """Tokens of a sequence; longer groups are split."""
    whole_answers: float
    """Share of rows whose answer is trained to its end; copying is learned from few."""
    answer_start: int
    """Tokens of the answer that the other rows are trained on; the choice of the passage falls there."""
    held_out: float
    """Share of rows kept for early stopping, split by article."""
    patience: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run of a bundle."""

    name: str
    seed: int
    router: RouterRecipe
    generator: GeneratorRecipe

    def table(self) -> dict[str, Any]:
        """As plain data, to be saved."""
        return asdict(self)


def load(name: str | Path) -> Recipe:
    """A shipped recipe by name, or a TOML file; every key has to be there."""
    file = Path(name) if str(name).endswith(".toml") else paths.RECIPES / f"{name}.toml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in paths.RECIPES.glob("*.toml")))
        raise DataError(f"There is no recipe {str(name)!r}; shipped recipes: {known}. A path to a .toml file works too.")
    table = tomllib.loads(file.read_text(encoding="utf-8"))
    try:
        return Recipe(table["name"], table["seed"], RouterRecipe(**table["router"]), GeneratorRecipe(**table["generator"]))
    except (KeyError, TypeError) as error:
        raise DataError(f"{file}: {error}; compare it with {paths.RECIPES / 'default.toml'}.") from error
