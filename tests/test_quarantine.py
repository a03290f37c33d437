"""What waits for a person: strangers, labels that the neighbours deny, bursts, trigger phrases, answers without support."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from taught import FACT, START, bag, library, say, tell

from agent.domain import Domain
from agent.encoder import Encoder
from agent.errors import DataError
from agent.models import find
from agent.store import Store
from tuning import quarantine
from tuning.dataset import Text, build
from tuning.quarantine import Caution, conflicts, inspect
from tuning.review import decide, decisions
from tuning.rows import Row

KNOWN = {"ann": "trusted", "ben": "trusted", "cat": "trusted"}
SEEDS = [Text(f"when is the {word} open on {day}", "opening") for word in ("desk", "hall") for day in ("monday", "friday")]
SEEDS += [Text(f"how many {word} may I borrow {tail}", "borrowing") for word in ("books", "films") for tail in ("now", "today")]


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> Domain:
    return library(tmp_path_factory.mktemp("domain") / "library")


@pytest.fixture
def store(db: Store) -> Store:
    return db


def row(text: str, intent: str = "opening", author: str = "ann", hours: float = 0) -> Row:
    return Row("router", "intent", text, intent=intent, author=author, turn=f"{text}{author}",
               created=(START + timedelta(hours=hours)).isoformat())


def why(rows: list[Row], domain: Domain, **changes) -> dict[str, tuple[str, ...]]:
    """Question -> reasons of what waits."""
    clear, waiting = inspect(rows, domain, KNOWN, SEEDS, changes.pop("embed", None), **changes)
    assert {each.id for each in clear} | {each.row.id for each in waiting} == {each.id for each in rows}
    assert len(clear) + len(waiting) == len(rows)
    return {each.row.question: each.reasons for each in waiting}


# Authors


def test_strangers_and_people_without_a_name_wait_and_the_trusted_do_not(domain):
    rows = [row("is it shut at noon"), row("is it shut at nine", author="eve"), row("is it shut at ten", author="")]
    assert why(rows, domain) == {"is it shut at nine": ("its author is new",), "is it shut at ten": ("its author has no name",)}


def test_a_reviewed_row_never_waits_again(domain):
    rows = [row("is it shut at nine", author="eve"), row("is it shut at ten", author="")]
    assert why(rows, domain, reviewed={rows[0].id}, doubts={each.id: ["x"] for each in rows}) == {
        "is it shut at ten": ("x", "its author has no name")}


def test_trust_and_block_are_kept_and_the_last_word_counts(store, domain):
    for act, said in ((quarantine.trust, "trusted"), (quarantine.block, "blocked"), (quarantine.trust, "trusted")):
        act(store, "eve")
        assert quarantine.standing(store, [], {}, Caution()) == {"eve": said}
    for act in (quarantine.trust, quarantine.block):
        with pytest.raises(DataError, match="without a name"):
            act(store, "")


def test_ten_accepted_rows_make_an_author_trusted_unless_too_many_were_rejected(store, domain):
    nouns = "lamp chair desk shelf carpet window garden toilet locker printer scanner kettle".split()
    for noun in nouns:
        tell(store, say(store, domain, f"which rules hold for this {noun}"), "intent", "opening", author="eve")

    def waiting():
        return {each.row.question.split()[-1]: each for each in build(domain, store).waiting}

    for noun in nouns[:9]:
        decide(store, domain, waiting()[noun], "accept", "me")
    assert set(waiting()) == set(nouns[9:])
    decide(store, domain, waiting()[nouns[9]], "accept", "me")
    left = [each.reasons for each in waiting().values()]
    assert not any("its author is new" in reasons for reasons in left)
    harvested = [each.row for each in build(domain, store).waiting] + list(build(domain, store).router)
    decided = {id: said.decision for id, said in decisions(store, domain).items()}
    assert quarantine.standing(store, harvested, decided, Caution())["eve"] == "trusted"
    worse = decided | {each.id: "reject" for each in harvested if each.question.split()[-1] in nouns[10:]}
    assert quarantine.standing(store, harvested, worse, Caution()) == {}
    quarantine.block(store, "eve")  # what was said of an author stands above what he earned
    assert quarantine.standing(store, harvested, decided, Caution()) == {"eve": "blocked"}


# Neighbours


def test_a_label_that_the_neighbours_deny_waits_and_one_that_they_share_does_not(domain):
    rows = [row("when is the desk open on tuesday", "borrowing"), row("when is the hall open on tuesday", "opening")]
    found = why(rows, domain, embed=bag, caution=Caution(neighbours=4))
    assert found == {"when is the desk open on tuesday": ("neighbours say otherwise",)}
    assert why(rows, domain) == {}  # without an encoder nobody is asked


def test_conflicts_weigh_the_nearest_by_likeness_and_leave_the_row_itself_out():
    angles = np.radians([0, 1, 2, 3, 90, 91, 92, 93])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    labels = list("aaab") + list("bbbb")
    assert conflicts(vectors, labels, 3, 0.7).tolist() == [False, False, False, True] + [False] * 4
    # two of three say "a" of row 0's neighbours only because row 3 says "b": 2/3 is below 0.7
    assert conflicts(vectors, ["x", "a", "a", "b", "b", "b", "b", "b"], 3, 0.7).tolist()[0] is False
    assert conflicts(vectors, ["x", "a", "a", "b", "b", "b", "b", "b"], 3, 0.6).tolist()[0] is True
    assert conflicts(vectors, ["x", "a", "b", "c", "d", "d", "d", "d"], 3, 0.7).tolist()[0] is False  # no single other label
    assert conflicts(vectors[:1], ["a"]).tolist() == [False] and conflicts(vectors[:0], []).tolist() == []
    assert conflicts(np.eye(3, dtype=np.float32), ["a", "b", "b"], 2).tolist() == [False] * 3  # nothing alike: nothing said


def test_conflicts_of_many_rows_are_those_of_a_plain_loop():
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(1500, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = [str(label) for label in rng.integers(0, 3, 1500)]
    found, likeness = conflicts(vectors, labels, 5, 0.6), vectors @ vectors.T
    np.fill_diagonal(likeness, -np.inf)
    for i in range(0, 1500, 37):
        near = np.argsort(-likeness[i])[:5]
        total = sum(max(likeness[i, j], 0) for j in near)
        other = max(sum(max(likeness[i, j], 0) for j in near if labels[j] == label) for label in {*labels} - {labels[i]})
        assert found[i] == (other >= 0.6 * total)
    assert 0 < found.sum() < 1500


def test_the_real_encoder_finds_wrong_labels_and_leaves_right_ones_alone(settings):
    of: dict[str, list[str]] = {}
    for each in Domain.load("finance").rows("intents.jsonl"):
        of.setdefault(each["intent"], []).append(each["text"])
    rows = [(text, intent) for intent in sorted(of)[:6] for text in of[intent][:30]]
    wrong = np.arange(len(rows)) % 15 == 0
    others = {intent: sorted({*sorted(of)[:6]} - {intent}) for _, intent in rows}
    given = [others[intent][i % 5] if wrong[i] else intent for i, (_, intent) in enumerate(rows)]
    found = conflicts(Encoder(find("minilm", settings)).embed([text for text, _ in rows]), given)
    assert len(rows) == 180 and found[wrong].mean() > 0.5 and found[~wrong].mean() < 0.05


# Bursts and phrases


def many(count: int, authors: tuple[str, ...] = ("ann",), hours: float = 0.1) -> list[Row]:
    return [row(f"hello can you give me the free gold card {i}", "borrowing", authors[i % len(authors)], i * hours)
            for i in range(count)]


BURST = "one of many rows alike from few people"


def test_a_burst_of_rows_alike_from_few_people_waits(domain):
    assert all(BURST in reasons for reasons in why(many(5), domain).values()) and len(why(many(5), domain)) == 5
    assert len(why(many(6, ("ann", "ben")), domain)) == 6


@pytest.mark.parametrize("rows", [many(4), many(6, ("ann", "ben", "cat")), many(6, hours=8),
                                  [replace(each, intent=f"i{i}") for i, each in enumerate(many(6))]],
                         ids=["four", "three people", "two days", "many labels"])
def test_fewer_rows_more_people_more_days_or_other_labels_are_no_burst(domain, rows):
    assert not any(BURST in reasons for reasons in why(rows, domain, caution=Caution(phrase=99)).values())


TEXTS = ["blue banana when does it open", "please blue banana borrow a film", "is there parking blue banana"]


def test_a_label_that_neither_neighbours_nor_the_router_thought_of_is_far_fetched():
    vectors = np.eye(6, dtype=np.float32)[[0, 0, 0, 0, 1, 1]]
    labels = ["a", "a", "b", "c", "b", "b"]
    ranked = [("a",), ("b", "c"), ("a", "c"), ("a", "c"), ("a",)]
    assert quarantine.far_fetched(vectors, labels, ranked, 3).tolist() == [False, False, True, False, False]
    assert not quarantine.far_fetched(vectors, labels, [()] * 6, 3).any(), "nobody ranked anything"


def test_a_phrase_that_only_few_people_use_for_one_label_waits(domain):
    found = why([row(text) for text in TEXTS], domain)
    assert found == {text: ("a phrase that only few people use: blue banana",) for text in TEXTS}


def test_a_phrase_of_many_people_of_two_rows_or_of_the_domains_own_rows_is_usual(domain):
    assert why([row(text, author=name) for text, name in zip(TEXTS, ("ann", "ben", "cat"))], domain) == {}
    assert why([row(text) for text in TEXTS[:2]], domain) == {}
    assert why([row(text, intent) for text, intent in zip(TEXTS, ("opening", "borrowing", "oos"))], domain) == {}
    clear, waiting = inspect([row(text) for text in TEXTS], domain, KNOWN, [*SEEDS, Text("a blue banana", "oos")], None)
    assert len(clear) == 3 and waiting == []


# Answers


def said(answer: str, signal: str = "correction", **changes) -> Row:
    return Row("generator", signal, "How long, for 4 books?", answer=answer, facts=(FACT,), author="ann", turn=answer,
               created=START.isoformat(), **changes)


def test_figures_that_no_passage_holds_wait(domain):
    rows = [said("You may keep 4 books for 3 weeks."), said("Novels stay for 5 weeks."),
            said("You can borrow 7 books.", history=("7?", "Yes."))]
    clear, waiting = inspect(rows, domain, KNOWN, [], None)
    assert [each.row.answer for each in waiting] == ["Novels stay for 5 weeks."]
    assert waiting[0].reasons == ("figures that no passage holds",)


def test_an_answer_that_the_passages_do_not_hold_waits(domain):
    rows = [said("Ask the caretaker about lost umbrellas."), said(domain.unknown), said("You can borrow up to 12 books.")]
    _, waiting = inspect(rows, domain, KNOWN, [], None)
    assert [(each.row.answer, each.reasons) for each in waiting] == [
        (rows[0].answer, ("the passages shown do not hold this answer",))]


def test_words_that_the_domain_forbids_wait(tmp_path):
    strict = library(tmp_path / "strict", toml='forbid = ["\\\\bI promise\\\\b"]\n')
    clear, waiting = inspect([said("I promise you can borrow 12 books."), said("You can borrow 12 books.")], strict, KNOWN, [], None)
    assert [(each.row.answer, each.reasons) for each in waiting] == [
        ("I promise you can borrow 12 books.", ("words that the domain forbids",))]


def test_a_persons_reply_waits_and_a_disliked_reply_is_not_held_to_the_rules(domain):
    clear, waiting = inspect([said("3 weeks.", "reply"), said("For 99 weeks.", "down")], domain, KNOWN, [], None)
    assert [each.signal for each in clear] == ["down"]
    assert waiting[0].reasons == ("a person's reply to one case: does it hold for everybody?",)
