"""Training on real models, small: it learns, what it saves loads, and shared facts cost nothing in exactness."""

from pathlib import Path

import numpy as np
import pytest

from agent.domain import Domain
from agent.encoder import Encoder
from agent.errors import DataError
from agent.models import find
from agent.retrieve import Index
from agent.router import Router
from agent.settings import Settings
from tuning import dataset, recipe, train_generator, train_router
from tuning.dataset import OOS, Example, Group, Text

WISHES = {"refund": ["I want my money back", "please refund me", "give me back what I paid", "refund this order now",
                     "i'd like a refund", "return my payment please"],
          "delivery": ["when does it arrive", "where is my parcel", "has it been shipped yet", "my package is late",
                       "track my delivery", "when will the courier come"]}
OTHER = ["what is the weather", "tell me a joke", "who won the match", "write me a poem"]


@pytest.fixture
def shop() -> Domain:
    return Domain.load("customer_service")


def rows() -> list[Text]:
    return [Text(text, intent) for intent, texts in WISHES.items() for text in texts] + [Text(text, OOS) for text in OTHER]


def small(**changes) -> recipe.RouterRecipe:
    import dataclasses

    return dataclasses.replace(recipe.load("default").router, epochs=3, batch=8, held_out=0.2, **changes)


def test_a_router_learns_and_what_it_saves_loads(settings: Settings, tmp_path: Path):
    base = find("minilm", settings)
    steps = list(train_router.train(rows(), small(), base, 1, tmp_path, 2))
    assert any(step.held_out is not None for step in steps)
    router = Router(tmp_path, base, 2)
    routes = router.route(["could I get my money back please", "is my parcel on its way"])
    assert [route.ranking[0][0] for route in routes] == ["refund", "delivery"]
    assert all(abs(sum(share for _, share in route.ranking) - 1) < 1e-6 for route in routes)


def test_the_same_seed_gives_the_same_router(settings: Settings, tmp_path: Path):
    base = find("minilm", settings)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        list(train_router.train(rows(), small(), base, 5, tmp_path / name, 2))
    first, second = (Router(tmp_path / name, base).score(["where is it"])[0] for name in ("a", "b"))
    assert np.allclose(first, second, atol=1e-4)


def test_a_router_needs_two_intents(settings: Settings, tmp_path: Path):
    with pytest.raises(DataError, match="two intents"):
        list(train_router.train([Text("a", "x"), Text("b", "x")], small(), find("minilm", settings), 1, tmp_path, 2))


def test_held_out_rows_are_stratified_and_never_trained_on():
    train, held = dataset.split_rows(rows(), 0.2, 3)
    assert not {row.text for row in train} & {row.text for row in held}
    assert {row.intent for row in held} == {"refund", "delivery", OOS} and len(train) + len(held) == 16


def test_an_article_lies_on_one_side_of_the_split(shop: Domain):
    train, held = dataset.split_examples(dataset.generator_rows(shop), 0.1, 1)
    articles = [{key.partition("#")[0] for example in part for key in example.evidence[:1]} for part in (train, held)]
    assert held and not articles[0] & articles[1]


def test_every_group_holds_the_evidence_of_its_rows_and_no_more_than_the_prompt_shows(shop: Domain, settings: Settings):
    index = Index.build(shop, Encoder(find("minilm", settings)), "test", settings.home / "index")
    from agent import prompt

    texts = {passage.id: prompt.fact(passage.title, passage.heading, passage.text) for passage in shop.passages}
    groups = dataset.make_groups(dataset.generator_rows(shop)[:80], shop, index.search, 4, 2)
    assert sum(len(group.examples) for group in groups) == 80
    for group in groups:
        assert len(group.facts) <= max(prompt.MAX_FACTS, *(len(example.evidence) for example in group.examples))
        assert all(texts[key] in group.facts for example in group.examples for key in example.evidence)


def test_answers_are_the_words_of_the_evidence_and_keep_what_must_be_said(shop: Domain):
    from tuning.metrics import must_say

    written = {row["id"]: row for row in shop.rows("dialogues.jsonl")}
    texts = {passage.id: passage.text for passage in shop.passages}
    for example in dataset.generator_rows(shop):
        assert example.answer == (texts[example.evidence[0]] if example.evidence else shop.unknown)
        assert must_say(example.answer, written.get(example.id, {"must_say": []})["must_say"])


def test_an_answer_may_be_trained_by_its_first_words_alone(shop: Domain, settings: Settings):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(find("smollm2", settings).path)
    group = Group(("Returns, Time: You have 30 days.",),
                  (Example("1", (), "How long?", "You have 30 days.", ()), Example("2", (), "And then?", shop.unknown, ())))
    whole, = train_generator.encode_group(group, shop, tokenizer, 900)
    started, = train_generator.encode_group(group, shop, tokenizer, 900, lambda example: 3 if example.id == "1" else None)

    def answers(item: train_generator.Sequenced) -> list[list[int]]:
        """The targets of each row, told apart by what they may see."""
        return [[token for place, token in item.targets if item.branch[place] == row] for row in (1, 2)]

    assert answers(started) == [answers(whole)[0][:3], answers(whole)[1]]
    assert answers(whole)[0][-1] == tokenizer.eos_token_id


def test_rows_side_by_side_have_the_loss_of_rows_alone(shop: Domain, settings: Settings):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    base = find("smollm2", settings)
    tokenizer = AutoTokenizer.from_pretrained(base.path)
    model = AutoModelForCausalLM.from_pretrained(base.path, dtype=torch.float32).eval()
    examples = [Example("1", (), "How long do I have?", "30 days from delivery.", ()),
                Example("2", ("Can I return it?", "Yes."), "and a lamp?", "Lamps too.", ()),
                Example("3", (), "Who pays?", shop.unknown, ())]
    facts = ("Returns, Time: You have 30 days from delivery.",)

    def losses(groups: list[Group]) -> tuple[float, int]:
        encoded = [item for group in groups for item in train_generator.encode_group(group, shop, tokenizer, 900)]
        batch = train_generator.collate(encoded, tokenizer.pad_token_id)
        with torch.inference_mode():
            return float(train_generator.loss_of(model, batch)), len(batch["targets"])

    together, count = losses([Group(facts, tuple(examples))])
    alone = [losses([Group(facts, (example,))]) for example in examples]
    assert count == sum(size for _, size in alone)
    assert together == pytest.approx(sum(loss * size for loss, size in alone) / count, abs=1e-4)


def test_a_row_longer_than_the_recipe_allows_is_named(shop: Domain, settings: Settings):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(find("smollm2", settings).path)
    with pytest.raises(DataError, match="Row long"):
        train_generator.encode_group(Group(("x " * 500,), (Example("long", (), "q", "a", ()),)), shop, tokenizer, 200)


def test_a_part_that_is_taken_over_keeps_the_data_that_it_was_made_from(shop: Domain, home: Path, tmp_path: Path):
    from datetime import UTC, datetime

    from agent.models import BaseModel
    from agent.registry import Registry
    from agent.serving import Bases
    from tuning import train

    settings, bases = Settings.load(home=home), Bases(*(BaseModel(name, tmp_path, name) for name in ("e", "g")))
    registry = Registry(shop, home)

    def make(name: str, *parts: str):
        (tmp_path / name / shop.name).mkdir(parents=True)
        (tmp_path / name / "generator").mkdir()
        (tmp_path / name / "generator" / "adapter_model.safetensors").touch()
        made = train._publish(shop, settings, recipe.load("default"), bases, parts, False, tmp_path / name,
                              datetime.now(UTC), {}, [shop]).manifest
        return made["data"], made["generator_data"]

    def champion(name: str, manifest: dict):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.json").touch()
        made = registry.publish(tmp_path / name, manifest)
        registry.promote(made.version, registry.aliases().get("champion"), "for the test", "test")

    today = {shop.name: shop.data_hash("generator")}
    champion("old", {"data": "older rows", "generator_data": {"shop": "older rows"}})
    assert make("a", "generator") == ("older rows", today)
    assert make("b", "router") == (shop.data_hash("router"), {})  # the champion has no generator
    champion("bare", {})
    assert make("c", "generator") == (None, today)
    assert make("d", "router", "generator") == (shop.data_hash("router"), today)
