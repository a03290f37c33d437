"""Each figure against one that was worked out by hand, or by the package that made the figure known."""

import random
from pathlib import Path

import numpy as np
import pytest

from tuning import metrics, text_metrics, traits
from tuning.stem import stem

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


# ---- probabilities of routers

LABELS = ["a", "b", "c"]


def test_brier_by_hand() -> None:
    probabilities = np.array([[0.8, 0.2, 0.0], [0.1, 0.6, 0.3]])
    # (0.2² + 0.2²) and (0.1² + 0.4² + 0.3²)
    assert metrics.brier(probabilities, ["a", "b"], LABELS) == pytest.approx((0.08 + 0.26) / 2)
    assert metrics.brier(probabilities, ["unknown", "b"], LABELS) == pytest.approx((0.68 + 0.26) / 2)


def test_brier_runs_from_0_to_2() -> None:
    sure = np.array([[1.0, 0.0, 0.0]])
    assert metrics.brier(sure, ["a"], LABELS) == 0.0 and metrics.brier(sure, ["b"], LABELS) == 2.0


def test_auc_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.4, 0.5, 0.1], [0.5, 0.3, 0.2]])
    # a: 0.9 and 0.5 against 0.4: 1; b: 0.5 against 0.1 and 0.3: 1; c occurs nowhere
    assert metrics.auc(probabilities, ["a", "b", "a"], LABELS) == 1.0
    # a: 0.4 against 0.9 and 0.5: 0; b: 0.1 and 0.3 against 0.5: 0
    assert metrics.auc(probabilities, ["b", "a", "b"], LABELS) == 0.0
    assert metrics.auc(probabilities, ["a", "a", "b"], LABELS) == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_auc_of_one_intent_alone_is_none() -> None:
    assert metrics.auc(np.array([[0.9, 0.1, 0.0]] * 2), ["a", "a"], LABELS) is None


def test_a_reliability_diagram_holds_every_row_in_the_bin_of_its_confidence() -> None:
    found = metrics.reliability(np.array([0.0, 0.05, 0.1, 0.95, 1.0]), np.array([0, 1, 1, 1, 0], dtype=bool))
    assert [entry["n"] for entry in found] == [3, 2]
    assert found[0]["confidence"] == pytest.approx(0.05) and found[0]["right"] == pytest.approx(2 / 3)
    assert found[1]["confidence"] == pytest.approx(0.975) and found[1]["right"] == pytest.approx(1 / 2)


# ---- scores and likelihoods

def test_rmse_and_mae_by_hand() -> None:
    assert metrics.rmse([1, 2, 7], [1, 4, 3]) == pytest.approx((20 / 3) ** 0.5)
    assert metrics.mae([1, 2, 7], [1, 4, 3]) == pytest.approx(2.0)


def test_perplexity_is_the_number_of_words_that_one_would_guess_among() -> None:
    assert metrics.perplexity([3 * np.log(1 / 8), np.log(1 / 8)], [3, 1]) == pytest.approx(8)
    assert metrics.perplexity([np.log(1 / 2), 3 * np.log(1 / 4)], [1, 3]) == pytest.approx(2 ** (7 / 4))  # a mean over tokens


# ---- answers against references

@pytest.mark.parametrize(("answer", "reference", "expected"), [
    ("The cat sat.", "a cat sat", 1.0),  # case, articles, punctuation
    ("the cat sat down", "cat sat", 2 * 2 / 5),
    ("30 30 days", "30 days", 2 * 2 / 5),  # a word counts as often as the reference has it
    ("nothing", "alike", 0.0), ("", "words", 0.0), ("the", "a", 1.0), ("退货三十天", "退货十天", 2 * 4 / 9),
])
def test_token_f1_by_hand(answer: str, reference: str, expected: float) -> None:
    assert text_metrics.token_f1(answer, reference) == pytest.approx(expected)


@pytest.mark.parametrize(("answer", "reference", "expected"), [
    ("the cat sat on the mat", "the cat sat on the mat", 1 - 0.5 * (1 / 6) ** 3),
    ("on the mat sat the cat", "the cat sat on the mat", 1 - 0.5 * (3 / 6) ** 3),  # Banerjee and Lavie's kind of example
    ("the cat sat", "the cat sat on the mat", 10 * 1 * 0.5 / (0.5 + 9) * (1 - 0.5 * (1 / 3) ** 3)),
    ("cats sitting", "cat sit", 1 - 0.5 * (1 / 2) ** 3),  # by their stems
    ("cat x cat", "cat", 10 * (1 / 3) * 1 / (1 + 3) * 0.5),  # one place is matched once
    ("nothing alike", "other words", 0.0), ("", "words", 0.0),
])
def test_meteor_by_hand(answer: str, reference: str, expected: float) -> None:
    assert text_metrics.meteor(answer, reference) == pytest.approx(expected)


def test_meteor_is_that_of_nltk_without_synonyms() -> None:
    theirs = pytest.importorskip("nltk.translate.meteor_score")
    stemmer = pytest.importorskip("nltk.stem.porter").PorterStemmer(mode="ORIGINAL_ALGORITHM")

    class NoSynonyms:
        def synsets(self, *asked: str) -> list:
            return []

    order = random.Random(3)
    known = "parcel deliver monday refund pay order cancel lamp return time week price card store".split()
    for _ in range(100):
        wanted = order.sample(known, order.randint(1, 12))  # each word once: there is one way to align them
        said = [word + order.choice(["", "s", "ing"]) for word in order.sample(known, order.randint(1, 12))]
        assert text_metrics.meteor(" ".join(said), " ".join(wanted)) == pytest.approx(
            theirs.single_meteor_score(wanted, said, stemmer=stemmer, wordnet=NoSynonyms()))


def test_stems_are_those_of_porter() -> None:
    known = {"caresses": "caress", "ponies": "poni", "cats": "cat", "feed": "feed", "agreed": "agre", "plastered": "plaster",
             "motoring": "motor", "sing": "sing", "conflated": "conflat", "hopping": "hop", "falling": "fall", "filing": "file",
             "happy": "happi", "sky": "sky", "relational": "relat", "conditional": "condit", "vietnamization": "vietnam",
             "triplicate": "triplic", "hopefulness": "hope", "revival": "reviv", "adoption": "adopt", "communism": "commun",
             "probate": "probat", "cease": "ceas", "controll": "control", "roll": "roll", "by": "by", "naïve": "naïve"}
    assert {word: stem(word) for word in known} == known


def test_stems_are_those_of_nltk() -> None:
    theirs = pytest.importorskip("nltk.stem.porter").PorterStemmer(mode="ORIGINAL_ALGORITHM")
    words = {word for file in (Path(__file__).parent.parent / "domains").rglob("*.md")
             for word in text_metrics.words(file.read_text(encoding="utf-8"))}
    plain = {word for word in words if word.isascii() and word.isalpha() and len(word) > 2}  # his program leaves shorter ones
    assert len(plain) > 1000 and [word for word in plain if stem(word) != theirs.stem(word)] == []


def test_bleu_and_chrf_are_shares_with_the_signature_that_tells_how() -> None:
    same = ["You have 30 days to return it.", "Yes, it is free."]
    for score, signature in (text_metrics.bleu(same, same), text_metrics.chrf(same, same)):
        assert score == pytest.approx(1.0) and "version:" in signature
    # 1-grams 4 of 5, 2-grams 3 of 4, 3-grams 2 of 3, 4-grams 1 of 2; no brevity penalty
    score, _ = text_metrics.bleu(["a b c d x"], ["a b c d e"])
    assert score == pytest.approx((4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert "tok:zh" in text_metrics.bleu(["退货"], ["退货"], "zh")[1]


@pytest.mark.parametrize(("answer", "expected"), [
    ("You have 30 days to return an item.", 1.0),
    ("You have 40 days to return an item.", 0.0),  # all words but the figure
    ("You have 30 days to return an item. Elephants paint wonderful pictures.", 0.5),
    ("Thirty days.", 1.0),  # a figure is its value; half of the words are held
    ("", None), ("...", None),
])
def test_a_sentence_is_grounded_by_its_words_and_by_every_figure(answer: str, expected: float | None) -> None:
    assert text_metrics.grounded(answer, ["Returns, Time: You have 30 days to return an item."]) == expected


# ---- what a row is like

@pytest.mark.parametrize(("text", "length"), [("where is it", "short"), ("one two three four five six", "short"),
                                              ("one two three four five six seven", "medium"), ("x " * 19, "long"),
                                              ("我的包裹在哪里", "short"), ("我的包裹在哪里我已经等了三天了", "medium")])
def test_length_counts_words_and_chinese_by_two_characters(text: str, length: str) -> None:
    assert traits.length(text) == length


@pytest.mark.parametrize(("text", "language"), [
    ("where is my parcel", "en"), ("wo ist mein Paket und wie lange ist die Lieferung", "de"), ("我的包裹在哪里", "zh"),
    ("荷物はどこですか", "ja"), ("где моя посылка", "ru"), ("LK-10482", "en"),
    ("où est mon colis et comment je le retourne", "fr")])
def test_a_language_is_guessed_by_script_and_common_words(text: str, language: str) -> None:
    assert traits.language(text, ["en"]) == language


def test_a_row_may_say_its_language_and_its_source() -> None:
    row = {"text": "LK-10482", "language": "de", "kind": "near", "intent": "order_status"}
    assert traits.traits(row, row["text"]) == {"length": "short", "language": "de", "source": "near", "intent": "order_status"}
    assert traits.language("LK-10482", ["zh", "en"]) == "zh"


def test_slices_count_every_row_once_a_kind() -> None:
    rows = [{"length": "short", "intent": "a"}, {"length": "short"}, {"length": "long", "intent": "a"}]
    assert traits.by_slice(rows, [1, 0, True], "accuracy") == {
        "intent": {"a": {"n": 2, "accuracy": 1.0}},
        "length": {"long": {"n": 1, "accuracy": 1.0}, "short": {"n": 2, "accuracy": 0.5}}}
