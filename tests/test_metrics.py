"""Each figure against one that was worked out by hand, or by the package that made the figure known."""

import random

import numpy as np
import pytest

from tuning import metrics

# ---- ece: the distance of confidence from the share that is right, bin by bin

@pytest.mark.parametrize(("confidence", "right", "expected"), [
    ([0.9, 0.9, 0.9, 0.9], [1, 1, 1, 1], 0.1),
    ([0.8, 0.8, 0.8, 0.8, 0.8], [1, 1, 1, 1, 0], 0.0),
    ([0.95, 0.95, 0.55, 0.55], [1, 1, 0, 0], 0.3),  # half of the rows are 0.05 off, half 0.55
    ([0.61, 0.65], [1, 0], 0.13),  # one bin: 0.63 against 0.5
    ([0.5, 0.7], [1, 0], 0.6),  # two bins: 0.5 off and 0.7 off
    ([1.0], [1], 0.0),
    ([1.0], [0], 1.0),
])
def test_ece_by_hand(confidence: list[float], right: list[int], expected: float) -> None:
    assert metrics.ece(np.array(confidence), np.array(right, dtype=bool)) == pytest.approx(expected)


def test_the_edge_of_a_bin_belongs_to_the_bin_below() -> None:
    edge = np.array([0.5, 0.3])  # two bins: (0, 0.5] holds both, 0.4 against a half
    assert metrics.ece(edge, np.array([True, False]), bins=2) == pytest.approx(0.1)


# ---- macro_f1

def test_macro_f1_by_hand() -> None:
    truth, predicted = ["a", "a", "a", "b", "b", "c"], ["a", "a", "b", "b", "c", "c"]
    # a: 2 of 2 said, 2 of 3 found: 4/5; b: 1 of 2, 1 of 2: 1/2; c: 1 of 2, 1 of 1: 2/3
    assert metrics.macro_f1(truth, predicted) == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)


def test_an_intent_that_is_never_asked_for_is_no_class_of_its_own() -> None:
    assert metrics.macro_f1(["a", "a"], ["a", "z"]) == pytest.approx(2 / 3)
    assert metrics.macro_f1(["a", "b"], ["a", "a"]) == pytest.approx((2 / 3 + 0) / 2)


# ---- in scope against out of scope

@pytest.mark.parametrize(("inside", "outside", "expected"), [
    ([0.1, 0.2], [0.8, 0.9], 1.0), ([0.8, 0.9], [0.1, 0.2], 0.0), ([0.5, 0.5], [0.5], 0.5),
    ([0.1, 0.3, 0.5], [0.2, 0.6], 4 / 6),  # of six pairs, 0.2 is above one and 0.6 above three
])
def test_auroc_is_the_share_of_pairs_in_order(inside: list[float], outside: list[float], expected: float) -> None:
    assert metrics.auroc(np.array(inside), np.array(outside)) == pytest.approx(expected)


def test_fpr95_by_hand() -> None:
    inside = np.arange(1, 101) / 100  # 95 of 100 rows lie at or below 0.95; the quantile is 0.9505
    assert metrics.fpr95(inside, np.array([0.2, 0.95, 0.96, 0.99])) == pytest.approx(2 / 4)
    assert metrics.fpr95(inside, np.array([0.96, 2.0])) == 0.0
    assert metrics.fpr95(inside, np.array([0.0])) == 1.0


def test_an_out_of_scope_row_on_the_threshold_is_let_in_as_an_in_scope_row_would_be() -> None:
    assert metrics.fpr95(np.full(20, 0.4), np.array([0.4, 0.5])) == pytest.approx(1 / 2)


@pytest.mark.parametrize("count", [7, 10, 30, 298])
def test_the_threshold_of_fpr95_lets_95_per_cent_in(count: int) -> None:
    inside = np.arange(count, dtype=float)
    needed = int(np.ceil(0.95 * count))  # an out-of-scope row as strange as the last row that has to be let in comes in
    assert metrics.fpr95(inside, np.array([inside[needed - 1]])) == 1.0


# ---- must_say

@pytest.mark.parametrize(("answer", "phrases", "said"), [
    ("You have 30 days.", ["30 days"], True),
    ("You have thirty days.", ["30 days|thirty days"], True),
    ("You have a month.", ["30 days|thirty days"], False),
    ("You have 30 days from delivery.", ["30 days", "delivery|arrival"], True),
    ("You have 30 days.", ["30 days", "delivery|arrival"], False),
    ("YOU HAVE 30\n  DAYS", ["30 days"], True),
    ("You don’t pay.", ["don't pay"], True),
    ("You don't pay.", ["don’t pay"], True),
    ("Pay 4.9.", ["4.9"], True), ("Pay $30, or 5,10 and more.", ["30"], True), ("The 30th", ["30"], True),
    ("Say what you like.", [], True),
    ("", ["30 days"], False),
])
def test_must_say_asks_for_every_phrase_in_one_of_its_wordings(answer: str, phrases: list[str], said: bool) -> None:
    assert metrics.must_say(answer, phrases) is said


@pytest.mark.parametrize(("answer", "phrase"), [("You have 130 days.", "30 days"), ("It takes 15 days.", "5 days"),
                                                ("It costs 1896.", "896"), ("It is 8.255 %.", "8.25"),
                                                ("It is EUR 4.95.", "EUR 4.9"), ("It costs 1,896.", "896")])
def test_a_number_inside_another_number_is_not_said(answer: str, phrase: str) -> None:
    assert not metrics.must_say(answer, [phrase])


# ---- rouge_l

@pytest.mark.parametrize(("answer", "reference", "expected"), [
    ("the cat sat on the mat", "the cat sat on the mat", 1.0),
    ("The cat, sat!", "the CAT sat", 1.0),
    ("police killed the gunman", "police kill the gunman", 3 / 4),  # Lin (2004), section 3
    ("the gunman kill police", "police kill the gunman", 1 / 2),
    ("a b c d e f", "c a d", 2 * 2 / 9),  # "c d" or "a d"
    ("a b", "a x b y z", 2 * 2 / 7),
    ("nothing alike", "other words", 0.0),
    ("", "words", 0.0), ("words", "", 0.0), ("...", "words", 0.0),
])
def test_rouge_l_by_hand(answer: str, reference: str, expected: float) -> None:
    assert metrics.rouge_l(answer, reference) == pytest.approx(expected)


def test_rouge_l_is_that_of_the_package_rouge_score() -> None:
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer(["rougeL"], use_stemmer=False)
    order = random.Random(5)
    words = "You have 30 days to return an item; the parcel, was delivered on Monday! A fee of 4.50 is not paid".split()
    for _ in range(200):
        answer, reference = (" ".join(order.choices(words, k=order.randint(1, 25))) for _ in range(2))
        assert metrics.rouge_l(answer, reference) == pytest.approx(scorer.score(reference, answer)["rougeL"].fmeasure)
