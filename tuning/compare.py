"""Champion and challenger side by side on the same held-out rows: pairs for the gate, figures and examples for people.

Neither has to be published: what answers is named by folders. What did not change is asked once and stands on both sides.
Decides nothing; see `gate`.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from agent import paths, prompt
from agent.domain import Domain
from agent.encoder import Encoder
from agent.errors import BundleError, DataError
from agent.redact import Redactor
from agent.registry import Bundle
from agent.retrieve import Index
from agent.router import Router
from agent.serving import Bases
from agent.settings import Settings
from tuning import evaluate, judge, likelihood, outcomes, statistics
from tuning.answers import answers, fingerprint
from tuning.gate import Pair
from tuning.outcomes import Outcome
from tuning.report import drawn

SIDES = ("champion", "challenger")
PARTS = ("router", "oos", "generator", "refusal", "safety", "general")
SHOWN = 12  # examples gained and lost, of each part
RESAMPLES, SEED = 4000, 11


@dataclass(frozen=True, slots=True)
class Parts:
    """What is needed to answer, wherever it lies."""

    name: str
    router: Path
    generator: Path | None
    """None: the base without an adapter."""

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """Those of a bundle; BundleError if it has no router."""
        router = bundle.part("router")
        if router is None:
            raise BundleError(f"Bundle {bundle.name} has no router; train both parts with `retune train {bundle.domain}`.")
        return cls(bundle.name, router, bundle.part("generator"))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two bundles on the same rows."""

    pairs: tuple[Pair, ...]
    targets: frozenset[str]
    """Of router and generator those whose files differ."""
    table: dict[str, Any]
    """Figures, slices, confusions, examples; JSON."""


def compare(domain: Domain, champion: Parts, challenger: Parts, settings: Settings, bases: Bases, *, limit: int = 0,
            say: Callable[[str], None] = lambda line: None, few_shot: bool = True, base: bool = True, writer: str = "batch",
            general: Sequence[Mapping[str, str]] | None = None) -> Comparison:
    """Both bundles on the domain's eval/ rows and the frozen general set (`general`: other rows in its place).

    `limit`: held-out questions at most, 0 for all; `few_shot`, `base`: arms of the untuned generator besides; `writer`: see
    `tuning.answers`. Answers are kept in the home, so the same weights are not asked the same again.
    Raises DataError for a domain without held-out rows.
    """
    changed = frozenset(part for part in ("router", "generator")
                        if fingerprint(getattr(champion, part)) != fingerprint(getattr(challenger, part)))
    routes, reports = _routes(domain, champion, challenger, settings, bases, "router" in changed, say)
    rows = drawn(domain, limit) if (domain.folder / "eval" / "questions.jsonl").is_file() else []
    told, arms, shown = _answers(domain, rows, champion, challenger, settings, bases,
                                 few_shot and "generator" in changed, base and "generator" in changed, writer, say)
    if not (routes[0] or told[0]):
        raise DataError(f"{domain.name} has no held-out rows, so nothing can be compared; write some in "
                        f"{domain.folder / 'eval'} (intents.jsonl, oos.jsonl, questions.jsonl).")
    plain = ([], [])
    if "generator" in changed:
        asked = likelihood.general_rows() if general is None else general
        say("general answers ...")
        score = partial(likelihood.general_scores, bases.generator, rows=asked, threads=settings.cores)
        plain = tuple(outcomes.general(asked, score(parts.generator)) for parts in (champion, challenger))
    sides = tuple([*routes[i], *told[i], *plain[i]] for i in (0, 1))
    pairs = tuple(_pair(old, new, shown.get(old.id)) for old, new in zip(*sides, strict=True))
    table = {
        "domain": domain.name, "champion": champion.name, "challenger": challenger.name, "changed": sorted(changed),
        "evaluated": _evaluated(domain, limit, general), "figures": _figures(pairs), "slices": _slices(pairs),
        "router": reports, "generator": arms, "confusions": _confusions(*sides),
        "gained": _examples(*sides, gained=True), "lost": _examples(*sides, gained=False),
    }
    return Comparison(pairs, changed, table)


def _routes(domain: Domain, champion: Parts, challenger: Parts, settings: Settings, bases: Bases, changed: bool,
            say: Callable[[str], None]) -> tuple[tuple[list[Outcome], list[Outcome]], dict[str, Any]]:
    """(outcomes of both routers, their reports)."""
    say("routers ...")
    inside, outside = (domain.rows(f"eval/{name}.jsonl") if (domain.folder / "eval" / f"{name}.jsonl").is_file() else []
                       for name in ("intents", "oos"))

    def one(parts: Parts) -> tuple[list[Outcome], dict[str, Any]]:
        router = Router(parts.router, bases.encoder, settings.cores)
        table = evaluate.router_report(router, inside, outside, domain.languages) if inside else {}
        return outcomes.routed(domain, router), {name: value for name, value in table.items() if name != "wrong"}

    old = one(champion)
    new = one(challenger) if changed else old
    return (old[0], new[0]), {"champion": old[1], "challenger": new[1]}


def _answers(domain: Domain, rows: Sequence[dict], champion: Parts, challenger: Parts, settings: Settings, bases: Bases,
             few_shot: bool, base: bool, writer: str, say: Callable[[str], None],
             ) -> tuple[tuple[list[Outcome], list[Outcome]], dict[str, Any], dict[str, float]]:
    """(outcomes of both generators, reports of all arms, what the few-shot prompt reached on each answerable question)."""
    if not rows:
        return ([], []), {}, {}
    encoder = Encoder(bases.encoder, None, settings.cores)
    index = Index.build(domain, encoder, bases.encoder.fingerprint, paths.index(settings.home))
    asked = judge.questions(domain, rows, index.search)
    prompts = [prompt.render(domain, sources, example.history, example.question) for example, sources, _ in asked]
    write = partial(answers, bases.generator, settings=settings, writer=writer, say=say)
    said = {side: write(parts.generator, prompts, name=f"the {side}'s answers")
            for side, parts in zip(SIDES, (champion, challenger))}  # the same weights are read from the home
    if few_shot:
        said["few_shot"] = write(None, [judge.few_shot(domain, messages) for messages in prompts], name="few-shot answers")
    if base:
        said["base"] = write(None, prompts, name="base answers")
    arms = {arm: judge.generator_report(domain, asked, texts) for arm, texts in said.items()}
    for arm in arms.values():
        arm.pop("misses")  # they stand among what was gained and lost
    told = {arm: outcomes.answered(domain, rows, asked, said[arm]) for arm in said if arm != "base"}
    shown = {one.id: one.value for one in told.get("few_shot", ()) if one.part == "generator"}
    return (told["champion"], told["challenger"]), arms, shown


def _pair(old: Outcome, new: Outcome, few_shot: float | None) -> Pair:
    assert (old.part, old.id) == (new.part, new.id), f"{old.part} {old.id} stands beside {new.part} {new.id}"
    return Pair(old.id, old.cluster, old.part, old.value, new.value, dict(old.slices),
                few_shot if old.part == "generator" else None)


def _figures(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """One entry a part: n, both means and their difference, all with 95 % intervals, the few-shot prompt if asked."""
    made = []
    for part in PARTS:
        own = [pair for pair in pairs if pair.part == part]
        if own:
            few = [pair.few_shot for pair in own if pair.few_shot is not None]
            entry = {"part": part, **_difference(own), "few_shot": float(np.mean(few)) if few else None}
            if part != "general":  # its rows are scores, not rates
                entry |= {f"{side}_interval": statistics.wilson(entry[side] * len(own), len(own)) for side in SIDES}
            made.append(entry)
    return made


def _slices(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """The same for every slice of every part, those that lost most first."""
    named: dict[tuple[str, str, str], list[Pair]] = {}
    for pair in pairs:
        for kind, value in pair.slices.items():
            named.setdefault((pair.part, kind, value), []).append(pair)
    made = [{"part": part, "slice": kind, "value": value, **_difference(own)} for (part, kind, value), own in named.items()]
    return sorted(made, key=lambda entry: (entry["delta"], entry["part"], entry["slice"], entry["value"]))


def _difference(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Means and their difference with a 95 % interval: of paired rates, or by resampling clusters where rows share one."""
    before, after = np.array([pair.champion for pair in pairs]), np.array([pair.challenger for pair in pairs])
    delta, clusters = after - before, [pair.cluster for pair in pairs]
    if set(np.unique(np.abs(delta))) <= {0.0, 1.0} and len(set(clusters)) == len(clusters):
        low, high = statistics.paired(int((delta > 0).sum()), int((delta < 0).sum()), len(pairs), 0.025)
    else:
        bounds = statistics.bootstrap(delta, clusters, resamples=RESAMPLES, seed=SEED)
        low, high = bounds.low, bounds.high
    return {"n": len(pairs), "champion": float(before.mean()), "challenger": float(after.mean()), "delta": float(delta.mean()),
            "low": low, "high": high}


def _confusions(old: Sequence[Outcome], new: Sequence[Outcome]) -> list[dict[str, Any]]:
    """The pairs of intents that are mixed up most: {"intent", "routed", "champion", "challenger"} with counts, at most ten."""
    counts = [Counter((one.wanted, one.said) for one in side if one.part in ("router", "oos") and not one.value)
              for side in (old, new)]
    worst = sorted(set(counts[0]) | set(counts[1]), key=lambda key: (-max(counts[0][key], counts[1][key]), key))[:10]
    return [{"intent": key[0], "routed": key[1], "champion": counts[0][key], "challenger": counts[1][key]} for key in worst]


def _examples(old: Sequence[Outcome], new: Sequence[Outcome], gained: bool) -> list[dict[str, str]]:
    """Rows that went from wrong to right, or the other way round, without private values."""
    made: list[dict[str, str]] = []
    left = Counter({part: SHOWN for part in PARTS if part != "general"})
    for before, after in zip(old, new):
        if before.value != after.value and (after.value > before.value) is gained and left[before.part] > 0:
            left[before.part] -= 1
            said = {"asked": before.asked, "wanted": before.wanted, "champion": before.said, "challenger": after.said}
            clean = Redactor()
            made.append({"part": before.part, "id": before.id} | {name: clean.redact(text) for name, text in said.items()})
    return made


def _evaluated(domain: Domain, limit: int, general: Sequence[Mapping[str, str]] | None) -> str:
    """sha256 of everything that was asked: the same hash, the same examination."""
    digest = hashlib.sha256(f"{limit} {likelihood.general_hash() if general is None else list(map(dict, general))}".encode())
    for file in sorted((domain.folder / "eval").glob("*.jsonl")):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
