"""What /metrics says after real turns, read back with Prometheus' own parser."""

import asyncio
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.server import HTTPServer
from pathlib import Path

import httpx2
import parts
import pytest
from prometheus_client.parser import text_string_to_metric_families
from test_tracing import Collector

from agent import redflags
from agent.agent import Agent
from agent.domain import find
from agent.errors import BundleError, Busy, EngineError
from agent.follow import Follower
from agent.serving import Trial
from agent.stages import stages
from agent.surfaces.metrics import BUCKETS, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, ...], float]:
    """(name, label values in the order of their names) -> value."""
    said, kind = metrics.render()
    assert kind.startswith("text/plain")
    return {(sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(said.decode()) for sample in family.samples}


@pytest.fixture
def agent(home: Path) -> Iterator[Agent]:
    made = parts.agent(home, "Rest and drink a lot. ", Busy("All servers are busy; try again."), "You have 471 days. ",
                       name="medical", flags=redflags.load(find("medical") / "redflags.toml"))
    yield made
    made.close()


def test_every_turn_is_counted_by_what_became_of_it(agent: Agent):
    metrics = Metrics(agent.store, [agent])
    metrics.watch(agent)  # again is nothing
    docs = next(name for name, intent in agent.domain.intents.items() if intent.answer == "docs")
    handoff = next(name for name, intent in agent.domain.intents.items() if intent.answer == "handoff")
    first = agent.ask_sync(docs, "s")
    with pytest.raises(Busy):
        agent.ask_sync(docs, "s")
    guarded = agent.ask_sync(docs, "s")
    agent.ask_sync("something else altogether", "s")
    agent.ask_sync(handoff, "s")
    agent.ask_sync("crushing pain in my chest", "s")
    agent.feedback(first.turn.id, "up", "ann")
    agent.feedback(guarded.turn.id, "down", "ann")
    said = samples(metrics)
    assert said["retune_turns_total", "medical", "ok", "answered"] == 2
    assert said["retune_turns_total", "medical", "failed", "error"] == 1
    assert said["retune_turns_total", "medical", "ok", "refused"] == 1
    assert said["retune_intents_total", "medical", docs] == 3 and said["retune_intents_total", "medical", "none"] == 2
    assert said["retune_abstentions_total", "medical"] == 1
    assert said["retune_handoffs_total", "medical", "handoff"] == said["retune_handoffs_total", "medical", "escalated"] == 1
    assert said["retune_flags_total", "medical", "unsupported_number"] == 1
    assert said["retune_flags_total", "medical", "red_flag:chest_pain"] == 1
    assert said["retune_errors_total", "medical", "Busy"] == 1
    assert said["retune_turn_duration_seconds_count", "medical"] == 6
    assert said["retune_stage_duration_seconds_count", "medical", "generate"] == 3
    assert said["retune_stage_duration_seconds_count", "medical", "route"] == 5
    assert said["retune_first_word_seconds_count", "medical"] == 2
    assert said["retune_feedback", "medical", "up"] == said["retune_feedback", "medical", "down"] == 1
    assert said["retune_handoffs_waiting", "medical"] == 2
    assert said["retune_turns_in_flight", "medical"] == 0 and said["retune_store_up",] == 1
    assert said["retune_bundle_info", "champion", "medical@0001", "medical"] == 1


def test_no_label_holds_what_a_person_wrote(agent: Agent):
    metrics = Metrics(agent.store, [agent])
    done = agent.ask_sync("zanzibar what about zanzibar", "s-zanzibar", "zanzibar")
    agent.feedback(done.turn.id, "comment", "zanzibar", "zanzibar")
    assert b"zanzibar" not in metrics.render()[0]


def test_an_answer_that_is_cut_off_is_cancelled_and_one_that_runs_is_in_flight(agent: Agent):
    metrics = Metrics(agent.store, [agent])
    docs = next(name for name, intent in agent.domain.intents.items() if intent.answer == "docs")

    async def leave() -> float:
        async for _ in (events := agent.stream(docs)):
            running = samples(metrics)["retune_turns_in_flight", "medical"]
            await events.aclose()
            return running
        raise AssertionError("a turn has events")

    assert asyncio.run(leave()) == 1
    said = samples(metrics)
    assert said["retune_turns_in_flight", "medical"] == 0
    assert said["retune_turns_total", "medical", "cancelled", "error"] == 1
    assert said["retune_errors_total", "medical", "cancelled"] == 1


def test_tokens_and_the_fallback_are_counted(home: Path):
    agent = parts.agent(home, EngineError("No server answers."), fallback=True)
    docs = next(name for name, intent in agent.domain.intents.items() if intent.answer == "docs")
    agent.serving = replace(agent.serving, fallback=lambda: parts.Counting("You have 30 days. ", 90, 5))
    metrics = Metrics(agent.store, [agent])
    agent.ask_sync(docs)
    said = samples(metrics)
    assert said["retune_flags_total", "customer_service", "fallback"] == 1
    assert said["retune_tokens_total", "customer_service", "prompt"] == 90
    assert said["retune_tokens_total", "customer_service", "completion"] == 5
    agent.close()


def test_bundles_in_service_and_swaps_are_told(agent: Agent):
    def refuse(version: str) -> None:
        raise BundleError("made for another prompt")

    agent.follower = Follower(agent, refuse)
    agent.follower.counts["swapped"] += 2
    agent.follower._told("the champion", lambda: refuse("2"))
    agent.trial = Trial(agent.serving, 0.1, shadow=True)
    said = samples(Metrics(agent.store, [agent]))
    assert said["retune_swaps_total", "medical", "swapped"] == 2 and said["retune_swaps_total", "medical", "refused"] == 1
    assert said["retune_bundle_info", "shadow", "medical@0001", "medical"] == 1
    agent.follower = None


def test_runs_of_jobs_are_counted_by_how_they_ended(agent: Agent):
    from tuning import runs

    for window, status in (("1", "promoted"), ("2", "refused"), ("3", "refused")):
        run = runs.claim(agent.store, "retrain medical", window, "here")
        runs.finish(agent.store, run, status)
    runs.claim(agent.store, "retrain medical", "4", "here")
    said = samples(Metrics(agent.store))
    assert {status: said["retune_runs", "medical", "retrain", status] for status in ("promoted", "refused", "running")} == {
        "promoted": 1, "refused": 2, "running": 1}


def test_a_store_that_cannot_be_read_is_told_and_the_rest_still_is(agent: Agent):
    metrics = Metrics(agent.store, [agent])
    agent.ask_sync("something else altogether")
    agent.store.close()
    agent.store.engine.dispose()
    agent.store.path.rename(agent.store.path.with_suffix(".away"))
    agent.store.path.mkdir()  # no file can be opened there
    agent.store._opened = True
    said = samples(metrics)
    assert said["retune_store_up",] == 0 and said["retune_turns_total", "medical", "ok", "refused"] == 1
    assert not any(name.startswith("retune_feedback") for name, *_ in said)


def test_two_in_one_process_do_not_share_their_counts(agent: Agent, tmp_path: Path):
    first, second = Metrics(agent.store, [agent]), Metrics(agent.store)
    agent.ask_sync("something else altogether")
    assert samples(first)["retune_turns_total", "medical", "ok", "refused"] == 1
    assert not any(name == "retune_turns_total" for name, *_ in samples(second))


def test_names_follow_the_conventions_and_every_figure_says_what_it_is(agent: Agent):
    metrics = Metrics(agent.store, [agent])
    agent.ask_sync("something else altogether")
    for family in text_string_to_metric_families(metrics.render()[0].decode()):
        if family.name.startswith("retune_"):
            assert family.documentation.endswith("."), family.name
            names = {sample.name for sample in family.samples}
            assert family.type != "counter" or all(name.endswith("_total") for name in names)
            assert family.type != "histogram" or family.name.endswith("_seconds")


def test_marks_become_the_lengths_of_stages():
    marks = {"redact": 2.0, "route": 12.0, "retrieve": 20.0, "first_token": 70.0, "first_word": 100.0, "generate": 220.0,
             "total": 221.0}
    assert [(name, round(end - begin, 6)) for name, begin, end in stages(marks)] == [
        ("redact", 0.002), ("route", 0.01), ("retrieve", 0.008), ("generate", 0.2)]
    assert stages({}) == [] and BUCKETS[0] == 0.001 and BUCKETS[-1] == 60


def test_the_store_alone_is_served_beside_the_schedule_until_a_signal(home: Path):
    assert "retune_handoffs_waiting" in retune("metrics").communicate()[0]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        refused = retune("metrics", "--port", str(port))
        assert "take another --port" in refused.communicate()[1] and refused.returncode == 1
    serving = retune("metrics", "--port", str(port))
    assert serving.stdout.readline().startswith(f"metrics at http://127.0.0.1:{port}/metrics")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as said:
        assert "retune_store_up 1.0" in said.read().decode()
    serving.terminate()
    assert serving.wait() == 0


def test_the_real_server_counts_a_turn_and_sends_its_spans(home: Path, real_models: Path, monkeypatch: pytest.MonkeyPatch):
    (home / "models").symlink_to(real_models)
    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server_port}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
        serving = retune("serve", "--domain", "customer_service", "--port", "0")
        try:
            url = re.search(r"http://\S+", serving.stdout.readline())[0]
            body = {"model": "customer_service", "messages": [{"role": "user", "content": "hello"}]}
            told = httpx2.post(f"{url}/v1/chat/completions", json=body, timeout=120).json()["retune"]
            counted = httpx2.get(f"{url}/metrics", timeout=20).text
        finally:
            serving.terminate()
            serving.communicate(timeout=60)
        collector.shutdown()
    turns = [sample for family in text_string_to_metric_families(counted) for sample in family.samples
             if sample.name == "retune_turns_total" and sample.value]
    assert [(each.labels["domain"], each.labels["state"], each.value) for each in turns] == [
        ("customer_service", told["state"], 1.0)]
    assert b"invoke_agent customer_service" in b"".join(body for _, body in Collector.got)


def retune(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "agent.surfaces.cli", *words], text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)})
