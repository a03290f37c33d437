"""Replay: labelled texts played as traffic in time order, corrected now and then, retrained every so many turns.

Knows texts, labels and routers; no domain, store or generator. What comes out is a learning curve: how many labels buy
how much accuracy, and whether asking about the most uncertain turns beats asking at random.
"""

import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.encoder import Encoder
from agent.errors import DataError
from agent.models import BaseModel
from agent.router import Router, softmax
from tuning import quarantine, train_router
from tuning.curves import difference
from tuning.dataset import Text
from tuning.recipe import RouterRecipe
from tuning.steps import TrainStep

ASK = ("uncertain", "random")
METHODS = ("tuned", "tuned_last", "frozen")


@dataclass(frozen=True, slots=True)
class Plan:
    """How the traffic is played."""

    shots: int = 5
    """Labelled examples per intent before the first turn."""
    share: float = 0.2
    """Of the turns between two trainings, those that are corrected or confirmed."""
    wrong: float = 0.1
    """Of these labels, those that name another intent, drawn evenly from all."""
    every: int = 2400
    """Turns between two trainings."""
    ask: str = "uncertain"
    """Which turns get a label: `uncertain` (smallest margin first) or `random`."""
    method: str = "tuned"
    """`tuned` (as agents are served), `frozen` (logistic regression on plain vectors: seconds), or `tuned_last`: frozen until
    the last training, which is tuned.
    """
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Point:
    """The learning curve after one training."""

    turns: int
    labels: int
    wrong: int
    """Wrong labels among those trained on."""
    quarantined: int
    """Labels left out because their neighbours say otherwise."""
    quarantined_wrong: int
    accuracy: float
    """On the test rows."""
    traffic: float | None
    """Share of the turns since the last training that were routed right when they came; None before the first."""
    train_s: float


@dataclass(frozen=True, slots=True)
class Curve:
    """What one replay gives."""

    plan: Plan
    points: tuple[Point, ...]
    right: np.ndarray
    """bool [tests]: what the last router gets right."""

    def table(self) -> dict[str, Any]:
        """As plain data, without the row by row outcome."""
        return {"plan": asdict(self.plan), "points": [asdict(point) for point in self.points]}


Scores = Callable[[Sequence[str]], np.ndarray]
"""texts -> probabilities [n, intents], labels sorted."""


class Remembered:
    """An encoder that embeds a text once, however often it is asked."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder, self._known = encoder, {}

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors, float32 [n, hidden]."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            self._known.update(zip(new, self._encoder.embed(new)))
        return np.stack([self._known[text] for text in texts])


def simulate(rows: Sequence[Text], tests: Sequence[Text], plan: Plan, recipe: RouterRecipe, base: BaseModel, threads: int,
             plain: Remembered | None = None) -> Iterator[TrainStep | Point | Curve]:
    """Yields TrainSteps, a Point after each training and the Curve at the end; nothing about `tests` enters training."""
    check(rows, tests, plan)
    start, traffic = deal(rows, plan.shots, plan.seed)
    plain, chance = plain or Remembered(Encoder(base, None, threads)), random.Random(f"{plan.seed}{plan.ask}")
    labels = sorted({row.intent for row in rows})
    known: list[tuple[Text, bool]] = [(row, True) for row in start]  # (label as given, is it right)
    thought: list[list[str]] = [[] for _ in start]  # what the router that answered thought of
    points: list[Point] = []
    turns, routed = 0, None
    while True:
        given = [row for row, _ in known]
        doubted = _doubted(given, thought, plain)
        kept = [pair for pair, out in zip(known, doubted) if not out]
        started = time.perf_counter()
        made: list[Scores] = []
        tuned = plan.method == "tuned" or (plan.method == "tuned_last" and turns >= len(traffic))
        for step in _train([row for row, _ in kept], tuned, plan.seed, recipe, base, plain, threads):
            if isinstance(step, TrainStep):
                yield step
            else:
                made.append(step)
        spent, score = time.perf_counter() - started, made[0]
        right = _right(score, tests, labels)
        found = sum(not ok for (_, ok), out in zip(known, doubted) if out)
        points.append(Point(turns, len(known), sum(not ok for _, ok in kept), int(doubted.sum()), found, float(right.mean()),
                            routed, round(spent, 1)))
        yield points[-1]
        if turns >= len(traffic):
            break
        part = traffic[turns:turns + plan.every]
        probabilities = score([row.text for row in part])
        routed = float(np.mean([labels[i] == row.intent for i, row in zip(probabilities.argmax(1), part)]))
        for i in choose(probabilities, round(plan.share * len(part)), plan.ask, chance):
            known.append(_label(part[i], labels, plan.wrong, chance))
            thought.append([labels[best] for best in np.argsort(-probabilities[i])[:5]])
        turns += len(part)
    yield Curve(plan, tuple(points), right)


def replay(rows: Sequence[Text], tests: Sequence[Text], plans: Sequence[Plan], recipe: RouterRecipe, base: BaseModel,
           threads: int, everything: bool) -> Iterator[TrainStep | Point | dict[str, Any]]:
    """All plans, and training on every label where it is asked for; the last item is the table of what came out.

    {"curves", "labels_share", "everything": {"accuracy", "train_s"}, "of_everything", "asking": uncertain minus random}.
    """
    plain, curves = Remembered(Encoder(base, None, threads)), []
    for plan in plans:
        if plan.ask == "random" and plan.method == "tuned":
            plan = replace(plan, every=len(rows))  # who asks at random asks the same whatever the router thinks: one training
        for step in simulate(rows, tests, plan, recipe, base, threads, plain):
            if isinstance(step, Curve):
                curves.append(step)
            else:
                yield step
    table: dict[str, Any] = {"rows": len(set(rows)), "tests": len(tests), "curves": [curve.table() for curve in curves],
                             "labels_share": curves[0].points[-1].labels / len(set(rows))}
    if everything:
        started, right, first = time.perf_counter(), np.zeros(0), plans[0]
        every = sorted(set(rows), key=lambda row: row.text)
        for step in _train(every, first.method != "frozen", first.seed, recipe, base, plain, threads):
            if isinstance(step, TrainStep):
                yield step
            else:
                right = _right(step, tests, sorted({row.intent for row in rows}))
        table["everything"] = {"accuracy": float(right.mean()), "train_s": round(time.perf_counter() - started, 1)}
        table["of_everything"] = {curve.plan.ask: float(curve.right.mean() / right.mean()) for curve in curves}
    found = {ask: np.array([curve.right for curve in curves if curve.plan.ask == ask]) for ask in ASK}
    if all(map(len, found.values())):
        table["asking"] = difference(found["uncertain"], found["random"])
    yield table


def check(rows: Sequence[Text], tests: Sequence[Text], plan: Plan) -> None:
    """DataError with the next step for rows or a plan that cannot be played."""
    if plan.ask not in ASK or plan.method not in METHODS:
        raise DataError(f"ask is {plan.ask!r} and method {plan.method!r}; use {' or '.join(ASK)}, {', '.join(METHODS)}.")
    if len({row.intent for row in rows}) < 2:
        raise DataError("A replay needs rows of at least two intents; add rows.")
    if unknown := {row.intent for row in tests} - {row.intent for row in rows}:
        raise DataError(f"Test intent {min(unknown)!r} has no row to learn from; correct the label or add rows.")
    if not (plan.shots >= 2 and 0 < plan.share <= 1 and 0 <= plan.wrong < 1 and plan.every >= 1):
        raise DataError("shots has to be at least 2, share above 0 and at most 1, wrong from 0 to below 1, every at least 1.")


def deal(rows: Sequence[Text], shots: int, seed: int) -> tuple[list[Text], list[Text]]:
    """(the first `shots` rows of each intent, the rest as traffic), in an order drawn by the seed."""
    order = sorted(set(rows), key=lambda row: (row.intent, row.text))
    random.Random(seed).shuffle(order)
    start, traffic, seen = [], [], defaultdict(int)
    for row in order:
        seen[row.intent] += 1
        (start if seen[row.intent] <= shots else traffic).append(row)
    return start, traffic


def choose(probabilities: np.ndarray, count: int, ask: str, chance: random.Random) -> list[int]:
    """Which turns get a label: the `count` with the smallest margin between the two best intents, or drawn evenly."""
    if ask == "random":
        return chance.sample(range(len(probabilities)), count)
    best = np.sort(probabilities, axis=1)
    return np.argsort(best[:, -1] - best[:, -2], kind="stable")[:count].tolist()


def _label(row: Text, labels: Sequence[str], wrong: float, chance: random.Random) -> tuple[Text, bool]:
    if chance.random() >= wrong:
        return row, True
    return replace(row, intent=chance.choice([label for label in labels if label != row.intent])), False


def _doubted(given: Sequence[Text], thought: Sequence[Sequence[str]], encoder: Remembered) -> np.ndarray:
    """bool [given]: labels that would wait for review, as `tuning.quarantine` decides; the rows of the start never do."""
    vectors, labels = encoder.embed([row.text for row in given]), [row.intent for row in given]
    against = quarantine.conflicts(vectors, labels) | quarantine.far_fetched(vectors, labels, thought)
    return against & np.array([bool(said) for said in thought])


def _train(rows: Sequence[Text], tuned: bool, seed: int, recipe: RouterRecipe, base: BaseModel, plain: Remembered,
           threads: int) -> Iterator[TrainStep | Scores]:
    if not tuned:
        yield frozen(rows, plain)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield from train_router.train(rows, recipe, base, seed, Path(folder), threads)
        router = Router(Path(folder), base, threads)
    yield lambda texts: router.score(texts)[0]


def frozen(rows: Sequence[Text], encoder: Remembered) -> Scores:
    """Logistic regression on plain vectors."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=30, max_iter=2000).fit(encoder.embed([row.text for row in rows]), [row.intent for row in rows])

    def score(texts: Sequence[str]) -> np.ndarray:
        logits = model.decision_function(encoder.embed(texts))
        return softmax(np.stack([-logits, logits], axis=1) if logits.ndim == 1 else logits)

    return score


def _right(score: Scores, tests: Sequence[Text], labels: Sequence[str]) -> np.ndarray:
    guesses = score([row.text for row in tests]).argmax(1)
    return np.array([labels[i] == row.intent for i, row in zip(guesses, tests)])
