"""One bundle's evaluation: real routers, answers that were written by hand, and no model where none is asked."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from agent import Agent, ScriptedGenerator
from agent.domain import Domain
from agent.generators.local import LocalGenerator
from agent.models import find
from agent.router import Router
from agent.settings import Settings
from tuning import answers, evaluate, judge, report
from tuning.dataset import Example
from tuning.judge import Question

FACT = "Returns, Time limit: You have 30 days to return an item. Opened food cannot be returned."


@pytest.fixture(scope="module")
def shop() -> Domain:
    return Domain.load("customer_service")


@pytest.fixture
def small(shop: Domain, tmp_path: Path) -> Domain:
    """The same domain with so few known questions that its index is quickly made."""
    folder = tmp_path / "small"
    shutil.copytree(shop.folder, folder)
    for name, kept in (("questions", shop.rows("questions.jsonl")[:10]), ("dialogues", shop.rows("dialogues.jsonl")[:12])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    return Domain.load(folder)


def asked(domain: Domain, name: str, answer: str | None, phrases: Sequence[str] = ()) -> Question:
    evidence = ("return-rules#1",) if answer else ()
    return Example(name, (), "How long?", answer or domain.unknown, evidence), [FACT], list(phrases)


def test_an_answer_is_judged_as_it_would_be_shown(shop: Domain):
    one = judge.judge(shop, asked(shop, "q", "You have 30 days.", ["30 days"]), "You have 30 days to return an item.")
    assert one.said and one.decided and not one.refused and one.grounded == 1.0
    assert not one.unsupported and not one.unsupported_raw


def test_a_figure_without_a_source_is_seen_raw_and_is_gone_after_the_guard(shop: Domain):
    one = judge.judge(shop, asked(shop, "q", "You have 30 days.", ["30 days"]), "You have 45 days to return an item.")
    assert one.unsupported_raw and not one.unsupported and "45" not in one.shown
    assert one.said  # the guard quotes the source in its place


def test_a_refusal_is_right_only_where_there_is_no_answer(shop: Domain):
    rows = [asked(shop, "answerable", "You have 30 days.", ["30 days"]), asked(shop, "not", None)]
    answerable, other = (judge.judge(shop, row, shop.unknown) for row in rows)
    assert not answerable.decided and not answerable.said and other.decided
    assert answerable.grounded is None is other.grounded


def test_the_report_counts_by_hand_and_keeps_the_figures_it_had(shop: Domain):
    rows = [asked(shop, "a", "You have 30 days.", ["30 days"]), asked(shop, "b", "Opened food cannot be returned.", ["cannot"]),
            asked(shop, "c", None)]
    table = judge.generator_report(shop, rows, ["You have 30 days.", shop.unknown, "Opened food cannot be returned."])
    assert {"n", "n_answerable", "must_say", "rouge_l", "refusal_accuracy", "unsupported_numbers", "unsupported_numbers_raw",
            "misses"} <= set(table)
    assert (table["n"], table["n_answerable"], table["must_say"]) == (3, 2, 0.5)
    assert table["refusal_accuracy"] == pytest.approx(1 / 3) and table["grounded"] == 1.0
    assert [miss["id"] for miss in table["misses"]] == ["b", "c"]
    assert table["length"] == pytest.approx((4 + 5) / 2)  # words of what was answered
    assert 0 < table["bleu"] < 1 and 0 < table["chrf"] < 1 and 0 < table["meteor"] < 1 and 0 < table["token_f1"] < 1
    assert table["slices"]["length"] == {"short": {"n": 2, "must_say": 0.5}}


def test_a_report_without_an_answerable_question_says_none(shop: Domain):
    table = judge.generator_report(shop, [asked(shop, "c", None)], [shop.unknown])
    assert table["must_say"] is None and table["refusal_accuracy"] == 1.0 and "bleu" not in table
    assert json.loads(json.dumps(table)) == table


def test_the_few_shot_prompt_shows_an_answered_and_an_unanswerable_question_where_there_are_such(shop: Domain, small: Domain):
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"}]
    shown = judge.few_shot(shop, messages)
    assert [message["role"] for message in shown] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert shown[4]["content"] == shop.unknown != shown[2]["content"] and shown[0] == messages[0] and shown[-1] == messages[-1]
    (small.folder / "dialogues.jsonl").write_text("", encoding="utf-8")
    assert judge.few_shot(small, messages) == messages


def test_a_question_belongs_to_the_intent_of_its_article(shop: Domain):
    alone = next(passage for passage in shop.passages if len(passage.intents) == 1)
    assert judge.about(shop, Example("q", (), "?", "!", (alone.id,))) == {"intent": min(alone.intents)}
    assert judge.about(shop, Example("q", (), "?", "!", ())) == {}


def test_the_router_report_has_figures_slices_and_what_was_wrong(settings: Settings, shop: Domain):
    router = Router(shop.models / "router", find("minilm", settings))
    inside = [row for row in shop.rows("eval/intents.jsonl") if row["intent"] in ("order_status", "opening_hours")][:16]
    inside.append({"text": "when are you open", "intent": "complaint"})
    table = evaluate.router_report(router, inside, shop.rows("eval/oos.jsonl")[:8], shop.languages)
    assert table["n"] == 17 and table["accuracy"] < 1 and table["wrong"][-1]["intent"] == "complaint"
    assert 0.5 < table["auc"] <= 1 and 0 <= table["brier"] <= 2
    assert table["slices"]["intent"]["complaint"] == {"n": 1, "accuracy": 0.0}
    assert sum(entry["n"] for entry in table["reliability"]) == 17
    right = sum(entry["n"] * entry["accuracy"] for entry in table["slices"]["length"].values())
    assert right / 17 == pytest.approx(table["accuracy"])


def test_scores_have_their_errors():
    assert evaluate.scores_report([1.0, 3.0], [1.0, 1.0]) == {"n": 2, "rmse": pytest.approx(2 ** 0.5), "mae": 1.0}


@pytest.mark.parametrize(("only", "needed"), [
    (("router",), False), (("generator",), False), (("router", "retrieval", "red_flags"), False), (("end_to_end",), True),
    (("router", "conversations"), True), ((), True)])
def test_only_the_parts_that_talk_need_the_agents_generator(only: tuple, needed: bool):
    assert report.needs_generator(only) is needed


def test_a_router_is_evaluated_with_no_generator_in_memory(settings: Settings, small: Domain):
    agent = Agent.load(small.folder, generator=ScriptedGenerator("not asked"), home=settings.home)
    try:
        table = report.report(agent, "1", ("router",), 0, lambda line: None)
        assert table["bundle"] == "customer_service@0001" and table["router"]["n"] > 100
        assert not isinstance(agent.serving.generator, LocalGenerator)
    finally:
        agent.close()


def test_all_arms_answer_the_same_questions_and_perplexity_comes_when_asked(settings: Settings, small: Domain,
                                                                        monkeypatch: pytest.MonkeyPatch):
    agent = Agent.load(small.folder, generator=ScriptedGenerator("not asked"), home=settings.home)
    agent.settings = replace(agent.settings, max_new_tokens=2, threads=1)
    monkeypatch.setitem(answers._WRITE, "batch", lambda base, adapter, prompts, settings: enumerate(["Hello."] * len(prompts)))
    try:
        table = report.report(agent, "champion", ("generator",), 2, lambda line: None, perplexity=True)["generator"]
    finally:
        agent.close()
    assert set(table) == {"base", "few_shot", "tuned"} and all(arm["n"] == 2 for arm in table.values())
    assert len({arm["perplexity"] for arm in table.values()}) == 3 and min(arm["perplexity"] for arm in table.values()) > 1
    assert all(arm["must_say"] in (0.0, None) for arm in table.values())
