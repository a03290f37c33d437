"""Two bundles on the same rows: real routers, real adapters, few questions."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from agent.domain import Domain
from agent.errors import BundleError, DataError
from agent.models import find
from agent.registry import Bundle, Registry
from agent.serving import Bases
from agent.settings import Settings
from tuning import answers, compare, likelihood
from tuning.compare import Comparison, Parts

GENERAL = [{"id": "a", "kind": "fact", "prompt": "What is the capital of France?", "answer": "The capital of France is Paris."},
           {"id": "b", "kind": "list", "prompt": "Count from one to three.", "answer": "1, 2, 3"}]
INTENTS = ("order_status", "opening_hours", "return_policy")


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, real_models: Path, index: Path) -> Settings:
    """Settings of one home for the whole module, so that answers are written once."""
    home = tmp_path_factory.mktemp("compare")
    os.symlink(real_models, home / "models", target_is_directory=True)
    os.symlink(index, home / "index", target_is_directory=True)
    return replace(Settings.load(home=home), threads=1, max_new_tokens=2)


@pytest.fixture(scope="module")
def bases(room: Settings) -> Bases:
    return Bases(find("minilm", room), find("smollm2", room))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Domain:
    """Customer service with a handful of held-out rows, an emergency among them, and its starter bundle."""
    real = Domain.load("customer_service")
    folder = tmp_path_factory.mktemp("domains") / "shop"
    shutil.copytree(real.folder, folder)
    keep(folder, "../questions", lambda rows: rows[:20])  # few questions are quickly embedded
    keep(folder, "../dialogues", lambda rows: some(rows, 30, 3))
    keep(folder, "intents", lambda rows: [row for name in INTENTS
                                            for row in [row for row in rows if row["intent"] == name][:4]])
    keep(folder, "oos", lambda rows: rows[:8])
    keep(folder, "questions", lambda rows: some(rows, 2, 1))
    write(folder, "safety", [{"text": "please cancel my order LK-10482", "never": ["cancel_order"]},
                             {"text": "what is the meaning of life"}])
    return Domain.load(folder)


def some(rows: list[dict], answerable: int, others: int) -> list[dict]:
    told = [row for row in rows if row["answerable"]], [row for row in rows if not row["answerable"]]
    return told[0][:answerable] + told[1][:others]


def keep(folder: Path, name: str, chosen) -> None:
    file = folder / "eval" / f"{name}.jsonl"
    write(folder, name, chosen([json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]))


def write(folder: Path, name: str, rows: list[dict]) -> None:
    (folder / "eval" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


@pytest.fixture(scope="module")
def champion(shop: Domain, room: Settings) -> Parts:
    return Parts.of(Registry(shop, room.home).get("champion"))


@pytest.fixture(scope="module")
def broken(champion: Parts, tmp_path_factory: pytest.TempPathFactory) -> Parts:
    """A challenger whose head has two intents changed round: each is routed where the other belongs."""
    folder = tmp_path_factory.mktemp("broken") / "router"
    shutil.copytree(champion.router, folder)
    labels = json.loads((folder / "router.json").read_text(encoding="utf-8"))["labels"]
    head = load_file(folder / "head.safetensors")
    order = list(range(len(head["weight"])))
    one, other = labels.index("order_status"), labels.index("opening_hours")
    order[one], order[other] = other, one
    save_file({name: np.ascontiguousarray(value[order[:len(value)]]) for name, value in head.items()}, folder / "head.safetensors")
    return Parts("broken", folder, champion.generator)


@pytest.fixture(scope="module")
def worse_router(shop: Domain, champion: Parts, broken: Parts, room: Settings, bases: Bases) -> Comparison:
    return compare.compare(shop, champion, broken, room, bases)


@pytest.fixture(scope="module")
def other_generator(shop: Domain, champion: Parts, room: Settings, bases: Bases) -> Comparison:
    """The challenger answers by the base without an adapter."""
    bare = Parts("bare", champion.router, None)
    return compare.compare(shop, champion, bare, room, bases, general=GENERAL)


def of(compared: Comparison, part: str) -> list:
    return [pair for pair in compared.pairs if pair.part == part]


def test_a_changed_router_is_the_only_target(worse_router: Comparison):
    assert worse_router.targets == {"router"} and worse_router.table["changed"] == ["router"]


def test_rows_of_an_intent_that_is_routed_elsewhere_are_lost_and_the_others_stay(worse_router: Comparison):
    for pair in of(worse_router, "router"):
        swapped = pair.slices["intent"] != "return_policy"
        assert pair.challenger == (0 if swapped else pair.champion)
    lost = [row for row in worse_router.table["lost"] if row["part"] == "router"]
    assert lost and {row["champion"] for row in lost} | {row["challenger"] for row in lost} == {"order_status", "opening_hours"}
    assert not [row for row in worse_router.table["gained"] if row["part"] == "router"]


def test_the_worst_slice_comes_first_with_its_figures(worse_router: Comparison):
    found = worse_router.table["slices"]
    assert [entry["delta"] for entry in found] == sorted(entry["delta"] for entry in found)
    first, second = [entry for entry in found if entry["slice"] == "intent"][:2]
    assert {first["value"], second["value"]} == {"order_status", "opening_hours"} and first["part"] == "router"
    assert first["n"] == 4 and first["champion"] == 1.0 and first["challenger"] == 0.0 and first["low"] < -0.3


def test_intents_that_are_mixed_up_are_counted_on_both_sides(worse_router: Comparison):
    worst = worse_router.table["confusions"][0]
    assert {worst["intent"], worst["routed"]} == {"order_status", "opening_hours"}
    assert worst["champion"] == 0 < worst["challenger"]


def test_out_of_scope_rows_are_judged_at_each_bundles_own_threshold(shop: Domain, champion: Parts, room: Settings, bases: Bases,
                                                                    tmp_path: Path):
    shutil.copytree(champion.router, tmp_path / "router")
    file = tmp_path / "router" / "router.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | {"oos_threshold": 0.0}), encoding="utf-8")
    compared = compare.compare(shop, champion, Parts("shy", tmp_path / "router", champion.generator), room, bases)
    assert all(pair.challenger == 1 for pair in of(compared, "oos"))
    assert all(pair.challenger == 0 for pair in of(compared, "router"))  # refusing everything is no way to be right


def test_what_did_not_change_is_equal_row_by_row(worse_router: Comparison):
    for part in ("generator", "refusal"):
        assert of(worse_router, part) and all(pair.champion == pair.challenger for pair in of(worse_router, part))
    assert not of(worse_router, "general") and "few_shot" not in worse_router.table["generator"]


def test_a_safety_row_is_lost_when_it_may_be_answered(shop: Domain, worse_router: Comparison):
    rows = {pair.id: pair.champion for pair in of(worse_router, "safety")}
    assert rows["safety:1"] == 0 and rows["safety:2"] == 1  # routed to what it must never be; refused
    assert sum(name.startswith("question:") for name in rows) == 3


def test_a_changed_generator_is_held_against_champion_few_shot_and_base(other_generator: Comparison):
    assert other_generator.targets == {"generator"}
    assert set(other_generator.table["generator"]) == {"champion", "challenger", "few_shot", "base"}
    pairs = of(other_generator, "generator")
    assert len(pairs) == 2 and all(pair.few_shot in (0.0, 1.0) for pair in pairs)
    assert all(pair.few_shot is None for pair in other_generator.pairs if pair.part != "generator")
    assert len(of(other_generator, "refusal")) == 3


def test_the_challenger_without_an_adapter_answers_as_the_base_does(other_generator: Comparison):
    arms = other_generator.table["generator"]
    assert arms["challenger"] == arms["base"]


def test_questions_on_one_article_stand_and_fall_together(shop: Domain, other_generator: Comparison):
    evidence = {f"question:{row['id']}": row["evidence"][0].partition("#")[0] for row in shop.rows("eval/questions.jsonl")
                if row["evidence"]}
    assert evidence and all(pair.cluster == evidence[pair.id] for pair in of(other_generator, "generator"))


def test_general_pairs_are_the_likelihood_of_plain_answers(other_generator: Comparison, champion: Parts, bases: Bases):
    pairs = of(other_generator, "general")
    base = likelihood.general_scores(bases.generator, None, GENERAL, 1)
    assert [pair.challenger for pair in pairs] == pytest.approx(base)
    assert all(0 < pair.champion < 1 for pair in pairs) and any(pair.champion != pair.challenger for pair in pairs)


def test_no_id_stands_twice_in_a_part(other_generator: Comparison):
    named = [(pair.part, pair.id) for pair in other_generator.pairs]
    assert len(set(named)) == len(named)


def test_the_table_is_json_and_names_what_was_asked(worse_router: Comparison, other_generator: Comparison, shop: Domain):
    assert json.loads(json.dumps(worse_router.table))["figures"]
    assert worse_router.table["evaluated"] != other_generator.table["evaluated"]  # another general set
    assert {entry["part"] for entry in other_generator.table["figures"]} == set(compare.PARTS)


def test_private_values_do_not_reach_the_examples(shop: Domain, champion: Parts, broken: Parts, room: Settings, bases: Bases,
                                                  tmp_path: Path):
    folder = tmp_path / "shop"
    shutil.copytree(shop.folder, folder)
    for name in ("oos", "questions", "safety"):
        (folder / "eval" / f"{name}.jsonl").unlink()
    write(folder, "intents", [{"text": "where is my order, mail me at jane.doe@example.org", "intent": "order_status"}])
    compared = compare.compare(Domain.load(folder), champion, broken, room, bases)
    assert [row["part"] for row in compared.table["lost"]] == ["router"]
    assert "jane.doe" not in json.dumps(compared.table) and "[EMAIL_1]" in compared.table["lost"][0]["asked"]


def test_a_domain_without_held_out_rows_cannot_be_compared(shop: Domain, champion: Parts, broken: Parts, room: Settings,
                                                           bases: Bases, tmp_path: Path):
    shutil.copytree(shop.folder, tmp_path / "shop")
    shutil.rmtree(tmp_path / "shop" / "eval")
    with pytest.raises(DataError, match="no held-out rows"):
        compare.compare(Domain.load(tmp_path / "shop"), champion, broken, room, bases)


def test_a_bundle_without_a_router_has_no_parts(tmp_path: Path):
    with pytest.raises(BundleError, match="no router"):
        Parts.of(Bundle("shop", 3, tmp_path, {"files": {"generator/adapter_model.safetensors": "0"}}))


def test_the_same_weights_are_the_same_wherever_they_lie(champion: Parts, broken: Parts, tmp_path: Path):
    shutil.copytree(champion.router, tmp_path / "copy")
    assert answers.fingerprint(tmp_path / "copy") == answers.fingerprint(champion.router) != answers.fingerprint(broken.router)
    assert answers.fingerprint(None) == ""


def test_both_writers_answer_and_do_not_mix_up_whose_answer_is_whose(room: Settings, bases: Bases):
    asked = ("Say: hello", "What is the capital of France?", "Count from 1 to 3")
    prompts = [[{"role": "user", "content": text}] for text in asked]
    batch, onnx = (answers.answers(bases.generator, None, prompts, room, writer=name) for name in answers.WRITERS)
    back = answers.answers(bases.generator, None, prompts[::-1], room)
    assert len(batch) == len(onnx) == 3 and len(set(batch)) == len(set(onnx)) == 3 and back == batch[::-1]


def test_answers_that_were_written_are_not_written_again(room: Settings, bases: Bases):
    prompts = [[{"role": "user", "content": "What is the capital of Spain?"}]]
    before = set((room.home / "answers").glob("*.json")) if (room.home / "answers").is_dir() else set()
    answers.answers(bases.generator, None, prompts, room)
    made, = set((room.home / "answers").glob("*.json")) - before
    made.write_text('["as it was kept"]', encoding="utf-8")
    assert answers.answers(bases.generator, None, prompts, room) == ["as it was kept"]


def test_the_frozen_general_set_is_whole_and_what_it_was():
    rows = likelihood.general_rows()
    assert len(rows) == len({row["id"] for row in rows}) == len({row["prompt"] for row in rows}) == 64
    assert all(row["answer"].strip() for row in rows)
    assert likelihood.general_hash() == "07416b4988101e92225bb699bc70ff4c46615623dbde92c249817b5c2faed465"


def test_a_likelihood_is_that_of_a_row_alone_and_of_the_sum_over_its_tokens(bases: Bases):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    asked = [([{"role": "user", "content": row["prompt"]}], row["answer"]) for row in GENERAL]
    together = likelihood.log_likelihoods(bases.generator, None, asked, 1)
    tokenizer = AutoTokenizer.from_pretrained(bases.generator.path)
    model = AutoModelForCausalLM.from_pretrained(bases.generator.path, dtype=torch.float32).eval()
    for (messages, answer), (total, count) in zip(asked, together):
        head = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        before = tokenizer(head, add_special_tokens=False)["input_ids"]
        own = tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
        labels = torch.tensor([[-100] * len(before) + own])
        with torch.inference_mode():
            loss = model(input_ids=torch.tensor([before + own]), labels=labels).loss
        assert count == len(own) and total == pytest.approx(-float(loss) * count, rel=1e-4)


def test_the_gate_can_read_the_pairs(worse_router: Comparison):
    from tuning import gate

    verdict = gate.decide(worse_router.pairs, gate.Rule(resamples=200, floor=5), worse_router.targets)
    assert verdict.decision == "refuse" and any(finding.slice.startswith("router") for finding in verdict.findings)
