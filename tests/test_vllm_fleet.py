"""Several servers are one: a session stays where it is, and what is promoted is on all of them that can serve it."""

import asyncio
import gc
import sys
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from articles import Articles
from faults.replica import BASE, StandIn, adapter, probes

from agent.agent import Agent
from agent.domain import Domain
from agent.errors import Rejected, TooSlow, Unreachable
from agent.follow import Follower
from agent.generators.vllm import VllmGenerator
from agent.registry import Registry
from agent.serving import Serving
from agent.settings import Settings
from agent.store import Store
from agent.types import Made, Route
from agent.vllm import fleet as fleets
from agent.vllm.adapters import Adapter
from agent.vllm.fleet import Fleet

OLD, NEW = "finance@0001-aaaaaaaa", "finance@0002-bbbbbbbb"


@pytest.fixture
def servers() -> list[StandIn]:
    """Three that are well."""
    return [StandIn(f"http://10.0.0.{number}:8000") for number in (1, 2, 3)]


@pytest.fixture
def fleet(servers: list[StandIn]) -> Iterator[Fleet]:
    """Looks when it is told to."""
    made = Fleet(lambda: servers, every=3600)
    yield made
    made.close()


def placed(fleet: Fleet, name: str, sessions: int = 300) -> dict[str, str]:
    """Session -> URL."""
    return {f"s{number}": fleet.pick(name, f"s{number}").server.url for number in range(sessions)}


def states(fleet: Fleet) -> list[str]:
    return [row["state"] for row in fleet.table()["servers"]]


# ---- sessions

def test_a_session_stays_on_one_server_and_sessions_spread_over_all(fleet: Fleet, tmp_path: Path) -> None:
    fleet.want(adapter(tmp_path, OLD))
    first = placed(fleet, OLD)
    assert first == placed(fleet, OLD)
    spread = Counter(first.values())
    assert len(spread) == 3 and min(spread.values()) > 60  # of 300


def test_only_the_sessions_of_a_server_that_goes_move_and_they_come_back(fleet: Fleet, servers: list[StandIn],
                                                                         tmp_path: Path) -> None:
    fleet.want(adapter(tmp_path, OLD))
    before = placed(fleet, OLD)
    servers[1].down = True
    fleet.look()
    during = placed(fleet, OLD)
    moved = {session for session in before if before[session] != during[session]}
    assert moved == {session for session, url in before.items() if url == servers[1].url}
    assert len({during[session] for session in moved}) == 2 and states(fleet) == ["up", "down", "up"]
    servers[1].down = False
    fleet.look()
    assert placed(fleet, OLD) == before and states(fleet) == ["up", "up", "up"]


def test_a_server_that_fails_turns_rests_and_its_sessions_go_on_elsewhere(fleet: Fleet, tmp_path: Path) -> None:
    fleet.want(adapter(tmp_path, OLD))
    first = fleet.pick(OLD, "s")
    for _ in range(5):
        first.breaker.failed()
    assert fleet.pick(OLD, "s") is not first and "resting" in states(fleet)
    first.breaker.well()
    assert fleet.pick(OLD, "s") is first


# ---- convergence

def test_a_server_that_was_down_at_a_promotion_has_it_at_the_first_look_after(fleet: Fleet, servers: list[StandIn],
                                                                              tmp_path: Path) -> None:
    fleet.want(adapter(tmp_path, OLD))
    servers[2].down = True
    fleet.want(adapter(tmp_path, NEW))
    assert fleet.table()["adapters"][NEW] == {"on": 2, "of": 3} and fleet.table()["mixed"]
    servers[2].down = False
    fleet.look()
    assert fleet.table()["adapters"] == {OLD: {"on": 3, "of": 3}, NEW: {"on": 3, "of": 3}} and not fleet.table()["mixed"]
    assert servers[2].count("score", NEW) == len(probes(NEW))  # proved there too, not only loaded


def test_with_all_servers_down_an_adapter_that_is_wanted_is_there_when_they_come_back(fleet: Fleet, servers: list[StandIn],
                                                                                      tmp_path: Path) -> None:
    for server in servers:
        server.down = True
    with pytest.raises(Unreachable, match="retune vllm up"):
        fleet.want(adapter(tmp_path, OLD))
    with pytest.raises(Unreachable):
        fleet.pick(OLD, "s")
    for server in servers:
        server.down = False
    fleet.look()
    assert fleet.table()["adapters"][OLD] == {"on": 3, "of": 3}


def test_a_server_that_refuses_an_adapter_is_not_used_for_it_and_goes_on_with_the_others(fleet: Fleet, servers: list[StandIn],
                                                                                         tmp_path: Path) -> None:
    servers[0].refuses.add(NEW)
    fleet.want(adapter(tmp_path, OLD))
    fleet.want(adapter(tmp_path, NEW))
    table = fleet.table()
    assert table["mixed"] and table["adapters"] == {OLD: {"on": 3, "of": 3}, NEW: {"on": 2, "of": 3}}
    assert table["servers"][0]["state"] == "refusing" and "max_lora_rank" in table["servers"][0]["problem"]
    assert servers[0].url not in placed(fleet, NEW).values() and servers[0].url in placed(fleet, OLD).values()
    for _ in range(3):
        fleet.look()
    assert servers[0].count("load", NEW) == 1  # it would say the same
    servers[0].refuses.clear()
    servers[0].restart()  # with other flags
    fleet.look()
    assert fleet.table()["adapters"][NEW] == {"on": 3, "of": 3} and states(fleet) == ["up"] * 3


def test_a_load_that_takes_too_long_costs_no_other_adapter_its_server_and_is_tried_again(fleet: Fleet, servers: list[StandIn],
                                                                                         tmp_path: Path) -> None:
    del servers[1:]
    fleet.want(adapter(tmp_path, OLD))
    servers[0].slow.add(NEW)
    with pytest.raises(TooSlow):
        fleet.want(adapter(tmp_path, NEW))
    assert fleet.pick(OLD, "s").server is servers[0]
    servers[0].slow.clear()
    fleet.look()
    assert fleet.pick(NEW, "s").server is servers[0] and states(fleet) == ["up"]


def test_a_restart_forgets_and_nothing_is_used_before_it_was_loaded_and_proved_again(fleet: Fleet, servers: list[StandIn],
                                                                                     tmp_path: Path) -> None:
    del servers[1:]
    fleet.want(adapter(tmp_path, OLD))
    fleet.want(adapter(tmp_path, NEW))
    servers[0].restart()
    servers[0].plain.add(NEW)  # and this time takes the name without the weights
    fleet.look()
    assert servers[0].count("load", OLD) == 2 and fleet.pick(OLD, "s")
    with pytest.raises(Rejected, match="without the adapter"):
        fleet.pick(NEW, "s")


def test_a_restart_on_another_base_is_refused(fleet: Fleet, servers: list[StandIn], tmp_path: Path) -> None:
    del servers[1:]
    plain = Adapter("", None, None, 0, probes("base"))
    fleet.want(plain)
    servers[0].restart()
    servers[0].base = "qwen"
    servers[0].loaded = {"qwen": {tuple(probe.ids): [value - 5 for value in probe.tuned] for probe in probes("base")}}
    servers[0].down = True
    fleet.look()
    servers[0].down = False
    servers[0].score = lambda model, ids, answer: [-6.0 for _ in answer]
    fleet.look()
    with pytest.raises(Rejected, match="another base model"):
        fleet.pick("", "s")


def test_what_is_dropped_is_unloaded_only_when_nothing_runs_on_it(fleet: Fleet, servers: list[StandIn], tmp_path: Path) -> None:
    fleet.want(adapter(tmp_path, OLD))
    fleet.want(adapter(tmp_path, NEW))
    busy = fleet.pick(OLD, "s")
    with busy.answering(OLD):
        fleet.drop(OLD)
        fleet.look()
        assert [OLD in server.loaded for server in servers] == [server is busy.server for server in servers]
        assert busy.table()["in_flight"] == {OLD: 1}
    fleet.look()
    assert [set(server.loaded) for server in servers] == [{NEW}] * 3 and not fleet.dropped and busy.table()["in_flight"] == {}


def test_what_was_dropped_while_a_server_was_away_is_unloaded_when_it_comes_back(fleet: Fleet, servers: list[StandIn],
                                                                                 tmp_path: Path) -> None:
    fleet.want(adapter(tmp_path, OLD))
    fleet.want(adapter(tmp_path, NEW))
    servers[0].down = True
    fleet.look()
    fleet.drop(OLD)
    fleet.look()
    assert OLD in servers[0].loaded and OLD not in servers[1].loaded
    servers[0].down = False
    fleet.look()
    assert OLD not in servers[0].loaded
    fleet.look()
    assert not fleet.dropped


def test_what_is_dropped_during_a_look_is_unloaded_at_the_next(fleet: Fleet, servers: list[StandIn], tmp_path: Path) -> None:
    fleet.want(adapter(tmp_path, OLD))
    real = servers[2].models

    def drop_then_list() -> list:
        listed = real()
        fleet.drop(OLD) if OLD in fleet.wanted else None
        return listed

    servers[2].models = drop_then_list
    for _ in range(3):
        fleet.look()
    assert [set(server.loaded) for server in servers] == [set()] * 3


def test_what_is_wanted_again_after_it_was_dropped_stays(fleet: Fleet, servers: list[StandIn], tmp_path: Path) -> None:
    fleet.want(adapter(tmp_path, OLD))
    fleet.drop(OLD)
    fleet.want(adapter(tmp_path, OLD))
    fleet.look()
    assert fleet.table()["adapters"][OLD] == {"on": 3, "of": 3} and all(OLD in server.loaded for server in servers)


def test_servers_that_are_added_and_taken_away_are_followed(fleet: Fleet, servers: list[StandIn], tmp_path: Path) -> None:
    fleet.want(adapter(tmp_path, OLD))
    before = placed(fleet, OLD)
    gone, added = servers.pop(0), StandIn("http://10.0.0.4:8000")
    servers.append(added)
    fleet.look()
    after = placed(fleet, OLD)
    assert gone.url not in after.values() and added.url in after.values()
    assert all(after[session] in (url, added.url) for session, url in before.items() if url != gone.url)
    servers.clear()
    fleet.look()
    with pytest.raises(Unreachable, match="No vLLM server is known"):
        fleet.pick(OLD, "s")


def test_a_server_that_is_named_twice_is_one(servers: list[StandIn]) -> None:
    fleet = Fleet(lambda: [servers[0], servers[0]], every=3600)
    fleet.look()
    assert len(fleet.replicas) == 1


# ---- a server that goes bad

def test_a_server_that_went_bad_is_drained_and_comes_back_after_a_restart(fleet: Fleet, servers: list[StandIn],
                                                                          tmp_path: Path) -> None:
    fleet.want(adapter(tmp_path, OLD))
    fleet.want(adapter(tmp_path, NEW))
    servers[1].poisoned = True
    for _ in range(fleets.AGAIN):
        fleet.look()
    table = fleet.table()
    assert table["adapters"] == {OLD: {"on": 2, "of": 3}, NEW: {"on": 2, "of": 3}} and table["mixed"]
    assert table["servers"][1]["state"] == "refusing" and "restart that server" in table["servers"][1]["problem"]
    assert servers[1].url not in placed(fleet, OLD).values()
    servers[1].poisoned = False
    for _ in range(fleets.AGAIN):
        fleet.look()
    assert fleet.table()["adapters"][OLD] == {"on": 2, "of": 3}  # one good answer after many bad ones proves nothing
    servers[1].down = True
    fleet.look()
    servers[1].down = False
    fleet.look()
    assert fleet.table()["adapters"][OLD] == {"on": 2, "of": 3}  # nor does a pause of the network
    servers[1].restart()
    fleet.look()
    assert fleet.table()["adapters"] == {OLD: {"on": 3, "of": 3}, NEW: {"on": 3, "of": 3}} and states(fleet) == ["up"] * 3


def test_one_adapter_that_went_bad_leaves_the_others(fleet: Fleet, servers: list[StandIn], tmp_path: Path) -> None:
    fleet.want(adapter(tmp_path, OLD))
    fleet.want(adapter(tmp_path, NEW))
    servers[0].loaded[NEW] = {tuple(probe.ids): probe.base for probe in probes(NEW)}  # its weights are gone, its name is not
    for _ in range(2 * fleets.AGAIN):
        fleet.look()
    assert fleet.table()["adapters"] == {OLD: {"on": 3, "of": 3}, NEW: {"on": 2, "of": 3}}


def test_a_new_proof_asks_little_of_a_server_that_is_well(fleet: Fleet, servers: list[StandIn], tmp_path: Path) -> None:
    fleet.want(adapter(tmp_path, OLD))
    before = servers[0].count("score", OLD)
    for _ in range(2 * fleets.AGAIN):
        fleet.look()
    assert before == len(probes(OLD)) and servers[0].count("score", OLD) == before + 2
    assert servers[0].count("load", OLD) == 1


def test_an_earlier_proof_holds_for_the_next_process_and_not_for_the_next_life(servers: list[StandIn], tmp_path: Path) -> None:
    wanted = adapter(tmp_path, OLD)
    Fleet(lambda: servers, proofs=tmp_path / "proofs.json", every=3600).want(wanted)
    asked = servers[0].count("score", OLD)
    second = Fleet(lambda: servers, proofs=tmp_path / "proofs.json", every=3600)
    second.want(wanted)
    assert servers[0].count("score", OLD) == asked and second.pick(OLD, "s")
    servers[0].restart()
    servers[0].plain.add(OLD)
    servers[0].load(OLD, str(wanted.folder))  # somebody else did, and nobody proved it
    third = Fleet(lambda: servers, proofs=tmp_path / "proofs.json", every=3600)
    third.want(wanted)
    assert servers[0].count("score", OLD) > asked and third.table()["adapters"][OLD] == {"on": 2, "of": 3}


def test_what_a_poisoned_server_proved_holds_for_nobody(servers: list[StandIn], tmp_path: Path) -> None:
    del servers[1:]
    fleet = Fleet(lambda: servers, proofs=tmp_path / "proofs.json", every=3600)
    fleet.want(adapter(tmp_path, OLD))
    servers[0].poisoned = True
    for _ in range(fleets.AGAIN):
        fleet.look()
    with pytest.raises(Rejected, match="not finite"):
        Fleet(lambda: servers, proofs=tmp_path / "proofs.json", every=3600).want(adapter(tmp_path, OLD))


# ---- threads

def test_the_thread_ends_with_the_fleet(servers: list[StandIn], tmp_path: Path) -> None:
    fleet = Fleet(lambda: servers, every=0.01)
    fleet.want(adapter(tmp_path, OLD))
    thread, gone = fleet._thread, weakref.ref(fleet)
    before = servers[0].count("models")
    wait_for(lambda: servers[0].count("models") > before + 2)  # it looks
    assert thread is not None and thread.is_alive()
    del fleet
    wait_for(lambda: gc.collect() >= 0 and gone() is None)
    thread.join(5)
    assert not thread.is_alive()


def test_a_fleet_that_is_closed_looks_no_more(servers: list[StandIn], tmp_path: Path) -> None:
    fleet = Fleet(lambda: servers, every=0.01)
    fleet.want(adapter(tmp_path, OLD))
    fleet.close()
    fleet._thread.join(5)
    assert not fleet._thread.is_alive()


def test_many_threads_want_look_pick_drop_and_ask_for_the_table_at_once(servers: list[StandIn], tmp_path: Path) -> None:
    fleet = Fleet(lambda: servers, every=0.005)
    wanted = [adapter(tmp_path, f"finance@{number:04}-cccccccc") for number in range(6)]
    kept = adapter(tmp_path, OLD)
    fleet.want(kept)
    end, picked = time.monotonic() + 1.5, Counter()

    def work(number: int) -> None:
        mine = wanted[number]
        while time.monotonic() < end:
            fleet.want(mine)
            with fleet.pick(OLD, f"s{number}").answering(OLD):
                picked[number] += 1
            servers[number % 3].down = not servers[number % 3].down if number < 2 else servers[number % 3].down
            fleet.table()
            fleet.lost(one := fleet.pick(OLD, f"s{number}"), OLD, one.looks)
            fleet.drop(mine.name)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        with ThreadPoolExecutor(6) as pool:
            done = [pool.submit(work, number) for number in range(6)]
            errors = [one.exception(30) for one in done]
    finally:
        sys.setswitchinterval(before)
    unexpected = [error for error in errors if error and not isinstance(error, Unreachable)]
    assert unexpected == [] and min(picked[number] for number in (2, 3, 4, 5)) > 0
    for server in servers:
        server.down = False
    for mine in wanted:  # of a thread that met servers that were all down
        fleet.drop(mine.name)
    wait_for(lambda: [set(server.loaded) for server in servers] == [{OLD}] * 3 and not fleet.table()["mixed"])
    fleet.close()


def wait_for(what: object, seconds: float = 10) -> None:
    """Until `what()`; the limit is there so that a failure ends."""
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.01)
    assert what()  # type: ignore[operator]


# ---- a generator and an agent on top

def said(generator: VllmGenerator, session: str = "s") -> str:
    """A whole answer; a stand-in says its URL and the model."""
    async def whole() -> str:
        return "".join([piece async for piece in generator.stream([{"role": "user", "content": "hi"}], 8, session=session)])

    return asyncio.run(whole())


def test_a_server_that_forgot_between_two_looks_is_given_the_adapter_within_the_turn(fleet: Fleet, servers: list[StandIn],
                                                                                     tmp_path: Path) -> None:
    generator = VllmGenerator(fleet, lambda: adapter(tmp_path, OLD), 30)
    url = said(generator).split()[0]
    for server in servers:
        server.restart()
    assert said(generator) == f"{url} {OLD}"


def test_a_server_that_lists_an_adapter_and_denies_it_is_left_for_another(fleet: Fleet, servers: list[StandIn],
                                                                          tmp_path: Path) -> None:
    generator = VllmGenerator(fleet, lambda: adapter(tmp_path, OLD), 30)
    url = said(generator).split()[0]
    next(server for server in servers if server.url == url).denies.add(OLD)  # several servers behind one URL
    other = said(generator).split()[0]
    assert other != url
    for server in servers:
        server.denies.add(OLD)
    with pytest.raises(Exception, match="has no model"):
        said(generator)


class Sure:
    """Every message is thanks."""

    def route(self, texts: list[str]) -> list[Route]:
        return [Route("thanks", 0.9, (("thanks", 0.9),), 0.0) for _ in texts]


@pytest.fixture
def followed(home: Path, tmp_path: Path, fleet: Fleet) -> Iterator[tuple[Agent, Registry]]:
    """An agent on version 1 of two, its generator on the servers; the follower looks when it is told to."""
    registry = Registry(Domain.load("customer_service"), home)
    starter = registry.get().manifest
    for number in (2, 3):
        built = tmp_path / f"built{number}" / "router"
        built.mkdir(parents=True)
        (built / "head.safetensors").write_text(str(number), encoding="utf-8")
        registry.publish(built.parent, {name: starter[name] for name in ("encoder", "generator", "prompt")})

    def load(version: str) -> Serving:
        bundle = registry.get(version)
        return Serving(bundle, Sure(), VllmGenerator(fleet, lambda: adapter(tmp_path, f"{bundle.name}-12345678"), 30), Articles(()))

    store = Store(f"sqlite:///{home}/retune.db")
    store.open()
    agent = Agent(registry.domain, Settings.load(home=home), load("1"), store, None, {}, lambda: datetime.now(UTC), {},
                  home / "tools")
    agent.follower = Follower(agent, load)
    agent.follower.look()
    yield agent, registry
    agent.close()


def test_an_agent_goes_over_only_after_the_new_adapter_was_proved(followed: tuple[Agent, Registry], fleet: Fleet,
                                                                  servers: list[StandIn]) -> None:
    agent, registry = followed
    assert said(agent.serving.generator).endswith(" customer_service@0001-12345678")
    new, proving, judged = "customer_service@0002-12345678", threading.Event(), threading.Event()
    for server in servers:
        def slow(model: str, ids: list[int], answer: list[int], score: object = server.score) -> list[float]:
            if model == new:
                proving.set()
                judged.wait(10)
            return score(model, ids, answer)  # type: ignore[operator]

        server.score = slow
    registry.promote(2, 1, "better", "anna")
    looking = threading.Thread(target=agent.follower.look)
    looking.start()
    assert proving.wait(10)
    assert agent.serving.bundle.version == 1  # loaded, and not yet proved
    assert said(agent.serving.generator).endswith(" customer_service@0001-12345678")
    judged.set()
    looking.join(10)
    assert agent.serving.bundle.version == 2 and said(agent.serving.generator).endswith(f" {new}")
    assert fleet.table()["adapters"][new] == {"on": 3, "of": 3}


def test_a_bundle_that_no_server_takes_leaves_the_old_champion_and_that_is_told(followed: tuple[Agent, Registry], fleet: Fleet,
                                                                                servers: list[StandIn]) -> None:
    agent, registry = followed
    agent.serving.warm()
    for server in servers:
        server.plain.add("customer_service@0002-12345678")
    registry.promote(2, 1, "better", "anna")
    agent.follower.look()
    assert agent.serving.bundle.version == 1 and said(agent.serving.generator).endswith(" customer_service@0001-12345678")
    assert len(agent.notices) == 1 and "without the adapter" in agent.notices[0] and "goes on answering" in agent.notices[0]
    gc.collect()
    fleet.look()
    assert [set(server.loaded) for server in servers] == [{"customer_service@0001-12345678"}] * 3  # nothing of it is left there
    assert states(fleet) == ["up"] * 3


def test_one_server_that_takes_it_is_enough_and_the_mixed_window_is_seen(followed: tuple[Agent, Registry], fleet: Fleet,
                                                                         servers: list[StandIn]) -> None:
    agent, registry = followed
    agent.serving.warm()
    for server in servers[:2]:
        server.refuses.add("customer_service@0002-12345678")
    registry.promote(2, 1, "better", "anna")
    agent.follower.look()
    assert {said(agent.serving.generator, f"s{number}") for number in range(20)} == {
        f"{servers[2].url} customer_service@0002-12345678"}
    assert fleet.table()["mixed"] and fleet.table()["adapters"]["customer_service@0002-12345678"] == {"on": 1, "of": 3}


def test_a_rollback_is_back_on_the_adapter_before_and_the_one_that_was_taken_back_is_unloaded(
        followed: tuple[Agent, Registry], fleet: Fleet, servers: list[StandIn]) -> None:
    agent, registry = followed
    agent.serving.warm()
    registry.promote(2, 1, "better", "anna")
    agent.follower.look()
    registry.rollback("worse", "anna")
    agent.follower.look()
    assert said(agent.serving.generator).endswith(" customer_service@0001-12345678")
    gc.collect()
    agent.follower.look()
    fleet.look()
    assert sum(server.count("load", "customer_service@0001-12345678") for server in servers) == 3  # it never left
    wait_for(lambda: fleet.look() is None and all(
        set(server.loaded) == {"customer_service@0001-12345678"} for server in servers))


def test_an_answer_names_the_server_and_counts_its_tokens(fleet: Fleet, tmp_path: Path) -> None:
    generator, made = VllmGenerator(fleet, lambda: adapter(tmp_path, OLD), 30), Made()

    async def whole() -> str:
        return "".join([piece async for piece in generator.stream([], 8, session="s", made=made)])

    answer = asyncio.run(whole())
    assert made.engine == f"vllm {answer.split()[0]}" and (made.prompt_tokens, made.tokens) == (7, 2)


def test_the_plain_base_goes_by_its_own_name_on_the_server(fleet: Fleet) -> None:
    generator = VllmGenerator(fleet, lambda: Adapter("", None, None, 0, probes("base")), 30)
    assert said(generator).endswith(f" {BASE}") and fleet.table()["adapters"] == {"base": {"on": 3, "of": 3}}
