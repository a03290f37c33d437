"""Promote, refuse, abstain: each rule on rows made for it."""

import json
import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from agent.errors import DataError
from tuning.gate import Pair, Rule, Verdict, decide

RULE = Rule(resamples=1000)
ROUTER = frozenset({"router"})
INTENTS = tuple(f"intent{i:02}" for i in range(20))


def rows(part: str, wins: int = 0, losses: int = 0, right: int = 0, wrong: int = 0, few_shot: float | None = None,
         **slices: str) -> list[Pair]:
    """Rows of which the challenger wins and loses so many, and on which both are right or wrong."""
    outcomes = [(0, 1)] * wins + [(1, 0)] * losses + [(1, 1)] * right + [(0, 0)] * wrong
    name = "-".join((part, *slices.values()))
    return [Pair(f"{name}{i}", f"{name}{i}", part, *outcome, slices, few_shot) for i, outcome in enumerate(outcomes)]


SAFE = rows("safety", right=40)
BETTER = rows("router", wins=60, losses=20, right=320)
WHOLE = BETTER + rows("oos", wins=4, losses=4, right=300) + SAFE


def kinds(verdict: Verdict, kind: str) -> dict[str, bool | None]:
    """Slice -> passed, of one kind of finding."""
    return {finding.slice: finding.passed for finding in verdict.findings if finding.kind == kind}


# ---- promote

def test_a_better_router_that_harms_nothing_is_promoted() -> None:
    verdict = decide(WHOLE, RULE, ROUTER)
    assert (verdict.decision, verdict.slice, verdict.further_pairs) == ("promote", "router", None)
    assert "router: 0.85 → 0.95 over 400 pairs" in verdict.why
    assert kinds(verdict, "non-inferiority") == {"oos": True}


def test_the_order_of_the_pairs_does_not_matter() -> None:
    scores = [Pair(f"g{i}", f"g{i // 3}", "general", i % 7 / 7, i % 5 / 5, {"intent": f"i{i % 4}"}) for i in range(60)]
    pairs = WHOLE + scores
    for seed in (1, 2):
        shuffled = [pairs[i] for i in np.random.default_rng(seed).permutation(len(pairs))]
        assert decide(shuffled, RULE, ROUTER) == decide(pairs, RULE, ROUTER)


def test_the_seed_is_told_and_moves_bounds_alone() -> None:
    one, two = decide(WHOLE, RULE, ROUTER), decide(WHOLE, replace(RULE, seed=7), ROUTER)
    assert (one.seed, two.seed) == (RULE.seed, 7)
    assert one.decision == two.decision
    assert [finding.p for finding in one.findings] == [finding.p for finding in two.findings]


def test_a_verdict_can_be_written_as_json() -> None:
    table = json.loads(json.dumps(decide(WHOLE, RULE, ROUTER).table(), allow_nan=False))
    assert table["decision"] == "promote"
    assert {finding["kind"] for finding in table["findings"]} == {"safety", "harm", "non-inferiority", "superiority"}


def doubled(pairs: Iterable[Pair]) -> list[Pair]:
    """The same rates on twice the pairs."""
    pairs = list(pairs)
    return pairs + [replace(pair, id=f"{pair.id}.{len(pairs)}", cluster=f"{pair.cluster}.{len(pairs)}") for pair in pairs]


@pytest.mark.parametrize(("wins", "losses", "count"), [(20, 8, 200), (60, 20, 400), (16, 3, 60)])
def test_more_of_the_same_evidence_keeps_a_promotion(wins: int, losses: int, count: int) -> None:
    pairs = rows("router", wins, losses, count - wins - losses) + SAFE
    for _ in range(3):
        assert decide(pairs, RULE, ROUTER).decision == "promote"
        pairs = doubled(pairs)


def test_more_of_the_same_evidence_keeps_a_refusal() -> None:
    pairs = BETTER + SAFE + rows("oos", losses=20, right=80)
    for _ in range(3):
        assert decide(pairs, RULE, ROUTER).decision == "refuse"
        pairs = doubled(pairs)


# ---- refuse

def test_one_safety_row_lost_refuses_whatever_was_gained() -> None:
    verdict = decide(WHOLE + [Pair("dose", "dose", "safety", 1, 0, {})], RULE, ROUTER)
    assert (verdict.decision, verdict.slice) == ("refuse", "safety")
    assert "dose" in verdict.why


def test_a_safety_row_won_does_not_pay_for_one_lost() -> None:
    mixed = [Pair(f"won{i}", "", "safety", 0, 1, {}) for i in range(9)] + [Pair("lost", "", "safety", 1, 0, {})]
    assert decide(WHOLE + mixed, RULE, ROUTER).slice == "safety"


def test_a_poisoned_intent_refuses_and_is_named_with_its_figures() -> None:
    refund = rows("router", losses=11, right=3, wrong=1, intent="refund")
    verdict = decide(WHOLE + rows("router", wins=20, right=80, intent="order") + refund, RULE, ROUTER)
    assert (verdict.decision, verdict.slice) == ("refuse", "router intent=refund")
    assert "intent=refund: 0.93 → 0.20 over 15 pairs" in verdict.why


def test_the_deepest_fall_is_named_before_wider_slices_that_hold_it() -> None:
    pairs = rows("router", losses=14, right=1, intent="refund", source="seed")
    pairs += rows("router", losses=0, right=60, intent="order", source="seed")
    pairs += rows("router", right=300, wins=10, intent="hours", source="feedback")
    verdict = decide(pairs + SAFE, RULE, ROUTER)
    assert verdict.slice == "router intent=refund"
    assert kinds(verdict, "harm")["router source=seed"] is False


def test_an_out_of_scope_part_that_fell_refuses() -> None:
    verdict = decide(BETTER + SAFE + rows("oos", losses=14, wins=1, right=100), RULE, ROUTER)
    assert (verdict.decision, verdict.slice) == ("refuse", "oos")


def test_a_guard_below_the_margin_beyond_doubt_refuses_and_its_sentence_says_by_how_much() -> None:
    scores = [Pair(f"g{i}", f"g{i}", "general", 0.5, 0.46 + 0.01 * (i % 3), {}) for i in range(60)]
    verdict = decide(WHOLE + scores, RULE, ROUTER)
    assert (verdict.decision, verdict.slice) == ("refuse", "general")


def test_scores_that_fall_within_the_margin_are_no_harm() -> None:
    scores = [Pair(f"g{i}", f"g{i}", "general", 0.5, 0.49 + 0.005 * (i % 3), {}) for i in range(60)]
    verdict = decide(WHOLE + scores, RULE, ROUTER)
    assert verdict.decision == "promote"
    assert kinds(verdict, "harm")["general"] is True and kinds(verdict, "non-inferiority")["general"] is True


def test_a_part_that_is_worse_where_it_was_retrained_is_refused() -> None:
    verdict = decide(rows("router", wins=14, losses=27, right=400) + SAFE, RULE, ROUTER)
    assert (verdict.decision, verdict.slice) == ("refuse", "router")


# ---- abstain

def test_nothing_changed_is_said_so() -> None:
    verdict = decide(rows("router", right=300, wrong=50) + SAFE, RULE, ROUTER)
    assert (verdict.decision, verdict.slice, verdict.further_pairs) == ("abstain", "router", None)
    assert "Nothing changed" in verdict.why


def test_a_change_elsewhere_does_not_hide_that_the_retrained_part_did_not_change() -> None:
    assert "Nothing changed" in decide(rows("router", right=300) + rows("oos", wins=9, right=200) + SAFE, RULE, ROUTER).why


def test_few_pairs_are_no_evidence_however_good() -> None:
    verdict = decide(rows("router", wins=20) + SAFE, RULE, ROUTER)
    assert (verdict.decision, verdict.further_pairs) == ("abstain", 10)
    assert "10 more pairs needed" in verdict.why


def test_a_gain_that_is_not_shown_names_the_pairs_that_would_show_it() -> None:
    pairs = rows("router", wins=20, losses=12, right=170)
    verdict = decide(pairs + SAFE, RULE, ROUTER)
    assert verdict.decision == "abstain" and verdict.slice == "router"
    assert f"about {verdict.further_pairs} more pairs needed" in verdict.why
    grown = [replace(pair, id=f"{pair.id}.{i}", cluster=f"{pair.cluster}.{i}") for pair in pairs
             for i in range(math.ceil((verdict.further_pairs + len(pairs)) / len(pairs)))]
    assert decide(grown + SAFE, RULE, ROUTER).decision == "promote"  # with so many more at the same rates


def test_when_a_gain_would_have_shown_more_pairs_are_not_asked_for() -> None:
    verdict = decide(rows("router", wins=40, losses=42, right=1200) + SAFE, RULE, ROUTER)
    assert (verdict.decision, verdict.further_pairs) == ("abstain", None)
    assert "train on other rows" in verdict.why


def test_a_guard_with_pairs_enough_has_to_be_shown_harmless() -> None:
    better = [pair for intent in INTENTS[:10] for pair in rows("router", wins=8, losses=3, right=40, intent=intent)]
    guard = rows("oos", wins=42, losses=66, right=1192)  # -1.8 points, perhaps -3.2: no harm beside ten intents, nor harmless
    verdict = decide(better + guard + SAFE, replace(RULE, margin=0.03), ROUTER)
    assert (verdict.decision, verdict.slice) == ("abstain", "oos")
    assert f"about {verdict.further_pairs} more pairs needed" in verdict.why
    assert decide(better + guard + SAFE, replace(RULE, margin=0.05), ROUTER).decision == "promote"


def test_a_guard_with_few_pairs_does_not_block_and_the_finding_says_what_it_lacks() -> None:
    verdict = decide(BETTER + rows("oos", wins=3, losses=5, right=40) + SAFE, RULE, ROUTER)
    guard = next(finding for finding in verdict.findings if finding.kind == "non-inferiority" and finding.slice == "oos")
    assert verdict.decision == "promote" and "too small to be shown harmless" in verdict.why
    assert guard.passed is None and not guard.blocks and guard.further_pairs > 100


def test_without_safety_rows_nothing_is_promoted() -> None:
    verdict = decide(BETTER, RULE, ROUTER)
    assert (verdict.decision, verdict.slice) == ("abstain", "safety")
    assert decide(BETTER, replace(RULE, required=()), ROUTER).decision == "promote"


# ---- clusters

def test_one_article_repeated_is_not_evidence() -> None:
    """Forty wins of two articles are two observations; of forty articles they are forty."""
    apart = rows("router", wins=40, losses=4, right=156)
    together = [replace(pair, cluster=f"article{i % 2}") if i < 40 else pair for i, pair in enumerate(apart)]
    assert decide(apart + SAFE, RULE, ROUTER).decision == "promote"
    assert decide(together + SAFE, RULE, ROUTER).decision == "abstain"


# ---- the generator and the few-shot prompt

BOTH = frozenset({"router", "generator"})


def generator(few_shot: int, champion: int, challenger: int, count: int = 200) -> list[Pair]:
    """Rows of which the first so many are right for each."""
    return [Pair(f"q{i}", f"q{i}", "generator", int(i < champion), int(i < challenger), {}, int(i < few_shot))
            for i in range(count)]


def test_a_generator_better_than_champion_and_few_shot_is_promoted() -> None:
    verdict = decide(generator(100, 120, 150) + SAFE, RULE, frozenset({"generator"}))
    assert verdict.decision == "promote" and kinds(verdict, "few-shot") == {"generator": True}


def test_a_generator_that_only_beats_the_champion_is_not_promoted() -> None:
    worse = decide(generator(170, 120, 150) + SAFE, RULE, frozenset({"generator"}))
    equal = decide(generator(149, 120, 150) + SAFE, RULE, frozenset({"generator"}))
    assert worse.decision == "refuse" and "few-shot prompt is better" in worse.why
    assert equal.decision == "abstain" and "few-shot" in equal.why


def test_the_few_shot_prompt_is_asked_of_a_retrained_generator_alone() -> None:
    assert decide(BETTER + generator(170, 120, 120) + SAFE, RULE, ROUTER).decision == "promote"


def test_with_two_retrained_parts_one_has_to_be_better_and_the_other_non_inferior() -> None:
    same = generator(60, 120, 120, 400)
    assert decide(BETTER + same + SAFE, RULE, BOTH).decision == "promote"
    unsure = [replace(pair, challenger=1 - pair.champion) if i in range(100, 140) else pair
              for i, pair in enumerate(generator(30, 120, 120, 150))]  # 20 lost, 20 won, of 150
    unsure = [replace(pair, few_shot=0) for pair in unsure]
    verdict = decide(BETTER + unsure + SAFE, RULE, BOTH)
    assert (verdict.decision, verdict.slice) == ("abstain", "generator")
    assert verdict.further_pairs > 100


def test_two_retrained_parts_share_the_level() -> None:
    """p of 0.03 is enough for one retrained part and not for one of two."""
    just = rows("router", wins=14, losses=5, right=180)
    assert decide(just + SAFE, RULE, ROUTER).decision == "promote"
    assert decide(just + generator(60, 120, 120, 400) + SAFE, RULE, BOTH).decision == "abstain"


# ---- bad input: a sentence that says what to do

@pytest.mark.parametrize(("pairs", "targets", "words"), [
    ([], ROUTER, "router was retrained but no pair"),
    (SAFE, ROUTER, "router was retrained but no pair"),
    (BETTER, frozenset(), "name at least one of router"),
    (WHOLE, frozenset({"safety"}), "name at least one of router"),
    (BETTER + BETTER[:1], ROUTER, "comes twice"),
    ([*BETTER, Pair("x", "x", "router", math.nan, 1, {})], ROUTER, "give 0"),
    ([*BETTER, Pair("x", "x", "router", 1, math.inf, {})], ROUTER, "give 0"),
    ([*BETTER, Pair("x", "x", "router", 1, 1, {}, math.nan)], ROUTER, "give 0"),
    ([*BETTER, Pair("x", "x", "router", 0.5, 1, {})], ROUTER, "give 0"),
    ([*BETTER, Pair("x", "x", "general", 1, 1.2, {})], ROUTER, "from 0 to 1"),
    ([*BETTER, Pair("x", "x", "general", math.nan, 1, {})], ROUTER, "from 0 to 1"),
    ([*BETTER, Pair("x", "x", "routre", 1, 1, {})], ROUTER, "name one of router"),
    (generator(1, 2, 3)[:-1] + rows("generator", wins=1), frozenset({"generator"}), "has no few_shot"),
])
def test_pairs_that_cannot_be_judged_are_refused_with_a_remedy(pairs: list[Pair], targets: frozenset[str], words: str) -> None:
    with pytest.raises(DataError, match=words):
        decide(pairs, RULE, targets)


def test_the_same_row_may_be_looked_at_by_two_parts() -> None:
    both = [replace(pair, part="refusal") for pair in BETTER]
    assert decide(BETTER + both + SAFE, RULE, ROUTER).decision == "promote"
