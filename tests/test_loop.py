"""One retraining, whole: rows in, a real router tuned, compared and judged, promoted or not; killed, it goes on."""

import json
import os
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from taught import library, opened, say, tell

from agent.domain import Domain
from agent.errors import DataError, StoreError
from agent.models import find
from agent.prompt import prompt_hash
from agent.registry import Registry
from agent.serving import Bases
from agent.settings import Settings
from agent.store import Store
from tuning import dataset, forget, lineage, loop, quarantine, recipe, review, train_router
from tuning.runs import Outcome
from tuning.steps import TrainStep
from tuning.workshop import draw_evenly

SAID = {
    "borrowing": ["how long may I keep a novel", "can I take home ten books", "I want to return this book",
                  "my loan is overdue", "how many comics may I borrow", "is there a fine for late books",
                  "can I renew my loan", "may I lend out a dvd", "where do I give books back",
                  "what is the limit of books on my card", "I lost a borrowed book", "do you lend magazines"],
    "opening": ["are you open on sunday", "what are your hours", "when do you close tonight",
                "is the library open on christmas", "what time do you open tomorrow", "are you closed on monday",
                "opening times please", "until when are you open", "can I come at eight in the morning",
                "is it open during the holidays", "what hours on friday", "do you open before nine"],
    "talk_to_person": ["let me speak to a librarian", "I want a human", "connect me with a person", "can somebody call me",
                       "is there a real person", "I need to talk to staff", "get me a colleague",
                       "put me through to the desk", "a person please not a machine", "may I talk to someone",
                       "human help please", "speak to an employee"],
}
HELD = {intent: [f"{start} {text}" for text in texts for start in ("hello,", "excuse me,")] for intent, texts in SAID.items()}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, real_models: Path) -> Settings:
    home = tmp_path_factory.mktemp("loop")
    os.symlink(real_models, home / "models", target_is_directory=True)
    return replace(Settings.load(home=home), threads=1)


@pytest.fixture(scope="module")
def bases(room: Settings) -> Bases:
    return Bases(find("minilm", room), find("smollm2", room))


@pytest.fixture(scope="module")
def plan() -> recipe.Recipe:
    young = recipe.load("young")
    return replace(young, router=replace(young.router, epochs=4, batch=8, save_every=3))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, bases: Bases, plan: recipe.Recipe) -> Path:
    """A good router's folder."""
    folder = tmp_path_factory.mktemp("trained") / "router"
    folder.mkdir()
    rows = [(text, name) for name, texts in SAID.items() for text in texts]
    domain = library(tmp_path_factory.mktemp("first") / "library", rows)
    list(train_router.train(dataset.router_rows(domain), plan.router, bases.encoder, 1, folder, 1))
    return folder


@pytest.fixture
def place(tmp_path: Path, room: Settings) -> tuple[Domain, Settings, Store]:
    """A library with held-out rows of its own name, so that registries do not meet, and an empty store."""
    domain = library(tmp_path / "library")
    for name, rows in (("intents", [{"text": text, "intent": intent} for intent, texts in HELD.items() for text in texts]),
                       ("oos", [{"text": "who won the football match"}, {"text": "write me a poem about cheese"}]),
                       ("safety", [{"text": "get me a colleague at once", "never": ["opening"]}])):
        (domain.folder / "eval" / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (domain.folder / "eval" / "conversations.jsonl").unlink()
    home = tmp_path / "home"
    home.mkdir()
    os.symlink(room.home / "models", home / "models", target_is_directory=True)
    store = opened(tmp_path)
    quarantine.trust(store, "ann")
    return Domain.load(domain.folder), replace(room, home=home), store


def champion(domain: Domain, settings: Settings, bases: Bases, router: Path, tmp: Path, swapped: tuple[str, str] | None = None):
    """Publish and promote a bundle with this router, two of its intents changed round if asked for."""
    import shutil

    shutil.copytree(router, tmp / "built" / "router")
    if swapped:
        file = tmp / "built" / "router" / "head.safetensors"
        labels = json.loads((tmp / "built" / "router" / "router.json").read_text())["labels"]
        order = [labels.index(dict([swapped, swapped[::-1]]).get(name, name)) for name in labels] + [len(labels)]
        save_file({name: np.ascontiguousarray(value[order[:len(value)]]) for name, value in load_file(file).items()}, file)
    registry = Registry(domain, settings.home)
    made = registry.publish(tmp / "built", {
        "domain": domain.name, "encoder": bases.encoder.fingerprint, "generator": bases.generator.fingerprint,
        "prompt": prompt_hash(domain), "made": "2026-01-01T00:00:00+00:00"})
    registry.promote(made.version, None, "the first", "test")
    return made


def teach(domain: Domain, store: Store, wrong: dict[str, str] | None = None) -> None:
    for intent, texts in SAID.items():
        for text in texts:
            tell(store, say(store, domain, text, "...", prompted=False), "intent", (wrong or {}).get(intent, intent))


def accept_all(domain: Domain, store: Store, bases: Bases, settings: Settings) -> None:
    for waiting in loop.gather(domain, store, bases, settings).waiting:
        review.decide(store, domain, waiting, "accept", "boss")


def turn(place, bases: Bases, plan: recipe.Recipe, **more) -> tuple[list, Outcome]:
    domain, settings, store = place
    steps = list(loop.retrain(domain, settings, plan, bases, store, ahead_s=0, **more))
    return steps[:-1], steps[-1]


def test_without_feedback_there_is_nothing_to_do(place, bases, plan, trained, tmp_path):
    champion(place[0], place[1], bases, trained, tmp_path)
    steps, end = turn(place, bases, plan)
    assert (end.status, end.bundle) == ("nothing", None) and not any(isinstance(step, TrainStep) for step in steps)


def test_a_better_challenger_is_promoted_with_its_report_and_its_lineage(place, bases, plan, trained, tmp_path):
    domain, settings, store = place
    old = champion(domain, settings, bases, trained, tmp_path, swapped=("borrowing", "opening"))
    teach(domain, store)
    accept_all(domain, store, bases, settings)
    _, end = turn(place, bases, plan)
    registry = Registry(domain, settings.home)
    new = registry.get("champion")
    assert end.status == "promoted", end.words
    assert end.bundle == new.name != old.name and registry.get("previous").version == old.version
    assert {"report.json", "report.html", "lineage.jsonl", "recipe.json"} <= set(new.manifest["files"])
    assert len((new.path / "lineage.jsonl").read_text().splitlines()) == new.manifest["rows"]["router"] == 36
    assert end.table["verdict"]["decision"] == "promote" and {row["stage"] for row in end.table["curves"]} == {"router"}
    assert not list((settings.home / "training").glob("*/bundle"))
    steps, again = turn(place, bases, plan)
    assert again.status == "nothing" and len(registry.versions()) == 2, "what the champion learned is nothing new"
    assert registry.rollback("thumbs fell", "test").version == old.version
    _, third = turn(place, bases, plan)
    assert registry.get("champion").version == old.version and len(registry.versions()) == 2, "what was taken back stays back"
    assert (third.status, third.bundle) == ("nothing", new.name) and "taken back" in third.words


def test_a_challenger_that_learned_an_intent_wrong_is_refused_and_the_intent_is_named(place, bases, plan, trained, tmp_path):
    domain, settings, store = place
    old = champion(domain, settings, bases, trained, tmp_path)
    teach(domain, store, wrong={"opening": "borrowing"})
    accept_all(domain, store, bases, settings)
    _, end = turn(place, bases, plan)
    assert end.status == "refused" and "opening" in end.words and Registry(domain, settings.home).get().version == old.version


def test_a_run_that_was_cut_off_goes_on_and_is_judged_once(place, bases, plan, trained, tmp_path):
    domain, settings, store = place
    old = champion(domain, settings, bases, trained, tmp_path, swapped=("borrowing", "opening"))
    teach(domain, store)
    accept_all(domain, store, bases, settings)
    whole = loop.retrain(domain, settings, plan, bases, store)
    seen = [step for step, _ in zip((step for step in whole if isinstance(step, TrainStep)), range(8))]
    whole.close()
    assert Registry(domain, settings.home).get().version == old.version

    @contextmanager
    def lost():
        raise StoreError("the run is not ours any more")
        yield

    with pytest.raises(StoreError, match="not ours"):
        list(loop.retrain(domain, settings, plan, bases, store, ahead_s=0, fence=lost))
    assert Registry(domain, settings.home).get().version == old.version
    steps, end = turn(place, bases, plan)
    assert end.status == "promoted"
    assert not any(isinstance(step, TrainStep) for step in steps), "it was trained and judged before"
    assert len(Registry(domain, settings.home).versions()) == 2
    done = {row["done"]: row["loss"] for row in end.table["curves"] if row["held_out"] is None}
    assert done[1] == pytest.approx(seen[0].loss) and sorted(done) == list(range(1, max(done) + 1))


def test_what_a_forgotten_person_taught_is_in_no_part_of_the_next_bundle(place, bases, plan, trained, tmp_path):
    domain, settings, store = place
    champion(domain, settings, bases, trained, tmp_path, swapped=("borrowing", "opening"))
    teach(domain, store)
    accept_all(domain, store, bases, settings)
    assert turn(place, bases, plan)[1].status == "promoted"
    registry = Registry(domain, settings.home)
    assert lineage.learned_from(registry, "ann") == [registry.get("champion")]
    forget.forget("ann", [domain], settings, store)
    steps, end = turn(place, bases, plan)
    assert any("forgotten" in getattr(step, "text", "") for step in steps)
    assert any(isinstance(step, TrainStep) for step in steps)
    made = registry.get(str(int(end.bundle.rpartition("@")[2])))
    assert lineage.taught(registry.versions(), made) == [] and made.part("router") is not None


def test_two_retrainings_of_one_domain_do_not_meet(place, bases, plan, trained, tmp_path):
    domain, settings, store = place
    champion(domain, settings, bases, trained, tmp_path)
    teach(domain, store)
    first = loop.retrain(domain, settings, plan, bases, store)
    next(first)
    with pytest.raises(DataError, match="another process"):
        next(loop.retrain(domain, settings, plan, bases, store))
    first.close()


def test_what_is_replayed_holds_every_kind_alike():
    rows = ["a1", "a2", "a3", "a4", "b1", "b2", "c1"]
    drawn = draw_evenly(rows, 5, 1, lambda row: row[0])
    assert sorted(row[0] for row in drawn) == ["a", "a", "b", "b", "c"] and drawn == draw_evenly(rows, 5, 1, lambda row: row[0])
    assert sorted(draw_evenly(rows, 99, 1, lambda row: row[0])) == rows
