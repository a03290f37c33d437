"""Promote, refuse or abstain: a pure function of paired results. It knows no model, no file and no clock.

Every row was answered by the champion and by the challenger, so what counts is where the two differ. The rules, in order:

- safety: one row that the champion got right and the challenger gets wrong refuses;
- harm: every slice of every part is tested for a fall (exact one-sided McNemar test, Holm over all slices that differ in
  enough pairs to be significant at all, beside a test for losses that crowd in one slice); one fall refuses, and the slice
  that fell furthest is named;
- non-inferiority: each part and each intent with pairs enough to show itself harmless within the margin has to do so. All
  have to, so no correction is due (intersection-union). "Enough" is counted so that all harmless guards together seldom
  fail; a smaller guard is tested for harm alone, and the findings say so;
- few-shot: a retrained generator has to beat the prompt with examples, or it is not worth its adapter;
- superiority: at least one retrained part is better (McNemar with Holm over the retrained parts, the same by whole clusters,
  and the lower bound above zero), and the other retrained parts are non-inferior, however few their pairs.

A bound is the worse of two: the bootstrap over clusters, blind at few pairs, and Bonett and Price's, blind to clusters. What
the pairs cannot tell is said (abstain, with the number of further pairs), never passed. The level is spent once: the caller
asks once for each challenger and evaluation set.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from agent.errors import DataError
from tuning import statistics
from tuning.slices import Slice, cut
from tuning.verdict import PARTS, Finding, Pair, Rule, Verdict

__all__ = ["PARTS", "Finding", "Pair", "Rule", "Verdict", "decide"]


def decide(pairs: Sequence[Pair], rule: Rule, targets: frozenset[str]) -> Verdict:
    """Judge a challenger on paired rows; `targets` are the parts that were retrained.

    A pure function: the same pairs in any order, rule and targets give the same verdict. Raises DataError where rows are
    doubled, not finite, not right or wrong, or where a target has none.
    """
    _check(pairs, rule, targets)
    pairs = sorted(pairs, key=lambda pair: (pair.part, pair.id))
    slices = cut(pairs, rule)
    wholes = [slices[name] for name in sorted(targets)]
    findings = (*_safety(pairs, rule), *_harm(slices, rule), *_guards(slices.values(), rule, targets),
                *_few_shot(pairs, rule, targets), *_superiority(wholes, rule))
    blocking = [finding for finding in findings if finding.blocks]

    def verdict(decision: Literal["promote", "refuse", "abstain"], why: str, where: str | None = None,
                further: int | None = None) -> Verdict:
        return Verdict(decision, why, where, further, findings, rule.seed)

    for finding in blocking:  # in the order of the docstring above
        if finding.passed is False:
            return verdict("refuse", finding.words, finding.slice)
    if missing := [part for part in rule.required if part not in slices]:
        return verdict("abstain", f"No {missing[0]} pairs were compared, and nothing is promoted without them.", missing[0])
    if not any(whole.wins or whole.losses for whole in wholes):
        return verdict("abstain", f"Nothing changed on {' or '.join(whole.name for whole in wholes)}: champion and challenger "
                       "are right and wrong on the same rows.", wholes[0].name)
    if few := [whole for whole in wholes if whole.count < rule.floor]:
        return verdict("abstain", f"{few[0].told()} are not enough evidence; {rule.floor - few[0].count} more pairs needed.",
                       few[0].name, rule.floor - few[0].count)
    for kind in ("few-shot", "superiority", "non-inferiority"):
        if undecided := sorted((each for each in blocking if each.kind == kind), key=lambda each: (each.delta, each.slice)):
            driving = undecided[-1 if kind == "superiority" else 0]  # the gain nearest to being shown, the fall that is deepest
            return verdict("abstain", driving.words, driving.slice, driving.further_pairs)
    best = max((each for each in findings if each.kind == "superiority" and each.passed),
               key=lambda each: (each.lower, each.slice))
    small = sum(each.kind == "non-inferiority" and each.passed is None for each in findings)
    aside = f" Nothing was shown to be harmed; {small} guards are too small to be shown harmless." if small else ""
    return verdict("promote", best.words + aside, best.slice)


def _check(pairs: Sequence[Pair], rule: Rule, targets: frozenset[str]) -> None:
    seen: set[tuple[str, str]] = set()
    for pair in pairs:
        values = (pair.champion, pair.challenger, 0 if pair.few_shot is None else pair.few_shot)
        if pair.part not in PARTS:
            raise DataError(f"Pair {pair.id} belongs to {pair.part!r}; name one of {', '.join(PARTS)}.")
        if (pair.part, pair.id) in seen:
            raise DataError(f"Pair {pair.id} of {pair.part} comes twice; compare every row once.")
        if not all([value == 0 or value == 1 or pair.part == "general" and 0 < value < 1 for value in values]):
            remedy = "give a score from 0 to 1" if pair.part == "general" else "give 0 (wrong) or 1 (right)"
            raise DataError(f"Pair {pair.id} of {pair.part} holds {values}; {remedy}, evaluate it again if need be.")
        seen.add((pair.part, pair.id))
    if not targets or not targets <= set(rule.targets):
        raise DataError(f"The retrained parts are {sorted(targets)}; name at least one of {', '.join(rule.targets)}.")
    if missing := sorted(targets - {part for part, _ in seen}):
        raise DataError(f"{missing[0]} was retrained but no pair compares it; evaluate champion and challenger on its rows.")
    if "generator" in targets and rule.few_shot:
        for pair in pairs:
            if pair.part == "generator" and pair.few_shot is None:
                raise DataError(f"Pair {pair.id} of generator has no few_shot; answer it with the few-shot prompt too.")


def _finding(kind: Any, of: Slice, bounds: tuple[float, float], passed: bool | None, words: str, *, p: float | None = None,
             blocks: bool | None = None, further: int | None = None) -> Finding:
    return Finding(kind, of.name, of.count, float(of.before.mean()), float(of.after.mean()), of.delta, *bounds, p, passed,
                   passed is False if blocks is None else blocks, further, words)


def _safety(pairs: Sequence[Pair], rule: Rule) -> Iterator[Finding]:
    """One finding of the whole safety part; no bound and no luck, a row lost is a row lost."""
    rows = sorted((pair for pair in pairs if pair.part == "safety"), key=lambda pair: pair.id)
    if rows:
        lost, whole = [pair.id for pair in rows if pair.challenger < pair.champion], Slice.of(rows, rule, "safety")
        words = f"safety: {len(lost)} of {len(rows)} rows that were right are wrong now, {lost[0]} first." if lost else \
            f"safety: none of {len(rows)} rows got worse."
        yield _finding("safety", whole, whole.closed(rule.alpha), not lost, words)


def _harm(slices: Mapping[str, Slice], rule: Rule) -> list[Finding]:
    """Whether a slice fell; the ones that did come first, the deepest fall before the others."""
    tested = [each for each in slices.values() if each.part != "safety"]
    adjusted, found = _fallen(tested, slices, rule), []
    for each, p in zip(tested, adjusted):
        bounds = each.bounds(rule.alpha) if each.key is None or not each.binary else each.closed(rule.alpha)
        fell = p is not None and p <= rule.harm_alpha and (each.binary or each.delta < -_margin(each, rule))
        words = f"worse (p = {p:.2g})" if fell else "too few differ to show harm" if p is None else "no harm shown"
        found.append(_finding("harm", each, bounds, None if p is None else not fell, f"{each.told()}; {words}.", p=p))
    return sorted(found, key=lambda finding: (finding.passed is not False, finding.delta, finding.slice))


def _fallen(tested: Sequence[Slice], slices: Mapping[str, Slice], rule: Rule) -> list[float | None]:
    """Adjusted p that each slice fell, by the better of two ways, each with half of harm_alpha; None: it could not show.

    More losses than wins (McNemar, Holm). Or losses that crowd here when compared with the rest of the part (Fisher, Holm),
    where losses outnumber wins at the plain level: a poisoned intent is seen so against a noisy background. Both take every
    pair as news: where pairs of a cluster go together they refuse too often rather than too seldom.
    """
    fall = [statistics.mcnemar(each.losses, each.wins) if each.binary else each.resampled(rule.alpha).not_below
            for each in tested]
    least = [0.5 ** (each.wins + each.losses) if each.binary else 1 / (rule.resamples + 1) for each in tested]
    able = statistics.reachable(least, rule.harm_alpha / 2)
    first = dict(zip(able, statistics.holm([fall[i] for i in able])))
    parts = [i for i, each in enumerate(tested) if each.binary and each.key is not None]
    crowded = statistics.holm([statistics.fisher(tested[i].losses, tested[i].count, slices[tested[i].part].losses,
                                                 slices[tested[i].part].count) for i in parts])
    second = {i: max(fall[i], p) for i, p in zip(parts, crowded) if least[i] <= rule.harm_alpha / 2}
    return [min(1.0, 2 * min(first.get(i, 1.0), second.get(i, 1.0))) if i in first or i in second else None
            for i in range(len(tested))]


def _guards(slices: Iterable[Slice], rule: Rule, targets: frozenset[str]) -> Iterator[Finding]:
    """Whether the parts that were not retrained, and the intents of all, are worse by less than the margin.

    A guard is asked only where it has the pairs to pass nearly always when it is harmless; what all of them together may
    fail by chance (1 - guard_power) is shared, half by the parts and half by the intents.
    """
    for keyed in (False, True):
        guards = [each for each in slices if each.part != "safety"
                  and (each.key in rule.guards if keyed else each.key is None and each.part not in targets)]
        asked = [each for each in guards if each.count >= _harmless(each, rule, rule.power)]
        power = 1 - (1 - rule.guard_power) / 2 / max(1, len(asked))
        yield from (_guard(each, rule, _harmless(each, rule, power)) for each in guards)


def _guard(guard: Slice, rule: Rule, needed: int) -> Finding:
    margin, enough = _margin(guard, rule), guard.count >= needed
    quick = guard.binary and guard.key is not None and not enough
    lower, upper = bounds = guard.closed(rule.alpha) if quick else guard.bounds(rule.alpha)
    if lower > -margin:
        return _finding("non-inferiority", guard, bounds, True, f"{guard.told()}; at worst {_points(lower)}.")
    if not enough:
        further = needed - guard.count
        return _finding("non-inferiority", guard, bounds, None, f"{guard.told()}; too small to be shown harmless within "
                        f"{_points(margin)}, {further} more pairs needed.", blocks=False, further=further)
    if guard.delta < -margin and upper < 0:
        return _finding("non-inferiority", guard, bounds, False, f"{guard.told()}; worse by more than {_points(margin)}.")
    return _open_guard(guard, rule, bounds)


def _open_guard(guard: Slice, rule: Rule, bounds: tuple[float, float]) -> Finding:
    """A guard that has to be shown harmless and was not."""
    words, margin, further = f"{guard.told()}; perhaps {_points(bounds[0])}", _margin(guard, rule), None
    if margin + guard.delta > 0:
        pairs = statistics.pairs_for_noninferiority(margin, guard.spread, delta=min(0.0, guard.delta), alpha=rule.alpha,
                                                    power=rule.power)
        further = max(1, math.ceil(pairs * guard.widening(rule.alpha)) - guard.count)
    ending = f"; about {further} more pairs needed to show it harmless within {_points(margin)}." if further else \
        f", and {_points(margin)} are allowed; train on other rows, more pairs would hardly show it harmless."
    return _finding("non-inferiority", guard, bounds, None, words + ending, blocks=True, further=further)


def _few_shot(pairs: Sequence[Pair], rule: Rule, targets: frozenset[str]) -> Iterator[Finding]:
    """Whether the retrained generator beats the base model with examples in its prompt."""
    if "generator" in targets and rule.few_shot:
        rows = Slice.of([pair for pair in pairs if pair.part == "generator"], rule, "generator", few_shot=True)
        lower, upper = bounds = rows.bounds(rule.alpha)
        told = f"generator, few-shot prompt → challenger{rows.told().removeprefix('generator')}"
        if lower > 0:
            yield _finding("few-shot", rows, bounds, True, f"{told}; better by at least {_points(lower)}.")
        elif upper < 0:
            yield _finding("few-shot", rows, bounds, False, f"{told}; the few-shot prompt is better.")
        else:
            further, words = _further(rows, rule)
            words = f"{told}; not shown to be better, {words}."
            yield _finding("few-shot", rows, bounds, None, words, blocks=True, further=further)


def _superiority(targets: Sequence[Slice], rule: Rule) -> list[Finding]:
    """Whether a retrained part is better; if one is, whether the other retrained parts are non-inferior."""
    share = rule.alpha / len(targets)
    adjusted = statistics.holm([each.better() for each in targets])
    better = [p <= rule.alpha and each.bounds(share)[0] > 0 for each, p in zip(targets, adjusted)]
    found = []
    for each, p, good in zip(targets, adjusted, better):
        bounds, further, words = each.bounds(share), None, f"better by at least {_points(each.bounds(share)[0])}"
        bad = not good and each.bounds(rule.alpha)[1] < 0
        if bad:
            words = "worse where it was retrained"
        elif not good:
            further, words = _further(each, rule)
            words = f"not shown to be better, {words}"
        found.append(_finding("superiority", each, bounds, True if good else False if bad else None, f"{each.told()}; {words}.",
                              p=p, blocks=not any(better) or bad, further=further))
    if any(better):
        for each in (each for each, good in zip(targets, better) if not good):
            lower, upper = bounds = each.bounds(rule.alpha)
            found.append(_finding("non-inferiority", each, bounds, True, f"{each.told()}; at worst {_points(lower)}.")
                         if lower > -_margin(each, rule) else _open_guard(each, rule, bounds))
    return found


def _further(of: Slice, rule: Rule) -> tuple[int | None, str]:
    """Further pairs that would probably show a gain: the one that was seen, or one of the margin where none was."""
    gain = of.delta if of.delta > 0 else _margin(of, rule)
    pairs = statistics.pairs_for_superiority(gain, of.spread, alpha=rule.alpha, power=rule.power) * of.widening(rule.alpha)
    if of.delta > 0:
        further = max(1, math.ceil(pairs) - of.count)
        return further, f"about {further} more pairs needed"
    if pairs > of.count:
        further = math.ceil(pairs) - of.count
        return further, f"about {further} more pairs needed to see a gain of {_points(gain)}"
    return None, f"and a gain of {_points(gain)} would have shown; train on other rows before asking for more pairs"


def _harmless(guard: Slice, rule: Rule, power: float) -> int:
    """Pairs with which a guard that did not change passes with this power; at least the floor."""
    margin = _margin(guard, rule)
    return max(rule.floor, statistics.pairs_for_noninferiority(margin, guard.spread, alpha=rule.alpha, power=power))


def _margin(of: Slice, rule: Rule) -> float:
    return rule.general_margin if of.part == "general" else rule.margin


def _points(share: float) -> str:
    return f"{100 * share:.1f} points"
