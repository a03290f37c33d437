"""Feedback in every form: from Python, from line chat and from the command line, checked and without private values."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from articles import Articles
from typer.testing import CliRunner

from agent import Agent, ScriptedGenerator, teaching
from agent.domain import Domain
from agent.errors import DataError, EngineError
from agent.registry import Bundle
from agent.schema import signals
from agent.serving import Serving
from agent.settings import Settings
from agent.store import Store
from agent.surfaces import feedback as commands
from agent.surfaces.chat import HELP, TEACH, Chat
from agent.types import Route

DOMAIN = Domain.load("customer_service")


class Routes:
    """A router that is sure of one intent after another; the last one again and again."""

    def __init__(self, *intents: str) -> None:
        self.intents = list(intents)

    def route(self, texts: list[str]) -> list[Route]:
        intent = self.intents.pop(0) if len(self.intents) > 1 else self.intents[0]
        return [Route(intent, 0.95, ((intent, 0.95),), 0.05)]


@pytest.fixture
def make(home, tmp_path):
    """(intents of the messages, answers) -> an agent of customer service that needs no models."""
    agents = []

    def build(intents, *answers) -> Agent:
        store = Store(f"sqlite:///{home}/retune.db")
        store.open()
        serving = Serving(Bundle(DOMAIN.name, 1, tmp_path, {"files": {}}), Routes(*intents),
                          ScriptedGenerator(*answers or ["Items can be returned."]), Articles(DOMAIN.passages[:1]))
        agents.append(Agent(DOMAIN, Settings.load(home=home), serving, store, None, {}, lambda: datetime.now(UTC), {},
                            tmp_path / "tools"))
        return agents[-1]

    yield build
    for agent in agents:
        agent.close()


def given(agent: Agent, turn_id: str) -> list[tuple]:
    return [(row["author"], row["kind"], row["value"]) for row in agent.store.feedback_of(turn_id)]


# Python


@pytest.mark.parametrize("first, then", [("up", "correction"), ("correction", "up")])
def test_the_same_person_calls_an_answer_good_or_knows_a_better_one_whichever_was_said_last(make, first, then):
    agent = make(["return_policy"])
    id = agent.ask_sync("can I send it back?", "s").turn.id
    values = {"up": None, "correction": "Within 30 days."}
    agent.feedback(id, first, "ann", values[first])
    agent.feedback(id, "correction", "ben", "Call us.")
    agent.feedback(id, then, "ann", values[then])
    assert sorted(given(agent, id)) == [("ann", then, values[then]), ("ben", "correction", "Call us.")]
    agent.feedback(id, "down", "ben")
    assert {kind for author, kind, _ in given(agent, id) if author == "ben"} == {"correction", "down"}


def test_every_kind_is_kept_and_the_opposite_taken_back(make):
    agent = make(["talk_to_person"])
    id = agent.ask_sync("a person please", "s").turn.id
    for kind, value in [("up", None), ("down", None), ("correction", "Call us."), ("intent", "return_policy"),
                        ("comment", "slow"), ("none_of_these", None), ("reply", "I am here now.")]:
        agent.feedback(id, kind, "ann", value)
    assert sorted(given(agent, id)) == [("ann", "comment", "slow"), ("ann", "correction", "Call us."), ("ann", "down", None),
                                        ("ann", "none_of_these", None), ("ann", "reply", "I am here now.")]
    assert agent.store.handoffs() == [] and len(agent.store.handoffs("answered")) == 1


@pytest.mark.parametrize("arguments, said", [
    (("up", "ann", "well done"), "takes no text"), (("correction", "ann"), "needs its text"),
    (("like", "ann"), "use one of up"), (("intent", "ann", "retrun_policy"), "the domain knows .*return_policy"),
    (("reply", "ann", "Hello"), "not handed off")])
def test_feedback_that_cannot_be_is_a_sentence_and_writes_nothing(make, arguments, said):
    agent = make(["return_policy"])
    id = agent.ask_sync("can I send it back?", "s").turn.id
    with pytest.raises(DataError, match=said):
        agent.feedback(id, *arguments)
    assert given(agent, id) == []


def test_a_turn_that_is_unknown_or_another_domains_is_refused(make):
    agent = make(["return_policy"])
    with pytest.raises(DataError, match="no turn 'gone'"):
        agent.feedback("gone", "up", "ann")
    id = agent.ask_sync("can I send it back?", "s").turn.id
    with pytest.raises(DataError, match="belongs to the domain 'customer_service', not to 'medical'"):
        teaching.teach(agent.store, id, "up", "ann", domain="medical")
    assert given(agent, id) == []


def test_private_values_are_kept_under_the_marks_of_their_session(make, home):
    agent = make(["return_policy"])
    id = agent.ask_sync("I am at anna.kovacs@example.org, can I send it back?", "s").turn.id
    agent.feedback(id, "correction", "ann", "Write to anna.kovacs@example.org or ben.lee@example.org.")
    assert given(agent, id) == [("ann", "correction", "Write to [EMAIL_1] or [EMAIL_2].")]
    agent.close()
    held = b"".join(file.read_bytes() for file in home.rglob("*") if file.is_file())
    assert b"[EMAIL_2]" in held and b"kovacs" not in held and b"ben.lee" not in held


def test_a_mark_of_the_logged_turn_is_given_to_no_other_value_by_a_process_that_did_not_hold_the_talk(make):
    agent = make(["return_policy"])
    id = agent.ask_sync("I am at anna.kovacs@example.org, can I send it back?", "s").turn.id
    agent.redactors.clear()
    agent.feedback(id, "correction", "ann", "Write to ben.lee@example.org.")
    assert given(agent, id) == [("ann", "correction", "Write to [EMAIL_2].")]


def test_the_author_of_a_session_is_who_wrote_first(make):
    agent = make(["return_policy"])
    agent.ask_sync("can I send it back?", "s", "ann")
    agent.ask_sync("and shoes?", "s", "ben")
    agent.ask_sync("can I send it back?", "s2")
    assert {row["id"]: row["author"] for row in agent.store.sessions()} == {"s": "ann", "s2": ""}


def test_what_was_said_is_taken_back_in_its_own_domain_alone(make):
    agent = make(["return_policy"])
    id = agent.ask_sync("can I send it back?", "s").turn.id
    agent.feedback(id, "up", "ann")
    assert not agent.unteach(id, "up", "ben") and agent.unteach(id, "up", "ann") and not agent.unteach(id, "up", "ann")
    assert given(agent, id) == []
    with pytest.raises(DataError, match="no turn 'gone'"):
        agent.unteach("gone", "up", "ann")
    with pytest.raises(DataError, match="no feedback 'like'"):
        agent.unteach(id, "like", "ann")
    agent.store.log(replace(agent.ask_sync("and shoes?", "s").turn, id="m", session="m", domain="medical"), {})
    for refused in (lambda: agent.unteach("m", "up", "ann"), lambda: agent.hand_off("m", "ann")):
        with pytest.raises(DataError, match="belongs to the domain 'medical'"):
            refused()


def test_a_handoff_that_a_person_wishes_waits_on_the_same_desk_without_private_values(make, home):
    agent = make(["talk_to_person", "return_policy"])
    own = agent.ask_sync("a person please", "s1").turn.id
    id = agent.ask_sync("I am at anna.kovacs@example.org, can I send it back?", "s").turn.id
    agent.hand_off(id, "ann", "call ben.lee@example.org, not anna.kovacs@example.org")
    assert [(row["turn"], row["author"], row["reason"]) for row in agent.store.handoffs()] == [
        (own, "", "talk_to_person"), (id, "ann", "call [EMAIL_2], not [EMAIL_1]")]
    assert agent.unteach(id, "handoff", "ann") and len(agent.store.handoffs()) == 1
    agent.hand_off(id, "ann")
    agent.feedback(id, "reply", "cy", "Yes, within 30 days.")
    assert [row["reason"] for row in agent.store.handoffs("answered")] == ["asked for by a person"]
    assert agent.unteach(id, "reply", "cy") and agent.store.handoffs()[1]["turn"] == id
    agent.close()
    assert not any(b"ben.lee" in file.read_bytes() for file in home.rglob("*") if file.is_file())


# Weak signals


def weak(agent: Agent) -> list[tuple]:
    with agent.store.reading() as at:
        return [(row.turn, row.name) for row in at.execute(signals.select().order_by(signals.c.created))]


def test_weak_signs_are_kept_beside_the_turn_and_are_no_feedback(make):
    agent = make(["return_policy", "return_policy", "return_policy", "talk_to_person"])
    said = ["How many days do I have to return an item?", "how many days until an item must return", "no, that is wrong",
            "let me talk to a person"]
    ids = [agent.ask_sync(text, "s").turn.id for text in said]
    assert weak(agent) == [(ids[0], "reask"), (ids[1], "disputed"), (ids[2], "handoff_after_answer")]
    assert all(given(agent, id) == [] for id in ids)


def test_an_answer_to_the_agents_question_is_no_weak_sign(make):
    agent = make(["cancel_order", "cancel_order"])
    assert agent.ask_sync("please cancel my order", "s").turn.state == "asking"
    agent.ask_sync("no, that is wrong, please cancel my order", "s")
    assert weak(agent) == []


def test_a_denial_is_kept_though_the_engine_failed_on_it(make):
    agent = make(["return_policy"], "Items can be returned.", EngineError("gone"))
    first = agent.ask_sync("How many days do I have to return an item?", "s").turn.id
    with pytest.raises(EngineError):
        agent.ask_sync("no, that is wrong", "s")
    assert weak(agent) == [(first, "disputed")]


# Line chat


def talk(agent: Agent, *lines: str) -> tuple[Chat, list[str]]:
    """A chat in which the lines were said, and what each of them was answered."""
    shown, answers = [], []
    chat = Chat(lambda name: agent, [agent.domain.name], "ann", shown.append)

    async def say() -> None:
        for line in lines:
            await chat.answer(line)
            answers.append("".join(shown).strip())
            shown.clear()

    asyncio.run(say())
    return chat, answers


def test_every_command_that_teaches_is_in_the_help():
    assert all(f"{command} " in HELP for command in TEACH)
    assert {kind for kind, _ in TEACH.values()} == set(teaching.KINDS)


def test_the_chat_teaches_in_every_form(make):
    agent = make(["return_policy"])
    chat, said = talk(agent, "can I send it back?", "/up", "/down", "/correct Within 30 days.", "/intent return_policy",
                      "/comment too long", "/none")
    assert all(answer.startswith("Noted") for answer in said[1:])
    assert sorted(given(agent, chat.last.turn.id)) == [("ann", "comment", "too long"), ("ann", "correction", "Within 30 days."),
                                                       ("ann", "down", None), ("ann", "none_of_these", None)]
    assert agent.store.sessions()[0]["author"] == "ann"


def test_intent_without_a_name_lists_what_there_is_and_a_wrong_name_too(make):
    agent = make(["return_policy"])
    _, said = talk(agent, "/intent", "can I send it back?", "/intent", "/intent nonsense")
    assert said[0] == said[2] and len(said[0].split("\n")) == len(DOMAIN.intents)
    assert "return_policy" in said[0] and "There is no intent 'nonsense'" in said[3] and "return_policy" in said[3]


def test_a_reply_answers_the_last_handoff_whatever_was_said_since(make):
    agent = make(["talk_to_person", "return_policy"])
    _, said = talk(agent, "a person please", "can I send it back?", "/reply I am Ann, how can I help?")
    assert said[2].startswith("Noted") and agent.store.handoffs() == []
    (answered,) = agent.store.handoffs("answered")
    assert [kind for _, kind, _ in given(agent, answered["turn"])] == ["reply"]


def test_what_cannot_be_taught_is_a_sentence(make):
    agent = make(["return_policy"])
    _, said = talk(agent, "/up", "/reply hello", "can I send it back?", "/correct", "/comment", "/reply", "/up it was good")
    assert "ask something first" in said[0] and "handed off" in said[1]
    assert said[3].startswith("Write the better") and said[4].startswith("Write your comment") and "handed off" in said[5]
    assert "takes no text" in said[6]


def test_after_a_failed_turn_nothing_is_taught_about_the_one_before(make):
    agent = make(["return_policy"], "Items can be returned.", EngineError("gone"))
    _, said = talk(agent, "can I send it back?", "and when?", "/down")
    assert "gone" in said[1] and "ask something first" in said[2]
    with agent.store.reading() as at:
        assert at.exec_driver_sql("SELECT count(*) FROM feedback").scalar() == 0


# The command line


def run(*arguments: str):
    return CliRunner().invoke(commands.app, [*arguments])


def test_a_turn_is_taught_from_the_command_line(make):
    agent = make(["return_policy"])
    id = agent.ask_sync("can I send it back?", "s").turn.id
    assert run("add", id, "down", "--author", "ann").exit_code == 0
    told = run("add", id, "correction", "Write to ben.lee@example.org.", "--author", "ann", "--json")
    assert [row["value"] for row in json.loads(told.stdout)] == [None, "Write to [EMAIL_1]."]
    wrong = run("add", id, "intent", "nonsense", "--author", "ann")
    assert isinstance(wrong.exception, DataError) and "return_policy" in str(wrong.exception)
    assert isinstance(run("add", "gone", "up").exception, DataError)
    assert run("add", id).exit_code == 2
    listed = json.loads(run("list", "customer_service", "--json").stdout)
    assert [(row["turn"], row["kind"], row["question"]) for row in listed] == [
        (id, "down", "can I send it back?"), (id, "correction", "can I send it back?")]
    assert "correction Write to [EMAIL_1]." in run("list", "customer_service").stdout


def test_a_file_of_feedback_comes_in_by_the_command_line_or_is_refused_with_exit_1(make, tmp_path):
    agent = make(["return_policy"])
    id = agent.ask_sync("can I send it back?", "s").turn.id
    file = tmp_path / "said.jsonl"
    file.write_text(json.dumps({"turn": id, "kind": "up", "author": "ann"}) + "\nnonsense\n", encoding="utf-8")
    refused = run("import", "customer_service", str(file), "--json")
    assert refused.exit_code == 1 and "line 2: It is not valid JSON" in refused.stderr
    report = json.loads(refused.stdout)
    assert report["refused"] and report["good"] == 1 and report["bad"][0]["line"] == 2 and given(agent, id) == []
    assert f"{file} --good" in run("import", "customer_service", str(file)).stderr
    assert run("import", "customer_service", report["kept_aside"]).stdout == "1 written, 0 unchanged, 0 older.\n"
    assert run("import", "customer_service", str(file), "--good").stdout == "0 written, 1 unchanged, 0 older.\n"
    assert run("export", "customer_service", str(tmp_path / "out.parquet")).stdout.startswith("1 rows are in ")
