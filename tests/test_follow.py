"""A running agent goes over to what is promoted, without a pause, and stays on what it has when the new one cannot serve."""

import asyncio
import gc
import json
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from articles import Articles

from agent import paths
from agent.agent import Agent
from agent.bundle import MANIFEST
from agent.domain import Domain, find
from agent.errors import Rejected, TooSlow, Unreachable
from agent.follow import Follower, memory_for
from agent.generators.scripted import ScriptedGenerator
from agent.registry import Registry
from agent.serving import Bases, Serving, Trial
from agent.settings import Settings
from agent.types import Done, Route

ROOT = Path(__file__).parent.parent
ASKED = "Which payment methods do you take?"


class Told:
    """Servings of fake parts, and which versions were loaded; the bundles and their files are real."""

    def __init__(self, registry: Registry) -> None:
        self.registry, self.loads = registry, []

    def __call__(self, version: str) -> Serving:
        self.loads.append(version)
        bundle = self.registry.get(version)
        bundle.verify()
        return Serving(bundle, Routes(bundle.version), ScriptedGenerator(bundle.name), Articles(()))


class Routes:
    """As sure of thanks as the bundle has thousandths above 0.9."""

    def __init__(self, version: int) -> None:
        self.version = version

    def route(self, texts: list[str]) -> list[Route]:
        sure = 0.9 + self.version / 1000
        return [Route("thanks", sure, (("thanks", sure),), 0.0) for _ in texts]


@pytest.fixture
def registry(home: Path, tmp_path: Path) -> Registry:
    """Three versions after the starter of customer service."""
    made = Registry(Domain.load("customer_service"), home)
    starter = made.get().manifest
    for number in (2, 3, 4):
        built = tmp_path / f"built{number}"
        (built / "router").mkdir(parents=True)
        (built / "router" / "head.safetensors").write_text(str(number), encoding="utf-8")
        made.publish(built, {name: starter[name] for name in ("encoder", "generator", "prompt")})
    return made


@pytest.fixture
def agent(registry: Registry, home: Path) -> Iterator[Agent]:
    """An agent on version 1 whose follower looks when it is told to."""
    from datetime import UTC, datetime

    from agent.store import Store

    store = Store(f"sqlite:///{home}/retune.db")
    store.open()
    load = Told(registry)
    made = Agent(registry.domain, Settings.load(home=home), load("1"), store, None, {}, lambda: datetime.now(UTC), {},
                 home / "tools")
    made.follower = Follower(made, load)
    made.follower.look()
    load.loads.clear()
    yield made
    made.close()


def answering(agent: Agent, session: str = "s") -> str:
    return agent.serving_for(session).bundle.name


# ---- the champion

def test_a_promotion_and_a_rollback_are_followed_and_told(agent: Agent, registry: Registry) -> None:
    registry.promote(2, 1, "better", "anna")
    agent.follower.look()
    assert answering(agent) == "customer_service@0002" and agent.serving.fingerprint() == registry.get().hash
    registry.rollback("worse", "anna")
    agent.follower.look()
    assert answering(agent) == "customer_service@0001"
    assert list(agent.notices) == ["customer_service@0002 answers now, after customer_service@0001.",
                                   "customer_service@0001 answers now, after customer_service@0002."]


def test_a_look_without_a_change_loads_nothing(agent: Agent, registry: Registry) -> None:
    registry.promote(2, 1, "better", "anna")
    for _ in range(3):
        agent.follower.look()
    assert agent.follower.load.loads == ["2"]


def damage(registry: Registry, number: str) -> Path:
    file = registry.get(number).path / "router" / "head.safetensors"
    file.write_text("damaged", encoding="utf-8")
    return file


def test_a_bundle_that_is_damaged_is_not_served_and_that_is_said_once(agent: Agent, registry: Registry) -> None:
    registry.promote(2, 1, "better", "anna")
    file = damage(registry, "2")
    for _ in range(3):
        agent.follower.look()
    assert answering(agent) == "customer_service@0001" and agent.follower.load.loads == ["2"]
    assert len(agent.notices) == 1 and str(file) in agent.notices[0]
    assert agent.notices[0].endswith("customer_service@0001 goes on answering.")
    file.write_text("2", encoding="utf-8")
    registry.set_challenger(3, "next", "anna")  # the aliases change: it is tried again
    agent.follower.look()
    assert answering(agent) == "customer_service@0002"


def test_where_servers_were_away_it_is_tried_again_and_said_once(agent: Agent, registry: Registry,
                                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle that is refused is not: it would be refused again."""
    monkeypatch.setattr("agent.follow.AGAIN_S", 0.0)
    real, away = agent.follower.load, [Unreachable("No server answers."), TooSlow("Not in time."), Unreachable("No server answers.")]

    def load(version: str) -> Serving:
        if away:
            raise away.pop()
        return real(version)

    agent.follower.load = load
    registry.promote(2, 1, "better", "anna")
    for _ in range(3):
        agent.follower.look()
    assert answering(agent) == "customer_service@0001" and [("No server" in said) for said in agent.notices] == [True, False, True]
    agent.follower.look()
    assert answering(agent) == "customer_service@0002"
    away.append(Rejected("Another base."))
    registry.promote(3, 2, "better", "anna")
    for _ in range(3):
        agent.follower.look()
    assert answering(agent) == "customer_service@0002" and not away


def test_a_bundle_that_changes_while_it_is_loaded_is_not_served(agent: Agent, registry: Registry) -> None:
    real = agent.follower.load

    def late(version: str) -> Serving:
        loaded = real(version)
        damage(registry, version)
        return loaded

    agent.follower.load = late
    registry.promote(2, 1, "better", "anna")
    agent.follower.look()
    assert answering(agent) == "customer_service@0001" and "was changed while it was loaded" in agent.notices[0]


def test_damaged_aliases_leave_the_agent_as_it_is(agent: Agent, registry: Registry) -> None:
    registry.promote(2, 1, "better", "anna")
    agent.follower.look()
    registry.alias_file.write_text("{", encoding="utf-8")
    agent.follower.look()
    assert answering(agent) == "customer_service@0002" and "aliases.json is damaged" in agent.notices[-1]


def test_a_running_turn_keeps_its_serving_and_the_memory_is_free_after_the_last(agent: Agent, registry: Registry) -> None:
    agent.follower.room = lambda: False  # else the champion before is kept for a rollback

    async def turn() -> tuple[str, weakref.ref[Serving]]:
        stream = agent.stream(ASKED, "s")
        first = await anext(stream)
        old = weakref.ref(agent.serving)
        registry.promote(2, 1, "better", "anna")
        agent.follower.look()
        assert answering(agent) == "customer_service@0002"
        assert old().turns.count == 1 and list(agent.follower.replaced) == [old()]
        async for event in stream:
            first = event
        assert isinstance(first, Done)
        return first.turn.bundle, old

    bundle, old = asyncio.run(turn())
    gc.collect()
    assert bundle == "customer_service@0001" and old() is None and not agent.follower.replaced


def test_a_turn_that_is_given_up_is_not_in_flight_any_more(agent: Agent) -> None:
    async def leave() -> int:
        stream = agent.stream(ASKED, "s")
        await anext(stream)
        assert agent.serving.turns.count == 1
        await stream.aclose()
        return agent.serving.turns.count

    assert asyncio.run(leave()) == 0


def test_no_turn_fails_and_none_is_mixed_while_the_champion_changes(agent: Agent, registry: Registry) -> None:
    over = threading.Event()

    def swap() -> None:
        for number in (2, 3, 2, 4, 3):
            registry.promote(number, registry.aliases()["champion"], "to and fro", "anna")
            agent.follower.look()
        over.set()

    done = []
    thread = threading.Thread(target=swap)
    thread.start()
    while not over.is_set() or not done:
        done.append(agent.ask_sync(ASKED).turn)
    thread.join()
    assert agent.ask_sync(ASKED).turn.bundle == "customer_service@0003"
    assert all(turn.bundle.endswith(f"{round((turn.route.confidence - 0.9) * 1000):04}") for turn in done)


def test_the_champion_before_is_kept_for_a_rollback_until_it_cannot_come_back(agent: Agent, registry: Registry) -> None:
    old = agent.serving
    registry.promote(2, 1, "better", "anna")
    agent.follower.look()
    assert agent.follower.kept is old
    registry.rollback("thumbs fell", "anna")
    agent.follower.look()
    assert agent.serving is old and agent.follower.load.loads == ["2"], "nothing was loaded to go back"
    assert agent.follower.kept is None
    registry.promote(2, 1, "after all", "anna")
    agent.follower.look()
    registry.promote(3, 2, "better still", "anna")
    agent.follower.look()
    assert agent.follower.kept.bundle.version == 2


# ---- the challenger

def test_a_challenger_is_loaded_ahead_and_not_again_when_promoted(agent: Agent, registry: Registry) -> None:
    registry.set_challenger(2, "just trained", "anna")
    agent.follower.look()
    ahead = agent.follower.ahead
    assert answering(agent) == "customer_service@0001" and ahead.bundle.version == 2
    registry.promote(2, 1, "better", "anna")
    agent.follower.look()
    assert agent.serving is ahead and agent.follower.load.loads == ["2"] and agent.follower.ahead is None


def test_a_challenger_that_was_loaded_ahead_and_damaged_since_is_not_served(agent: Agent, registry: Registry) -> None:
    registry.set_challenger(2, "just trained", "anna")
    agent.follower.look()
    registry.promote(2, 1, "better", "anna")
    damage(registry, "2")
    agent.follower.look()
    assert answering(agent) == "customer_service@0001" and len(agent.notices) == 1


def test_a_challenger_that_was_refused_leaves_memory(agent: Agent, registry: Registry) -> None:
    registry.set_challenger(2, "just trained", "anna")
    agent.follower.look()
    ahead = weakref.ref(agent.follower.ahead)
    registry.set_challenger(None, "refused", "anna")
    agent.follower.look()
    gc.collect()
    assert ahead() is None and answering(agent) == "customer_service@0001"


def test_without_memory_to_spare_a_challenger_is_loaded_when_it_is_promoted(agent: Agent, registry: Registry) -> None:
    agent.follower.room = lambda: False
    registry.set_challenger(2, "just trained", "anna")
    agent.follower.look()
    assert agent.follower.ahead is None and agent.follower.load.loads == []
    registry.promote(2, 1, "better", "anna")
    agent.follower.look()
    assert answering(agent) == "customer_service@0002"


# ---- the canary

def test_a_canary_gets_its_share_of_the_sessions_and_each_stays_where_it_is(agent: Agent, registry: Registry) -> None:
    registry.set_canary(2, 0.25, "a try", "anna")
    agent.follower.look()
    sessions = [f"session {number}" for number in range(2000)]
    drawn = {session: answering(agent, session) for session in sessions}
    count = Counter(drawn.values())["customer_service@0002"]
    assert 400 < count < 600  # 500 expected; five standard deviations
    assert {session: answering(agent, session) for session in sessions} == drawn
    mine = next(session for session, bundle in drawn.items() if bundle.endswith("2"))
    assert agent.ask_sync(ASKED, mine).turn.bundle == "customer_service@0002"


def test_a_larger_share_keeps_the_sessions_of_the_smaller_one(agent: Agent) -> None:
    sessions = [str(number) for number in range(500)]
    small, large = (Trial(agent.serving, share) for share in (0.1, 0.3))
    assert {each for each in sessions if small.takes(each)} < {each for each in sessions if large.takes(each)}
    assert not any(Trial(agent.serving, 0.0).takes(each) for each in sessions)
    assert all(Trial(agent.serving, 1.0).takes(each) for each in sessions)


def test_a_canary_that_is_promoted_is_not_loaded_again_and_one_that_is_ended_leaves_memory(agent: Agent,
                                                                                          registry: Registry) -> None:
    registry.set_canary(2, 0.5, "a try", "anna")
    agent.follower.look()
    trial = agent.trial.serving
    registry.promote(2, 1, "good", "anna")
    agent.follower.look()
    assert agent.serving is trial and agent.trial is None and agent.follower.load.loads == ["2"]
    registry.set_canary(3, 0.5, "a try", "anna")
    agent.follower.look()
    gone = weakref.ref(agent.trial.serving)
    registry.set_canary(None, 0, "bad", "anna")
    agent.follower.look()
    gc.collect()
    assert agent.trial is None and gone() is None


def test_a_canary_that_cannot_be_loaded_ends_the_one_before_and_the_champion_answers_all(agent: Agent,
                                                                                        registry: Registry) -> None:
    registry.set_canary(2, 1.0, "a try", "anna")
    agent.follower.look()
    assert answering(agent) == "customer_service@0002"
    registry.set_canary(3, 1.0, "another", "anna")
    damage(registry, "3")
    agent.follower.look()
    assert answering(agent) == "customer_service@0001" and "the canary of customer_service cannot be served" in agent.notices[0]


def test_a_shadow_answers_nobody_and_what_it_thinks_is_written_down(agent: Agent, registry: Registry, home: Path) -> None:
    registry.set_canary(2, 1.0, "a look", "anna", shadow=True)
    agent.follower.look()
    done = agent.ask_sync(ASKED, "s")
    assert done.turn.bundle == "customer_service@0001"
    agent.close()
    rows = [json.loads(line) for line in paths.shadow(home, "customer_service").read_text(encoding="utf-8").splitlines()]
    assert rows == [{"turn": done.turn.id, "bundle": "customer_service@0002", "intent": "thanks", "confidence": 0.902,
                     "agreed": True}]


# ---- real models, another process

@pytest.fixture
def shop(settings: Settings, tmp_path: Path) -> tuple[Registry, Settings]:
    """Customer service with few known questions, and its starter once more as version 2: another threshold, nothing else."""
    folder = tmp_path / "few"
    shutil.copytree(find("customer_service"), folder)
    (folder / "questions.jsonl").unlink()  # thousands, each of which would be embedded
    lines = (folder / "dialogues.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "dialogues.jsonl").write_text("".join(lines[:20]), encoding="utf-8")
    registry = Registry(Domain.load(folder), settings.home)
    starter = registry.get()
    shutil.copytree(starter.path, tmp_path / "built")
    (tmp_path / "built" / MANIFEST).unlink()
    file = tmp_path / "built" / "router" / "router.json"
    table = json.loads(file.read_text(encoding="utf-8"))
    file.chmod(0o644)
    file.write_text(json.dumps(table | {"oos_threshold": table["oos_threshold"] - 1e-6}), encoding="utf-8")
    registry.publish(tmp_path / "built", {name: starter.manifest[name] for name in ("encoder", "generator", "prompt")})
    return registry, settings


def wait_for(what: object, seconds: float = 60) -> None:
    """Until `what()`; the limit is there so that a failure ends."""
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.02)
    assert what()  # type: ignore[operator]


def test_a_promotion_by_another_process_reaches_a_running_agent(shop: tuple[Registry, Settings]) -> None:
    registry, settings = shop
    heard: list[str] = []
    agent = Agent.load(registry.domain.folder, generator=ScriptedGenerator("We take cards."), home=settings.home, follow=True,
                       on_notice=heard.append)
    assert agent.ask_sync(ASKED, "s").turn.bundle == "customer_service@0001"
    code = ("import sys; from pathlib import Path; from agent.domain import Domain; from agent.registry import Registry\n"
            "Registry(Domain.load(sys.argv[2]), Path(sys.argv[1])).promote(2, 1, 'better', 'anna')")
    subprocess.run([sys.executable, "-c", code, str(settings.home), str(registry.domain.folder)], cwd=ROOT, check=True)
    wait_for(lambda: agent.serving.bundle.version == 2)
    done = agent.ask_sync(ASKED, "s")
    assert done.turn.bundle == "customer_service@0002" and done.turn.state == "answered"
    assert agent.serving.fingerprint() == registry.get().hash and agent.store.turn(done.turn.id)["bundle"] == done.turn.bundle
    agent.close()
    assert heard == ["customer_service@0002 answers now, after customer_service@0001."]


def test_an_agent_of_a_pinned_version_does_not_follow(shop: tuple[Registry, Settings]) -> None:
    registry, settings = shop
    agent = Agent.load(registry.domain.folder, generator=ScriptedGenerator("x"), home=settings.home, follow=True, version="1")
    assert agent.follower is None
    agent.close()


def test_a_part_that_did_not_change_is_shared_in_memory(shop: tuple[Registry, Settings]) -> None:
    registry, settings = shop
    bases, domain = Bases.ensure(settings), registry.domain
    first = Serving.load(domain, settings, bases, "1")
    second = Serving.load(domain, settings, bases, "2", index=first.index)
    assert second.generator is first.generator and second.index is first.index and second.router is not first.router
    assert memory_for(bases)() in (True, False)
