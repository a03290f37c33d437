"""Why a turn went as it did, told by the real router of a starter bundle over a small library's rows."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from taught import library, tell
from typer.testing import CliRunner

from agent import models, paths
from agent.domain import Domain
from agent.errors import DataError
from agent.models import BaseModel
from agent.registry import Registry
from agent.router import Router
from agent.schema import handoffs, signals
from agent.settings import Settings
from agent.store import Store
from agent.surfaces.explaining import app
from agent.types import Route, Turn
from tuning import decision, lineage
from tuning.explain import explain, last, words
from tuning.harvest import harvest
from tuning.review import decide

STARTER = paths.DOMAINS / "customer_service" / "models"
RETURNS = "How many days do I have to return a jacket?"


@pytest.fixture
def domain(tmp_path: Path, settings: Settings) -> Domain:
    """A library whose starter bundle has a shop's router, and whose intents are two of the shop's."""
    toml = '\n[intents.return_policy]\nanswer = "docs"\n[intents.order_status]\nanswer = "docs"\n'
    rows = [("Can I send a jacket back?", "return_policy"), ("Where is my parcel?", "order_status")]
    made = library(tmp_path / "library", rows, toml=toml)
    built = tmp_path / "built"
    shutil.copytree(STARTER / "router", built / "router")
    Registry(made, settings.home).publish(built, manifest(settings, data=made.data_hash("router")), made.models)
    return made


def manifest(settings: Settings, **more: Any) -> dict[str, Any]:
    base = models.ensure(settings.encoder, settings)
    return {"encoder": base.fingerprint, "parent": None, "made": "2026-03-01T00:00:00+00:00", "recipe": "default"} | more


@pytest.fixture
def store(db: Store) -> Store:
    return db


@pytest.fixture(scope="module")
def router(real_models: Path) -> Router:
    found = models.find("minilm", Settings(real_models.parent))
    assert isinstance(found, BaseModel)
    return Router(STARTER / "router", found)


def log(store: Store, router: Router, text: str, routed: str | None = None, id: str = "t1", **changes: Any) -> str:
    """A turn as the agent logs it, routed by the real router."""
    route = router.route([routed or text])[0]
    turn = Turn(id, "s1", "template", "template@0001", text, text, route=route, intent=route.intent, state="answered",
                reply="For 30 days.")
    store.log(replace(turn, **changes), {})
    return id


def test_the_words_that_carry_the_decision_weigh_most(domain, settings, store, router):
    told = explain(domain, settings, store, log(store, router, RETURNS))
    assert told["decision"]["for"] == "return_policy" == told["ranking"][0][0]
    assert told["decision"]["probability"] == pytest.approx(told["ranking"][0][1], abs=1e-3)
    assert told["words"][0]["words"] == "return" and {each["words"] for each in told["words"]} == set(RETURNS.split())
    drops = [each["drop"] for each in told["words"]]
    assert drops == sorted(drops, reverse=True) and drops[0] > 0.05
    alone, _ = router.score([RETURNS.replace("return", "")])
    before = told["decision"]["probability"]
    assert before - alone[0, router.labels.index("return_policy")] == pytest.approx(drops[0], abs=2e-4)


def test_a_long_message_is_weighed_by_phrases_and_a_chinese_one_by_signs(router):
    long = " ".join(f"word{number}" for number in range(95))
    assert len(decision.spans(long)) == 32 and " ".join(long[a:b] for a, b in decision.spans(long)) == long
    assert [("我想退货 now!"[a:b]) for a, b in decision.spans("我想退货 now!")] == ["我", "想", "退", "货", "now!"]
    assert decision.spans("") == []


def test_out_of_scope_is_explained_by_what_made_it_so(domain, settings, store, router):
    told = explain(domain, settings, store, log(store, router, "Who won the chess world championship?", state="refused"))
    assert told["intent"] is None and told["decision"]["for"] == "oos"
    assert told["decision"]["probability"] == pytest.approx(told["oos"], abs=1e-3)


def test_the_nearest_rows_name_their_place_and_a_same_text_lies_at_zero(domain, settings, store, router):
    near = explain(domain, settings, store, log(store, router, "Can I send a jacket back?"))["nearest"]
    assert len(near) == 5 and [each["distance"] for each in near] == sorted(each["distance"] for each in near)
    assert (near[0]["intent"], near[0]["from"]) == ("return_policy", "intents.jsonl:7")
    assert near[0]["distance"] == pytest.approx(0, abs=1e-4)
    lines = (domain.folder / "intents.jsonl").read_text(encoding="utf-8").splitlines()
    for each in near:
        file, _, line = each["from"].partition(":")
        assert each["text"] in (domain.folder / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    first, second = (router.encoder.embed([json.loads(lines[6])["text"], near[1]["text"]]))
    assert 1 - np.dot(first, second) == pytest.approx(near[1]["distance"], abs=1e-3)


def test_rows_that_people_taught_this_bundle_are_among_them_with_turn_and_author(domain, settings, store, router, tmp_path):
    taught = log(store, router, "Could I hand the red coat back?", id="t0")
    other = log(store, router, "Could I hand the blue coat back?", id="t9")
    tell(store, taught, "intent", "order_status", "ann")
    tell(store, other, "intent", "return_policy", "bob")  # after the bundle was made
    row = next(each for each in harvest(store, domain)[0] if each.turn == taught)
    decide(store, domain, row, "relabel", "cy", intent="return_policy")
    shutil.copytree(STARTER / "router", tmp_path / "next" / "router")
    (tmp_path / "next" / "router" / "note").write_text("another router", encoding="utf-8")
    lineage.write(tmp_path / "next", [replace(row, intent="return_policy"), replace(row, question="Gone?", turn="t-1")])
    made = Registry(domain, settings.home).publish(tmp_path / "next", manifest(settings, parent="template@0001"))
    asked = log(store, router, "Could I hand the red coat back?", id="t2", bundle=made.name)
    told = explain(domain, settings, store, asked)
    assert told["nearest"][0] | {"distance": 0} == {"text": "Could I hand the red coat back?", "intent": "return_policy",
                                                    "distance": 0, "from": "turn t0 by ann"}
    assert not any("t9" in each["from"] for each in told["nearest"])
    assert "1 of the 2 rows that people taught it are not in the store any more." in told["notes"]
    assert told["bundle"]["parent"] == "template@0001"
    by_starter = explain(domain, settings, store, taught)
    assert not any("turn" in each["from"] for each in by_starter["nearest"])


def test_a_follow_up_is_weighed_with_the_question_that_it_was_routed_with(domain, settings, store, router):
    log(store, router, RETURNS)
    log(store, router, "broken", id="t2", state="error")
    text = "and for shoes?"
    told = explain(domain, settings, store, log(store, router, text, f"{RETURNS} {text}", id="t3"))
    assert told["decision"]["text"] == f"{RETURNS} {text}" and "together with the question before" in told["notes"][0]
    alone = explain(domain, settings, store, log(store, router, text, id="t4"))
    assert alone["decision"]["text"] == text and not any("together" in note for note in alone["notes"])


def test_an_article_or_the_conversation_that_had_the_last_word_is_named(domain, settings, store, router):
    own = router.route(["hm and where"])[0]
    over = Route("borrowing", 1.0, (("borrowing", 1.0), *own.ranking), own.oos)
    told = explain(domain, settings, store, log(store, router, "hm and where", route=over, intent="borrowing"))
    assert any("An article that is known to answer this question decided for borrowing" in note for note in told["notes"])
    stayed = explain(domain, settings, store, log(store, router, RETURNS, id="t2", intent="borrowing"))
    assert any("The conversation stayed with borrowing" in note for note in stayed["notes"])


def test_passages_tool_flags_signs_and_feedback_are_told_and_marks_stay_marks(domain, settings, store, router):
    passage = domain.passages[0]
    turn = log(store, router, "My number is [PHONE_1], where is my parcel?", passages=(passage, replace(passage, id="gone#1")),
               tool="tools.orders:order_status", tool_arguments={"order": "LK-1"}, tool_result="It is on its way.",
               flags=("unsupported_number",))
    tell(store, turn, "comment", "Call [PHONE_1]", "ann")
    with store.writing() as at:
        at.execute(signals.insert().values(turn=turn, name="disputed", detail="that is wrong", created="c"))
        at.execute(handoffs.insert().values(turn=turn, session="s1", domain="template", reason="r", status="waiting",
                                            created="c", conversation=[]))
    told = explain(domain, settings, store, turn)
    assert (told["passages"][0]["heading"], told["passages"][0]["source"]) == (passage.heading, passage.source)
    assert told["passages"][1] == {"id": "gone#1"}
    assert told["tool"] == {"name": "tools.orders:order_status", "arguments": {"order": "LK-1"}, "result": "It is on its way."}
    assert "no passage holds" in told["flags"][0]["words"] and told["handoff"] == {"reason": "r", "status": "waiting"}
    assert told["signals"] == [{"name": "disputed", "detail": "that is wrong"}] and told["feedback"][0]["author"] == "ann"
    said = "\n".join(words(told))
    assert "[PHONE_1]" in said and "tools.orders:order_status(order=LK-1) -> It is on its way." in said
    assert "disputed that is wrong" in said and "gone#1, which the domain no longer has" in said
    assert json.loads(json.dumps(told)) == told


def test_a_red_flag_names_the_words_that_raised_it_and_asks_no_model(domain, settings, store, router):
    (domain.folder / "redflags.toml").write_text(
        "[[flag]]\nname = \"fire\"\nmessage = \"Leave.\"\nany = ['(house|library) is on fire']\n", encoding="utf-8")
    turn = log(store, router, "The library is on fire!", route=None, intent=None, flags=("red_flag:fire",), state="escalated")
    told = explain(domain, settings, store, turn)
    assert told["flags"] == [{"flag": "red_flag:fire", "words": "raised by “library is on fire”, before any model"}]
    assert (told["decision"], told["words"], told["nearest"]) == (None, [], []) and "No model was asked" in told["notes"][0]
    (domain.folder / "redflags.toml").unlink()
    assert "no longer has" in explain(domain, settings, store, turn)["flags"][0]["words"]


def test_the_bundle_is_told_with_its_report(domain, settings, store, router, tmp_path):
    shutil.copytree(STARTER / "router", tmp_path / "next" / "router")
    report = {"verdict": {"decision": "promote", "why": "Router better.", "findings": []},
              "figures": [{"part": "router", "n": 40, "champion": 0.8, "challenger": 0.9, "delta": 0.1}]}
    (tmp_path / "next" / "report.json").write_text(json.dumps(report), encoding="utf-8")
    made = Registry(domain, settings.home).publish(tmp_path / "next", manifest(settings, parent="template@0001"))
    told = explain(domain, settings, store, log(store, router, RETURNS, bundle=made.name))
    assert told["bundle"]["verdict"] == {"decision": "promote", "why": "Router better."}
    assert told["bundle"]["figures"] == [{"part": "router", "n": 40, "champion": 0.8, "challenger": 0.9}]
    said = "\n".join(words(told))
    assert "after template@0001" in said and "promote: Router better." in said and "0.800 before, 0.900 after, 40 rows" in said


def test_without_its_bundle_a_turn_is_still_explained_and_a_line_says_so(domain, settings, store, router):
    told = explain(domain, settings, store, log(store, router, RETURNS, bundle="template@0007", passages=domain.passages[:1]))
    assert told["bundle"] == {"bundle": "template@0007"} and told["ranking"] and told["passages"][0]["title"]
    assert "not there any more" in told["notes"][0] and "template@0001" in told["notes"][0]
    assert any(line.startswith("note") for line in words(told))


def test_a_bundle_of_another_encoder_and_rows_that_changed_are_said(domain, settings, store, router, tmp_path):
    shutil.copytree(STARTER / "router", tmp_path / "next" / "router")
    made = Registry(domain, settings.home).publish(tmp_path / "next", manifest(settings, encoder="another"))
    told = explain(domain, settings, store, log(store, router, RETURNS, bundle=made.name))
    assert "made on another encoder" in told["notes"][0] and told["words"] == []
    with (domain.folder / "intents.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"text": "May I borrow a map?", "intent": "borrowing"}\n')
    told = explain(Domain.load(domain.folder), settings, store, log(store, router, "May I borrow a map?", id="t2"))
    assert "have changed since" in told["notes"][-1] and told["nearest"][0]["from"] == "intents.jsonl:9"


def test_an_unknown_turn_another_domains_turn_and_an_empty_store_are_refused(domain, settings, store, router):
    with pytest.raises(DataError, match="no turn 'nothing'"):
        explain(domain, settings, store, "nothing")
    with pytest.raises(DataError, match="Nobody has asked template anything yet"):
        last(domain, store)
    log(store, router, RETURNS)
    assert last(domain, store) == "t1"
    with pytest.raises(DataError, match="belongs to the domain 'template'"):
        explain(Domain.load("finance"), settings, store, "t1")


# ---- the commands

@pytest.fixture
def at_home(domain: Domain, settings: Settings, router: Router) -> Iterator[Store]:
    """The store of the home with one turn of Ann's."""
    store = Store(settings.database_url)
    store.open()
    store.session("s1", "template", "ann")
    log(store, router, RETURNS)
    yield store
    store.close()


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.output


def test_why_tells_the_last_turn_and_lineage_the_champion(domain, at_home):
    assert json.loads(run("why", str(domain.folder), "last", "--json"))["turn"] == "t1"
    assert "return_policy" in run("why", str(domain.folder), "t1")
    assert json.loads(run("lineage", str(domain.folder), "--json"))["bundle"] == "template@0001"
    assert "nothing from people" in run("lineage", str(domain.folder), "1")


def test_forget_asks_for_a_yes_shows_what_would_go_and_deletes(domain, at_home):
    folder = ("--domain", str(domain.folder))
    assert "--yes" in run("forget", "ann", *folder, code=2) and at_home.turn("t1")
    told = json.loads(run("forget", "ann", *folder, "--dry-run", "--json"))
    assert (told["deleted"]["turns"], told["dry_run"]) == (1, True) and at_home.turn("t1")
    assert run("forget", "ann", *folder, "--yes").startswith("Deleted: 1 turns, 1 sessions.")
    assert at_home.turn("t1") is None
