"""Recipes: complete settings of a training run, read from TOML, saved beside the weights. No hidden defaults.

Knows the keys and which values they may have; what a value does is written where it is used.
"""

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from agent import paths
from agent.errors import DataError

METHODS = ("lora", "rslora", "adalora", "ia3", "prefix", "full", "head")


@dataclass(frozen=True, slots=True)
class PartRecipe:
    """What both parts have in common: what is tuned, how the rate runs, what the loss is, when it stops."""

    method: str
    """lora, rslora, adalora, ia3, prefix, full, or head: a router's head alone, which trains beside every other method too."""
    rank: int
    """Of LoRA and its kin on all linear layers; of prefix, the number of virtual tokens."""
    alpha: int
    """LoRA's change is scaled by alpha / rank (rslora: alpha / sqrt(rank))."""
    frozen_layers: int
    """So many lower layers, with the embeddings below them, stay as they are; nothing flows back through them."""
    learning_rate: float
    optimiser: str
    """adamw, adam, sgd or adafactor."""
    schedule: str
    """linear, cosine, constant or inverse_time: rate / (1 + decay * step)."""
    decay: float
    """Of the inverse_time schedule."""
    warmup: float
    """Share of the steps in which the rate rises."""
    weight_decay: float
    dropout: float
    epochs: int
    """At most; early stopping keeps the epoch with the least held-out loss."""
    batch: int
    """Rows a step (router) or sequences of several rows (generator)."""
    accumulate: int
    """Batches whose gradients make one step of the optimiser."""
    bf16: str
    """Autocast: on, off, or auto: where there is a GPU."""
    loss: str
    """cross_entropy or focal (Lin et al., 2017)."""
    focal_gamma: float
    label_smoothing: float
    fgm: float
    """Length of the adversarial step on the word embeddings (Miyato et al., 2017); 0 is off."""
    held_out: float
    """Share of the rows kept for early stopping (router: and for calibration; generator: split by article)."""
    patience: int
    """Epochs without a better held-out loss before training stops."""
    seeds: int
    """So many runs with seeds one after the other are averaged."""
    save_every: int
    """Steps between two states of the trainer, where a folder for them is given."""
    report_to: str
    """Empty or tensorboard."""


@dataclass(frozen=True, slots=True)
class RouterRecipe(PartRecipe):
    """How the encoder and its head are tuned."""

    choose: str
    """on: rate, layers, epochs, batch and the next three are chosen by how many rows there are and by cross-validation
    (`tuning.choose`); off: they are as written here."""
    head_start: str
    """prototypes: each output of the head begins as the mean vector of its rows; fresh: drawn."""
    intent_names: str
    """on: the words of an intent's name are a row of it too."""
    refit: str
    """on: after calibration on the rows that were held out, training runs once more on all of them."""
    head_learning_rate: float
    class_weights: str
    """none, or balanced: every intent weighs the same, however many rows it has."""
    contrastive: float
    """Weight of the supervised contrastive loss beside cross-entropy."""
    plain_head: float
    """A second head on vectors of the untuned encoder is added as far as it helps on held-out rows: the inverse of its
    penalty; 0 is off."""
    coverage: float
    """Share of in-scope rows that the out-of-scope threshold has to let through."""


@dataclass(frozen=True, slots=True)
class GeneratorRecipe(PartRecipe):
    """How the generator is tuned."""

    rows: int
    """At most so many rows a domain, drawn by the seed."""
    refusals: float
    """Share of these that may say that no article holds the answer. They all begin alike, so among few rows they win: a model
    that cannot tell yet finds no single beginning of an answer as likely as theirs."""
    group: int
    """Rows that share one set of facts in a sequence (the shared prefix is computed once)."""
    max_length: int
    """Tokens of a sequence; longer groups are split."""
    whole_answers: float
    """Share of rows whose answer is trained to its end; copying is learned from few."""
    answer_start: int
    """Tokens of the answer that the other rows are trained on; the choice of the passage falls there."""


@dataclass(frozen=True, slots=True)
class AugmentRecipe:
    """Shares of the router's rows that get a noisy copy; 0 is off."""

    typos: float
    synonyms: float
    paraphrases: float


@dataclass(frozen=True, slots=True)
class PreferenceRecipe:
    """A second stage of the generator, on what people liked and disliked."""

    method: str
    """none, dpo, kto or apo_zero_unpaired."""
    learning_rate: float
    beta: float
    """How strongly the model is held to the one it starts from."""
    epochs: int
    batch: int
    sft_weight: float
    """Weight of the supervised loss on the chosen answer (dpo)."""


@dataclass(frozen=True, slots=True)
class SearchRecipe:
    """The search for rate, rank and epochs before the run; 0 minutes or trials is off."""

    minutes: float
    trials: int


@dataclass(frozen=True, slots=True)
class ReplayRecipe:
    """When a challenger no longer begins at the base."""

    above: int
    """Up to so many rows of a part it is trained from the base on all of them; above, on from the champion on what is new."""
    share: float
    """Then so many of the older rows are replayed for each new one, drawn by the seed."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One training run of a bundle."""

    name: str
    seed: int
    router: RouterRecipe
    generator: GeneratorRecipe
    augment: AugmentRecipe
    preference: PreferenceRecipe
    search: SearchRecipe
    replay: ReplayRecipe

    def table(self) -> dict[str, Any]:
        """As plain data, to be saved."""
        return asdict(self)


CHOICES = {"method": METHODS, "optimiser": ("adamw", "adam", "sgd", "adafactor"), "bf16": ("auto", "on", "off"),
           "schedule": ("linear", "cosine", "constant", "inverse_time"), "loss": ("cross_entropy", "focal"),
           "class_weights": ("none", "balanced"), "choose": ("on", "off"), "head_start": ("prototypes", "fresh"),
           "intent_names": ("on", "off"), "refit": ("on", "off"), "report_to": ("", "tensorboard")}
PREFERENCES = ("none", "dpo", "kto", "apo_zero_unpaired")
RANGES = {"rank": (1, 1024), "alpha": (1, 4096), "frozen_layers": (0, 1000), "learning_rate": (1e-8, 10.0),
          "head_learning_rate": (1e-8, 10.0), "decay": (0.0, 1e6), "warmup": (0.0, 1.0), "weight_decay": (0.0, 10.0),
          "dropout": (0.0, 0.9), "epochs": (1, 10_000), "batch": (1, 100_000), "accumulate": (1, 100_000),
          "focal_gamma": (0.0, 20.0), "label_smoothing": (0.0, 0.9), "fgm": (0.0, 100.0), "held_out": (0.001, 0.9),
          "patience": (0, 10_000), "seeds": (1, 100), "save_every": (1, 10_000_000), "contrastive": (0.0, 100.0),
          "plain_head": (0.0, 1e4),
          "coverage": (0.5, 1.0), "refusals": (0.0, 1.0),
          "rows": (1, 100_000_000), "group": (1, 10_000), "max_length": (64, 1_000_000),
          "whole_answers": (0.0, 1.0), "answer_start": (1, 100_000), "typos": (0.0, 1.0), "synonyms": (0.0, 1.0),
          "paraphrases": (0.0, 1.0), "beta": (1e-6, 100.0), "sft_weight": (0.0, 100.0), "minutes": (0.0, 100_000.0),
          "trials": (0, 100_000), "above": (0, 1_000_000_000), "share": (0.0, 100.0)}


def load(name: str | Path) -> Recipe:
    """A shipped recipe by name, or a TOML file; every key has to be there. Raises DataError that names key and file."""
    file = Path(name) if str(name).endswith(".toml") else paths.RECIPES / f"{name}.toml"
    if not file.is_file():
        known = ", ".join(sorted(path.stem for path in paths.RECIPES.glob("*.toml")))
        raise DataError(f"There is no recipe {str(name)!r}; shipped recipes: {known}. A path to a .toml file works too.")
    try:
        table = tomllib.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is not TOML ({error}); compare it with {paths.RECIPES / 'default.toml'}.") from error
    return of_table(table, str(file))


def of_table(table: dict[str, Any], where: str) -> Recipe:
    """A recipe from plain data, such as a bundle's recipe.json; `where` stands in the message of a DataError."""
    parts = {"router": RouterRecipe, "generator": GeneratorRecipe, "augment": AugmentRecipe, "preference": PreferenceRecipe,
             "search": SearchRecipe, "replay": ReplayRecipe}
    known = {"name": str, "seed": int} | dict.fromkeys(parts, dict)
    _check_keys(table, list(known), where)
    for key, kind in known.items():
        _check_type(table[key], kind, f"{where}: {key}")
    read = {}
    for part, shape in parts.items():
        here = f"{where}: [{part}]"
        _check_keys(table[part], [field.name for field in fields(shape)], here)
        read[part] = shape(**{field.name: _value(table[part][field.name], field.type, field.name, part, here)
                              for field in fields(shape)})
    if read["generator"].method == "head":
        raise DataError(f"{where}: [generator] method = 'head' is for routers, a generator has no head of its own; "
                        "take lora, or full with frozen_layers.")
    return Recipe(table["name"], table["seed"], **read)


def _check_keys(table: dict[str, Any], known: list[str], where: str) -> None:
    if missing := [key for key in known if key not in table]:
        raise DataError(f"{where}: {missing[0]} is missing; compare it with {paths.RECIPES / 'default.toml'}.")
    if unknown := [key for key in table if key not in known]:
        raise DataError(f"{where}: there is no key {unknown[0]!r}; the keys are {', '.join(known)}.")


def _check_type(value: Any, kind: type, what: str) -> None:
    fits = isinstance(value, int | float) and value == value if kind is float else isinstance(value, kind)
    if not fits or isinstance(value, bool):
        words = {str: "a word in quotes", int: "a whole number", float: "a number", dict: "a table"}
        raise DataError(f"{what} = {value!r} must be {words[kind]}.")


def _value(value: Any, kind: type, key: str, part: str, where: str) -> Any:
    _check_type(value, kind, f"{where} {key}")
    if kind is str:
        choices = PREFERENCES if part == "preference" else CHOICES[key]
        if value not in choices:
            raise DataError(f"{where} {key} = {value!r} must be one of {', '.join(repr(choice) for choice in choices)}.")
        return value
    least, most = RANGES[key]
    if not least <= value <= most:
        raise DataError(f"{where} {key} = {value!r} must lie between {least} and {most}.")
    return kind(value)
