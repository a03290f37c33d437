"""The commands that learn, as a person types them: nothing to learn, changed intents, one intent alone; a dry run, a replay."""

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from taught import library, say, tell
from typer.testing import CliRunner

from agent import paths
from agent.domain import Domain
from agent.errors import DataError
from agent.models import find
from agent.prompt import prompt_hash
from agent.registry import Registry
from agent.settings import Settings
from agent.store import Store
from agent.surfaces.learning import app
from tuning import dataset, quarantine, recipe, train_router

HALL = ["can I rent the hall", "what does the hall cost", "is the hall free in may", "book the hall for a party",
        "how many chairs are in the hall", "may we dance in the hall"]
PRINTING = ["can I print here", "what does a print cost", "where is the printer", "print two pages in colour",
            "does the copier take cards", "print from my phone"]
INTENT = '\n[intents.{0}]\nabout = "{0}"\nanswer = "docs"\n'


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe that tunes a head alone, for an epoch."""
    text = (paths.RECIPES / "young.toml").read_text(encoding="utf-8")
    for old, new in (('method = "lora"', 'method = "head"'), ("epochs = 12", "epochs = 1")):
        assert old in text, old
        text = text.replace(old, new, 1)
    file = tmp_path_factory.mktemp("recipe") / "quick.toml"
    file.write_text(text, encoding="utf-8")
    return file


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, real_models: Path, quick: Path) -> Path:
    """A bundle's parts, trained when the domain still had a hall."""
    made = tmp_path_factory.mktemp("built")
    (made / "router").mkdir()
    was = library(tmp_path_factory.mktemp("was") / "library", [(text, "hall") for text in HALL[:3]], toml=INTENT.format("hall"))
    base = find("minilm", Settings.load(home=real_models.parent))
    list(train_router.train(dataset.router_rows(was), recipe.load(quick).router, base, 1, made / "router", 1))
    return made


@pytest.fixture
def store(settings: Settings) -> Iterator[Store]:
    with closing(Store(settings.database_url)) as made:
        made.open()
        quarantine.trust(made, "ann")
        yield made


@pytest.fixture
def domain(tmp_path: Path, settings: Settings, built: Path) -> Domain:
    """The same domain today, without the hall and with a printer; its champion is from before."""
    now = library(tmp_path / "library", [(text, "printing") for text in PRINTING[:2]], toml=INTENT.format("printing"))
    (now.folder / "eval" / "conversations.jsonl").unlink()
    for name, row in (("intents", {"text": "where do I print", "intent": "printing"}), ("safety", {"text": "a person now"})):
        (now.folder / "eval" / f"{name}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
    promote(now, settings, built)
    return Domain.load(now.folder)


def promote(domain: Domain, settings: Settings, built: Path) -> None:
    """Its first champion."""
    registry, prints = Registry(domain, settings.home), [find(name, settings).fingerprint for name in ("minilm", "smollm2")]
    made = registry.publish(built, {"domain": domain.name, "encoder": prints[0], "generator": prints[1],
                                    "prompt": prompt_hash(domain), "made": "2026-01-01T00:00:00+00:00"})
    registry.promote(made.version, None, "the first", "test")


def teach(store: Store, domain: Domain, rows: dict[str, str], author: str = "ann") -> None:
    for text, intent in rows.items():
        tell(store, say(store, domain, text, "...", prompted=False), "intent", intent, author)


def run(*arguments: str, code: int = 0) -> dict[str, Any]:
    """What a command prints as JSON."""
    done = CliRunner().invoke(app, [*arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def untouched(domain: Domain, settings: Settings) -> bool:
    """Whether the first champion is champion, whole, and alone."""
    registry = Registry(domain, settings.home)
    registry.get().verify()
    return registry.aliases() == {"champion": 2} and [bundle.version for bundle in registry.versions()] == [2]


def test_without_any_feedback_it_says_that_there_is_nothing_to_learn(domain: Domain, settings: Settings, store: Store) -> None:
    told = run("retrain", str(domain.folder))
    assert (told["status"], told["bundle"]) == ("nothing", None) and told["words"].startswith("There is nothing new to learn")
    assert "There is nothing new to learn" in CliRunner().invoke(app, ["retrain", str(domain.folder)]).stdout
    assert untouched(domain, settings)


def test_feedback_on_an_intent_that_the_domain_lost_is_left_out_and_says_so(
        domain: Domain, settings: Settings, store: Store) -> None:
    teach(store, domain, dict.fromkeys(HALL[3:], "hall"))
    told = run("retrain", str(domain.folder))
    assert told["status"] == "nothing" and "3 left out (the domain no longer has this intent 3)" in told["words"]
    assert told["rows"]["dropped"] == {"rows": 3, "the domain no longer has this intent": 3} and untouched(domain, settings)


def test_a_domain_whose_intents_changed_since_the_champion_is_retrained_with_those_of_today(
        domain: Domain, settings: Settings, store: Store, quick: Path) -> None:
    teach(store, domain, dict.fromkeys(HALL[3:], "hall") | dict.fromkeys(PRINTING[2:], "printing"))
    told = run("retrain", str(domain.folder), "--recipe", str(quick), code=1)
    registry = Registry(domain, settings.home)
    labels = [json.loads((bundle.path / "router" / "router.json").read_text(encoding="utf-8"))["labels"]
              for bundle in registry.versions()]
    assert labels == [["borrowing", "hall", "opening", "talk_to_person"],
                      ["borrowing", "opening", "printing", "talk_to_person"]]
    assert told["status"] == "abstained" and "not enough evidence" in told["words"]  # one held-out row
    assert told["rows"]["router"]["rows"] == 4 and told["rows"]["dropped"]["the domain no longer has this intent"] == 3
    assert registry.aliases() == {"champion": 2} and told["bundle"] == registry.versions()[-1].name


def test_with_steps_every_line_is_a_step_and_the_last_is_the_outcome(
        domain: Domain, settings: Settings, store: Store, quick: Path) -> None:
    teach(store, domain, dict.fromkeys(PRINTING[2:], "printing"))
    done = CliRunner().invoke(app, ["retrain", str(domain.folder), "--recipe", str(quick), "--steps"], catch_exceptions=False)
    *steps, end = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.exit_code == 1 and set(end) == {"s", "status", "bundle", "words"} and end["status"] == "abstained"
    trained = [step for step in steps if "stage" in step]
    assert trained and {step["total"] for step in trained} == {trained[-1]["done"]} and trained[-1]["held_out"] is not None
    assert any("rows for the router" in step.get("note", "") for step in steps)
    assert [step["s"] for step in [*steps, end]] == sorted(step["s"] for step in [*steps, end])


def test_rows_of_one_intent_alone_are_refused_with_the_next_step(
        tmp_path: Path, settings: Settings, store: Store, built: Path) -> None:
    shop = tmp_path / "desk"
    shop.mkdir()
    (shop / "domain.toml").write_text('name = "desk"\npersona = "p"\nunknown = "u"\n[intents.talk_to_person]\n'
                                      'answer = "handoff"\nreply = "One moment."\n', encoding="utf-8")
    for name in ("oos.jsonl", "dialogues.jsonl"):
        (shop / name).touch()
    (shop / "intents.jsonl").write_text('{"text": "a human please", "intent": "talk_to_person"}\n', encoding="utf-8")
    domain = Domain.load(shop)
    promote(domain, settings, built)
    teach(store, domain, dict.fromkeys(["let me speak to a librarian", "can somebody call me"], "talk_to_person"))
    with pytest.raises(DataError, match="All rows of the router say 'talk_to_person' and it needs two intents or more; label"):
        run("retrain", str(shop))
    assert untouched(domain, settings)


def test_a_dry_run_counts_by_signal_and_by_reason_and_leaves_nothing_behind(
        domain: Domain, settings: Settings, store: Store) -> None:
    teach(store, domain, {PRINTING[2]: "printing", HALL[3]: "hall"})
    teach(store, domain, {PRINTING[3]: "printing"}, author="stranger")
    files = sorted(path for path in settings.home.rglob("*") if "index" not in path.parts)
    told = run("retrain", str(domain.folder), "--dry-run")
    assert told["router"] == {"rows": 1, "intent": 1} and told["neighbours_asked"] is True
    assert told["waiting"]["its author is new"] == told["waiting"]["rows"] == 1
    assert told["dropped"] == {"rows": 1, "the domain no longer has this intent": 1}
    lines = CliRunner().invoke(app, ["retrain", str(domain.folder), "--dry-run"]).stdout
    assert "1 rows for the router" in lines and "`retune review template` shows them" in lines
    assert sorted(path for path in settings.home.rglob("*") if "index" not in path.parts) == files
    assert untouched(domain, settings)


def test_a_replay_writes_its_curve_as_json_and_as_a_picture(settings: Settings, tmp_path: Path) -> None:
    wishes = {"refund": "I want my money back for order {}", "delivery": "when will parcel {} arrive at my door",
              "password": "how do I change the password of account {}"}
    for name, numbers in (("train", range(12)), ("test", range(12, 14))):
        rows = [{"text": text.format(number), "intent": intent} for intent, text in wishes.items() for number in numbers]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told = run("simulate", "--train", str(tmp_path / "train.jsonl"), "--test", str(tmp_path / "test.jsonl"), "--shots", "2",
               "--every", "15", "--share", "0.4", "--method", "frozen", "--out", str(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "curve.json").read_text(encoding="utf-8")) == told
    assert (tmp_path / "out" / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert [curve["plan"]["ask"] for curve in told["curves"]] == ["uncertain", "random"]
    assert [point["labels"] for point in told["curves"][0]["points"]] == [6, 12, 18]
    assert told["everything"]["accuracy"] == 1.0 and {"difference", "low", "high"} <= set(told["asking"])
