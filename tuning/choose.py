"""How a router is tuned, chosen by its rows: by how many there are, and by cross-validation on the plain encoder's vectors.

A recipe with choose = "on" leaves it to this room. Knows rows and vectors, trains no encoder.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from tuning.dataset import OOS, Text
from tuning.recipe import RouterRecipe

FEW = 3000
"""Rows below which holding some out costs more than training a second time on all."""
SEEN = 30_000
"""Rows that training sees over all its epochs, as far as LEAST and MOST of them allow."""
LEAST, MOST = 3, 8
LOWER = 3
"""Layers that stay as they are where there are many rows."""
FOLDS = 4

Embed = Callable[[Sequence[str]], np.ndarray]


def choose(rows: Sequence[Text], recipe: RouterRecipe, embed: Embed, seed: int) -> RouterRecipe:
    """The recipe with what the rows decide. embed: texts -> unit vectors [n, hidden] of the untuned encoder.

    On many rows the lower half of the layers stays as it is, at less than half the time a row.
    """
    few = len(rows) < FEW
    epochs = min(MOST, max(LEAST, round(SEEN / len(rows))))
    helps = names_help(rows, embed, seed)
    few_or_many = ({"refit": "on", "batch": 64, "held_out": 0.2} if few else
                   {"refit": "off", "batch": 32, "held_out": 0.1, "frozen_layers": max(recipe.frozen_layers, LOWER)})
    return replace(recipe, epochs=epochs, head_start="prototypes", intent_names="on" if helps else "off", **few_or_many)


def named(labels: Sequence[str]) -> list[Text]:
    """A row of each intent that says its name in words; none for a name without any, such as "c3"."""
    words = {label: re.sub(r"[^a-z]+", " ", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", label).lower()).strip() for label in labels}
    return [Text(said, label) for label, said in words.items() if any(len(word) > 2 for word in said.split())]


def names_help(rows: Sequence[Text], embed: Embed, seed: int) -> bool:
    """Whether rows that were left out are found more often where the names of the intents are rows too."""
    from sklearn.linear_model import LogisticRegression

    inside = [row for row in rows if row.intent != OOS]
    added = named(sorted({row.intent for row in inside}))
    if not added:
        return False
    if len(inside) > FEW:
        return False  # a name among hundreds of rows says nothing new
    vectors, names = embed([row.text for row in inside]), embed([row.text for row in added])
    intents, called = np.array([row.intent for row in inside]), np.array([row.intent for row in added])
    fold = folds([row.intent for row in inside], seed)
    right = {"without": 0, "with": 0}
    for each in range(FOLDS):
        fit, test = fold != each, fold == each
        if not test.any() or len(set(intents[fit])) < 2:
            continue
        plain = LogisticRegression(C=30.0, max_iter=1000).fit(vectors[fit], intents[fit])
        more = LogisticRegression(C=30.0, max_iter=1000).fit(np.vstack([vectors[fit], names]), np.r_[intents[fit], called])
        right["without"] += int((plain.predict(vectors[test]) == intents[test]).sum())
        right["with"] += int((more.predict(vectors[test]) == intents[test]).sum())
    return right["with"] >= right["without"]


def folds(intents: Sequence[str], seed: int) -> np.ndarray:
    """A fold of 0 to FOLDS - 1 for each row, those of an intent dealt out in turn."""
    drawn = np.random.default_rng(seed)
    fold = np.zeros(len(intents), int)
    for intent, count in Counter(intents).items():
        places = np.array([i for i, each in enumerate(intents) if each == intent])
        fold[drawn.permutation(places)] = (np.arange(count) + drawn.integers(FOLDS)) % FOLDS
    return fold
