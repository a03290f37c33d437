"""Noise: it changes words and never the wish; figures, marks and negations stay, and nothing held out comes back as a copy."""

import random
import re
from collections import Counter

import pytest

from agent.domain import Domain
from agent.errors import DataError
from tuning import augment, dataset
from tuning.augment import faithful, neighbours, reword, typo
from tuning.dataset import OOS, Text
from tuning.recipe import AugmentRecipe
from tuning.synonyms import GROUPS

OFF = AugmentRecipe(typos=0.0, synonyms=0.0, paraphrases=0.0)
HARD = ["I paid [NAME_1] $1,250.50 on 3/4/2026 and never got order LK-10482 back, twice the price",
        "don't take more than eight 500mg tablets, not even the third day, dr.smith@surgery.example said",
        "transfer a quarter of nineteen thousand without telling [EMAIL_2]"]


@pytest.fixture(scope="module")
def rows() -> list[Text]:
    return [row for name in ("customer_service", "medical", "finance") for row in dataset.router_rows(Domain.load(name))]


def kept(text: str) -> list[str]:
    """What no noise may touch, in order: pieces with a figure, a mark or an address, and words that count or negate."""
    words = {"not", "no", "never", "without", "don't", "can't", "eight", "twice", "third", "quarter", "nineteen", "thousand"}
    return [piece.lower().strip(",.?!") for piece in text.split()
            if re.search(r"[\d\[\]@]", piece) or piece.lower().strip(",.?!") in words]


def test_typos_keep_figures_marks_and_negations(rows: list[Text]):
    drawn = random.Random(1)
    texts = [text for text in HARD for _ in range(300)] + [row.text for row in rows[::3]]
    changed = [(text, noisy) for text in texts if (noisy := typo(text, drawn)) != text]
    assert len(changed) > 0.8 * len(texts)
    assert [(text, noisy) for text, noisy in changed if kept(text) != kept(noisy)] == []


def test_a_typo_is_one_slip_within_a_word(rows: list[Text]):
    drawn = random.Random(2)
    for text in (row.text for row in rows[::5] if len(row.text.split()) < 9):
        noisy = typo(text, drawn)
        pairs = [(old, new) for old, new in zip(text.split(), noisy.split(), strict=True) if old != new]
        assert len(pairs) <= 1
        for old, new in pairs:
            assert old[0] == new[0] and abs(len(old) - len(new)) <= 1
            assert sum((Counter(old) - Counter(new)).values()) <= 1 and sum((Counter(new) - Counter(old)).values()) <= 1


def test_a_text_without_a_long_latin_word_has_no_typo():
    for text in ("wo ist", "12 34", "我的包裹在哪里", "", "[NAME_1] 500mg"):
        assert typo(text, random.Random(1)) == text == reword(text, random.Random(1))


def test_other_words_keep_figures_marks_and_negations(rows: list[Text]):
    drawn = random.Random(3)
    changed = [(row.text, other) for row in rows if (other := reword(row.text, drawn)) != row.text]
    assert len(changed) > 0.3 * len(rows)
    assert [(text, other) for text, other in changed if kept(text) != kept(other)] == []


def test_words_are_replaced_whole_and_in_their_place():
    said = {reword("Parcel late: where is my parcel?", random.Random(seed)) for seed in range(20)}
    assert said == {f"{a} late: where is my {b}?" for a in ("Box", "Package") for b in ("box", "package")}
    for text in ("parcels@shop.example", "doctor-led", "https://shop.example/refund", "the shop's", "[REFUND]", "workshop"):
        assert reword(text, random.Random(1)) == text


def test_synonyms_are_many_and_each_stands_in_one_group():
    forms = [form for group in GROUPS for form in group]
    assert len(GROUPS) >= 150 and len(set(forms)) == len(forms) and all(len(group) > 1 for group in GROUPS)
    assert [form for form in forms if kept(form) or form != form.lower()] == []
    assert [form for form in forms if any(augment._held(word) for word in form.split())] == []


def test_every_intent_gets_its_share_of_copies_out_of_scope_too():
    rows = [Text(f"please track parcel {word}", "delivery") for word in "abcdefghij"] + \
           [Text(f"tell me a {word} story", OOS) for word in "abcde"]
    fifth = AugmentRecipe(typos=0.2, synonyms=0.0, paraphrases=0.0)
    made = augment.augment(rows, fifth, 1)
    assert made[:15] == rows
    assert Counter(row.intent for row in made[15:]) == {"delivery": 2, OOS: 1}
    assert made == augment.augment(rows, fifth, 1) != augment.augment(rows, fifth, 2)
    assert augment.augment(rows, OFF, 1) == rows


def test_a_copy_that_is_held_out_or_there_already_is_left_out():
    rows, all_words = [Text("where is my parcel", "delivery")], AugmentRecipe(0.0, 1.0, 0.0)
    assert len(augment.augment(rows, all_words, 1)) == 2
    held = [Text("Where is my package?", "delivery"), Text("where is my BOX", OOS)]
    assert augment.augment(rows, all_words, 1, held=held) == rows
    assert augment.augment([*rows, Text("where is my box", "x"), Text("where is my package", "x")], all_words, 1)[3:] == []


def test_words_in_the_same_places_of_one_intent_are_neighbours():
    rows = [Text("I lost my visa card", "card"), Text("I found my visa card", "card"), Text("they lost my bag", "card"),
            Text("they found my bag", "card"), Text("I broke my visa card", "card"), Text("they ate my bag", "other"),
            Text("I have 2 cards", "card"), Text("I have two cards", "card"), Text("we have 2 bags", "card"),
            Text("we have two bags", "card")]
    learned = neighbours(rows)
    twins = [("found", "lost"), ("bags", "cards"), ("i", "they")]  # "2" and "two" are figures
    assert learned == {("card", one): (other,) for pair in twins for one, other in (pair, pair[::-1])}
    said = augment.augment([Text("We lost it", "card")], AugmentRecipe(0.0, 1.0, 0.0), 1, near=learned)
    assert [row.text for row in said[1:]] == ["We found it"]
    assert augment.augment([Text("We lost it", "other")], AugmentRecipe(0.0, 1.0, 0.0), 1, near=learned)[1:] == []


@pytest.mark.parametrize("text, other, may", [
    ("where is my order 1042", "has order 1042 been sent yet", True), ("where is my order 1042", "where is my order", False),
    ("where is my order 1042", "where is my order 1042?", False), ("I do not want it", "I would like to have it", False),
    ("I don't want it any more", "please take it, I do not need this", True),
    ("ask [NAME_1] please", "ask [NAME_2], will you", False),
    ("send two lamps", "ship me a pair of lamps", False), ("refund", " ", False), ("refund me", "word " * 30, False),
    ("it costs 1,250 now", "the price is 1,25.0 by now", False), ("pay with card from abroad", "я ему последнее", False),
    ("tracking please LK-71193", "LK-71193", False)])
def test_a_paraphrase_differs_and_is_true_to_the_text(text: str, other: str, may: bool):
    assert faithful(text, other) == may


def test_a_paraphrase_stays_only_with_the_intent_of_its_row():
    rows = [Text("give me my money back", "refund"), Text("where is my parcel", "delivery"), Text("sing a song", OOS)]
    written = {"give me my money back": '"I would like a refund"\n', "where is my parcel": "send it home",
               "sing a song": "perform music"}

    def label(texts: list[str]) -> list[str]:
        return [{"I would like a refund": "refund", "send it home": "refund", "perform music": OOS}[text] for text in texts]

    made = augment.augment(rows, AugmentRecipe(0.0, 0.0, 1.0), 1, written.__getitem__, label)
    assert set(made[3:]) == {Text("I would like a refund", "refund"), Text("perform music", OOS)}


def test_paraphrases_without_somebody_to_write_and_check_are_refused():
    with pytest.raises(DataError, match="paraphrases"):
        augment.augment([Text("a", "b")], AugmentRecipe(0.0, 0.0, 0.5), 1)
