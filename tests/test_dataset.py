"""From feedback to rows that train: what stays, what goes and why, and how rows reach the trainers."""

from pathlib import Path

import pytest
from taught import ASKED, FACT, START, bag, library, say, tell

from agent.domain import Domain
from agent.errors import DataError
from agent.registry import Bundle
from agent.store import Store
from tuning import dataset, quarantine, review
from tuning.dataset import DatasetRule, Example, Text, build
from tuning.likeness import jaccard, near_pairs, ngrams, shingles
from tuning.rows import Row

LONG = "could you please tell me how many weeks one of your members may keep a borrowed novel at home"


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return library(tmp_path / "library", evaluation=[
        {"id": "c1", "turns": ["when do the doors open", LONG], "end": {"says": ["3 weeks"]}}])


@pytest.fixture
def store(db: Store) -> Store:
    for name in ("ann", "ben"):
        quarantine.trust(db, name)
    return db


def label(store: Store, domain: Domain, text: str, intent: str, author: str = "ann", after: float = 0, **changes) -> str:
    turn = say(store, domain, text, **changes)
    kind = "none_of_these" if intent == "oos" else "intent"
    tell(store, turn, kind, None if intent == "oos" else intent, author, after)
    return turn


def reasons(made: dataset.Dataset) -> list[str]:
    return sorted(each.reason for each in made.dropped)


def waits(made: dataset.Dataset) -> list[tuple[str, ...]]:
    return [each.reasons for each in made.waiting]


# What stays


def test_every_signal_goes_where_it_teaches(store, domain):
    label(store, domain, "is it open on sundays at all", "opening")
    label(store, domain, "who painted the ceiling", "oos")
    tell(store, say(store, domain), "up")
    tell(store, say(store, domain, "And a film?", "For 2 weeks."), "correction", "Films stay 3 weeks.")
    tell(store, say(store, domain, "What about games?", "For 12 weeks."), "down")
    made = build(domain, store)
    assert sorted(row.intent for row in made.router) == ["oos", "opening"]
    assert sorted(row.signal for row in made.generator) == ["correction", "up"]
    assert [row.rejected for row in made.pairs] == ["For 2 weeks."]
    assert sorted(row.signal for row in made.thumbs) == ["down", "up"]
    assert "down" not in {row.signal for row in made.generator} and [row.answer for row in made.down] == ["For 12 weeks."]


def test_an_empty_store_gives_an_empty_dataset(store, domain):
    made = build(domain, store, encoder=bag)
    assert (made.router, made.generator, made.down, made.waiting, made.dropped) == ((), (), (), (), ())
    assert made.summary()["router"] == {"rows": 0} and made.pairs == made.thumbs == ()


def test_the_summary_counts_by_signal_and_by_reason(store, domain):
    label(store, domain, "is it open on sundays at all", "opening")
    label(store, domain, "who may enter after nine", "opening", author="eve")
    tell(store, say(store, domain, prompted=False), "down")
    told = build(domain, store).summary()
    assert told["router"] == {"rows": 1, "intent": 1} and told["waiting"] == {"rows": 1, "its author is new": 1}
    assert told["dropped"] == {"rows": 1, "a tool or a fixed text answered": 1} and not told["neighbours_asked"]


def test_the_hash_is_that_of_what_trains(store, domain):
    empty = build(domain, store).hash
    label(store, domain, "is it open on sundays at all", "opening")
    one = build(domain, store)
    label(store, domain, "what does a lost card cost", "borrowing", author="stranger")
    assert one.hash == build(domain, store).hash != empty


# Contradictions


def test_where_two_authors_differ_both_wait(store, domain):
    label(store, domain, "is it open on sundays at all", "opening")
    label(store, domain, "Is it open on Sundays, at all?", "borrowing", author="ben")
    made = build(domain, store)
    assert made.router == () and waits(made) == [("authors disagree about the same words",)] * 2


def test_of_one_author_the_newest_word_counts(store, domain):
    label(store, domain, "is it open on sundays at all", "borrowing", after=0)
    label(store, domain, "is it open on sundays at all", "opening", after=3)
    made = build(domain, store)
    assert [row.intent for row in made.router] == ["opening"] and reasons(made) == ["its author said otherwise later"]


def test_people_without_a_name_are_not_one_person(store, domain):
    label(store, domain, "is it open on sundays at all", "borrowing", author="", after=0)
    label(store, domain, "is it open on sundays at all", "opening", author="", after=3)
    made = build(domain, store)
    assert len(made.waiting) == 2 and all("authors disagree about the same words" in found for found in waits(made))


def test_a_label_against_the_domains_own_rows_waits(store, domain):
    label(store, domain, "my book is overdue what now", "opening")
    assert waits(build(domain, store)) == [("the domain's own rows say otherwise: borrowing",)]


def test_a_reviewed_row_decides_for_the_same_words(store, domain):
    right = label(store, domain, "is it open on sundays at all", "opening")
    label(store, domain, "is it open on sundays at all", "borrowing", author="ben")
    row = next(each.row for each in build(domain, store).waiting if each.row.turn == right)
    review.decide(store, domain, row, "accept", "me")
    made = build(domain, store)
    assert [row.intent for row in made.router] == ["opening"] and made.waiting == ()
    assert reasons(made) == ["a reviewer decided otherwise about the same words"]


def test_a_reply_that_was_liked_and_disliked_waits(store, domain):
    turn = say(store, domain)
    tell(store, turn, "up", author="ann")
    tell(store, turn, "down", author="ben")
    assert waits(build(domain, store)) == [("the same reply was liked and disliked",)] * 2


# What goes


def test_exact_doubles_go_and_the_trusted_newest_stays(store, domain):
    label(store, domain, "Is it open on sundays, at all?", "opening", author="ann", after=1)
    newest = label(store, domain, "is it open on sundays at all", "opening", author="ben", after=2)
    label(store, domain, "is it open on sundays at all", "opening", author="stranger", after=3)
    made = build(domain, store)
    assert [row.turn for row in made.router] == [newest] and reasons(made) == ["a double"] * 2 and made.waiting == ()


def test_near_doubles_go_only_within_a_label(store, domain):
    label(store, domain, LONG.replace("novel", "film"), "borrowing", after=1)
    label(store, domain, LONG.replace("novel", "films"), "borrowing", after=2)
    label(store, domain, LONG.replace("novel", "game"), "opening", after=3)
    rule = DatasetRule(overlap=99)
    made = build(domain, store, rule)
    assert sorted(row.intent for row in made.router) == ["borrowing", "opening"] and reasons(made) == ["nearly a double"]


def test_the_same_question_with_another_answer_or_another_history_is_no_double(store, domain):
    tell(store, say(store, domain, reply="For 3 weeks."), "up")
    tell(store, say(store, domain, reply="3 weeks, at most 12 books."), "up")
    tell(store, say(store, domain, reply="For 3 weeks.", history=("hello", "Hello.")), "up")
    assert len(build(domain, store).generator) == 3


def test_rows_of_the_domains_own_files_are_doubles(store, domain):
    label(store, domain, "My book is overdue: what now?", "borrowing")
    assert reasons(build(domain, store)) == ["a double of the domain's own rows"]


def test_thirteen_words_of_the_evaluation_set_are_refused_wherever_they_stand(store, domain):
    label(store, domain, f"hello there, {LONG} thanks", "borrowing")
    tell(store, say(store, domain, "May I ask?", LONG + "."), "up")
    label(store, domain, " ".join(LONG.split()[:12]), "borrowing", after=1)  # twelve are let in
    made = build(domain, store)
    assert reasons(made) == ["13 words in a row stand in the evaluation set"] * 2
    assert [row.question for row in made.router] == [" ".join(LONG.split()[:12])]


def test_a_short_question_of_the_evaluation_set_is_refused(store, domain):
    label(store, domain, "When do the doors open?", "opening")
    assert reasons(build(domain, store)) == ["its question stands in the evaluation set"]


def test_words_of_an_article_may_stand_in_an_answer_although_the_evaluation_quotes_them_too(tmp_path, store):
    quoted = library(tmp_path / "plain").passages[0].text
    shop = library(tmp_path / "quoting", evaluation=[{"id": "q", "question": "and?", "answer": quoted}])
    tell(store, say(store, shop, reply=quoted, facts=(f"Borrowing, x: {quoted}",)), "up")
    assert len(quoted.split()) >= 13 and len(build(shop, store).generator) == 1


def test_no_author_has_more_rows_of_a_part_than_the_cap_and_the_newest_stay(store, domain):
    for hour, word in enumerate(("atlas", "novel", "comic", "globe")):
        label(store, domain, f"{word} {word[::-1]}", "borrowing", after=hour)
        tell(store, say(store, domain, f"What about a {word}?", f"A {word}: 3 weeks."), "up", after=hour)
    label(store, domain, "is it open on sundays at all", "opening", author="ben")
    made = build(domain, store, DatasetRule(per_author=2))
    assert sorted(row.question.split()[0] for row in made.router) == ["comic", "globe", "is"] and len(made.generator) == 2
    assert reasons(made) == ["more than 2 rows of one author"] * 4


def test_an_intent_that_the_domain_lost_is_named(store, domain):
    label(store, domain, "can I rent the hall", "hall_rental")
    assert reasons(build(domain, store)) == ["the domain no longer has this intent: hall_rental"]


def test_none_of_these_is_over_once_the_domain_has_an_intent_for_the_words(tmp_path, store):
    shop = library(tmp_path / "grown", intents=[("can I print here", "opening")])
    label(store, shop, "Can I print here?", "oos")
    assert reasons(build(shop, store)) == ["by now the domain has an intent for these words"]


def test_a_blocked_author_teaches_nothing(store, domain):
    quarantine.block(store, "eve")
    label(store, domain, "is it open on sundays at all", "borrowing", author="eve")
    assert reasons(build(domain, store)) == ["its author is blocked"]


# Reviews


def test_an_edit_makes_a_pair_of_a_disliked_reply_and_the_decision_stays_with_the_row(store, domain):
    turn = say(store, domain, reply="For 12 weeks.")
    tell(store, turn, "down", author="dan")
    waiting, = build(domain, store).waiting
    review.decide(store, domain, waiting, "edit", "me", answer="For 3 weeks, says [NAME_1].")
    for _ in range(2):  # the second time the decision is found again
        made = build(domain, store)
        row, = made.generator
        assert (row.signal, row.answer, row.rejected) == ("correction", "For 3 weeks, says [NAME_1].", "For 12 weeks.")
        assert made.waiting == () and made.down == () and row.author == "dan"


def test_relabelled_and_accepted_rows_train_and_rejected_ones_do_not(store, domain):
    for number, decision in enumerate(("accept", "relabel", "reject")):
        label(store, domain, f"{decision} " * 3 + str(number), "borrowing", author="stranger")
    for each in build(domain, store).waiting:
        decision = each.row.question.split()[0]
        review.decide(store, domain, each, decision, "me", intent="opening" if decision == "relabel" else None)
    made = build(domain, store)
    assert {row.question.split()[0]: row.intent for row in made.router} == {"accept": "borrowing", "relabel": "opening"}
    assert made.waiting == () and reasons(made) == ["rejected in review"]


# Weights


def test_rows_newer_than_the_champion_weigh_twice(store, domain):
    label(store, domain, "is it open on sundays at all", "opening", after=0)
    label(store, domain, "how many films may I take", "borrowing", after=2)
    made_at = START.replace(hour=1).isoformat(timespec="seconds")
    champion = Bundle(domain.name, 2, domain.folder, {"made": made_at, "files": {}})
    weights = {row.intent: row.weight for row in build(domain, store, champion=champion).router}
    assert weights == {"opening": 1, "borrowing": 2}
    assert {row.weight for row in build(domain, store).router} == {1}


# To the trainers


def test_a_router_needs_two_intents_and_says_what_to_do():
    row = Row("router", "intent", "a", intent="opening")
    with pytest.raises(DataError, match="no row.*intents.jsonl"):
        dataset.check_trainable([], [])
    for rows, seeds in (([row], []), ([row], [Text("b", "oos")]), ([], [Text("b", "oos")])):
        with pytest.raises(DataError, match="two intents"):
            dataset.check_trainable(rows, seeds)
    dataset.check_trainable([row], [Text("b", "borrowing")])


def test_rows_reach_the_trainers_as_often_as_they_weigh():
    row = Row("router", "intent", "a", intent="opening", weight=2)
    assert dataset.texts([row]) == [Text("a", "opening")] * 2
    made = dataset.examples([Row("generator", "up", "q", answer="a", history=("x", "y"), facts=(FACT,), session="s", weight=2),
                             Row("generator", "up", "r", answer="a", session="s|1")])
    assert [(each.history, each.facts) for each in made] == [(("x", "y"), (FACT,))] * 2 + [((), ("(none)",))]
    assert len({each.id for each in made}) == 3


def test_examples_of_one_session_lie_on_one_side_of_the_split():
    rows = [Row("generator", "up", f"q{i}", answer="a", facts=(FACT,), session=f"s|{i // 3}", weight=2) for i in range(30)]
    for parts in (dataset.split_examples(dataset.examples(rows), 0.2, 1), dataset.split_by_session(rows, 0.2, 1)):
        sides = [{each.session if isinstance(each, Row) else each.id.rpartition("|")[0] for each in part} for part in parts]
        assert len(sides[0]) == 8 and len(sides[1]) == 2 and not sides[0] & sides[1]


def test_a_single_session_is_all_for_training():
    rows = [Row("router", "intent", "a", intent="x", session="s")] * 3
    assert dataset.split_by_session(rows, 0.5, 1) == (rows, [])


def test_examples_with_facts_keep_them_and_share_a_prompt_only_with_their_like(domain):
    logged = [Example(f"s|{i}", (), ASKED, "3 weeks.", (), (FACT,) if i % 2 else ("A, B: other",)) for i in range(6)]
    written = dataset.generator_rows(domain)
    groups = dataset.make_groups([*logged, *written], domain, lambda text, count: domain.passages[:count], 2, 3)
    shown = {each.id: group.facts for group in groups for each in group.examples}
    assert all(shown[each.id] == each.facts for each in logged) and len(shown) == 6 + len(written)
    assert all(len(group.examples) <= 2 for group in groups)
    alone = dataset.make_groups(written, domain, lambda text, count: domain.passages[:count], 2, 3)
    assert groups[:len(alone)] == alone  # what was logged changes nothing for the rest


# Likeness


def test_near_pairs_are_exactly_the_pairs_above_the_share():
    texts = [f"how many {word} may I keep at home {tail}" for word in ("books", "films", "book", "records")
             for tail in ("", "please", "for a week", "for two weeks")] + ["?", "", "hi"]
    sets = [shingles(text) for text in texts]
    for least in (0.3, 0.6, 0.8, 1.0):
        every = {(i, j) for j in range(len(texts)) for i in range(j) if jaccard(sets[i], sets[j]) >= least}
        assert set(near_pairs(texts, least)) == every
    assert len(list(near_pairs(texts, 0.6))) > 5


def test_chinese_is_compared_by_characters():
    assert ngrams("我的包裹在哪里", 3) >= {("我", "的", "包"), ("在", "哪", "里")}
    assert jaccard(shingles("我的包裹现在到哪里了"), shingles("我的包裹现在到哪里了呢")) > 0.8
