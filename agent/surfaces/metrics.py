"""Prometheus figures of running agents and of their store.

Knows turns as an observer sees them, after they are on disk, and counts rows when somebody scrapes. Does not know HTTP:
`render` gives the bytes that a surface serves at `/metrics`. Nothing is global: every Metrics has a registry of its own.
Labels are names of a domain's own (intents, states, flags, red flags, bundles), never what a person wrote.

What is counted in this process begins at zero with it and adds up over processes. What is read from the store is the same in
every process that shares it: query those with `max`, not with `sum`.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from agent.errors import StoreError
from agent.schema import feedback, handoffs, runs, turns
from agent.stages import stages

if TYPE_CHECKING:
    from agent.agent import Agent
    from agent.store import Store
    from agent.types import Turn

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
NONE = "none"
"""The intent of a turn that has none: out of scope, unreadable, or a red flag."""


class Metrics:
    """Counts what the watched agents do; `render` says it, with what the store holds at that moment.

    Figures, all beginning with `retune_`: turns, intents, abstentions, hand-offs, flags, errors, tokens (counters); seconds of
    a turn, of its stages and to its first word (histograms); bundles in service, swaps, turns in flight (of this process);
    feedback, runs, hand-offs waiting (of the store).
    """

    def __init__(self, store: "Store", agents: Iterable["Agent"] = ()) -> None:
        """`store` is open; each of `agents` is watched."""
        self.store = store
        self.agents: list[Agent] = []
        self.registry = CollectorRegistry()
        count = _maker(Counter, self.registry)
        self.turns = count("turns", "Turns on disk, by how the agent answered and how the turn ended.", "domain state outcome")
        self.intents = count("intents", "Turns by intent.", "domain intent")
        self.abstentions = count("abstentions", "Turns in which the agent did not answer or asked back.", "domain")
        self.handoffs = count("handoffs", "Turns after which a person takes over, by state.", "domain state")
        self.flags = count("flags", "Flags of turns: fallback, what the guard replaced, red flags.", "domain flag")
        self.errors = count("errors", "Turns that failed, by the class of the error, or were cancelled.", "domain kind")
        self.tokens = count("tokens", "Tokens that generators read (prompt) and wrote (completion).", "domain type")
        measure = _maker(Histogram, self.registry, buckets=BUCKETS)
        self.duration = measure("turn_duration_seconds", "From the message to the whole reply.", "domain")
        self.stage = measure("stage_duration_seconds", "One stage of a turn.", "domain stage")
        self.first_word = measure("first_word_seconds", "From the message to the first sentence that may be shown.", "domain")
        ProcessCollector(registry=self.registry)
        self.registry.register(_Standing(self))
        for agent in agents:
            self.watch(agent)

    def watch(self, agent: "Agent") -> None:
        """Count this agent's turns from now on; again is nothing."""
        if not any(each is agent for each in self.agents):
            self.agents.append(agent)
            agent.observers.append(self.observe)

    def observe(self, turn: "Turn", error: str | None) -> None:
        """Count one turn that is on disk; the sentence of its error is not counted, its class is."""
        domain = turn.domain
        outcome = turn.error and ("cancelled" if turn.error == "cancelled" else "failed") or "ok"
        self.turns.labels(domain, turn.state or NONE, outcome).inc()
        self.intents.labels(domain, turn.intent or NONE).inc()
        if turn.abstained:
            self.abstentions.labels(domain).inc()
        if turn.state in ("handoff", "escalated"):
            self.handoffs.labels(domain, turn.state).inc()
        for flag in turn.flags:
            self.flags.labels(domain, flag).inc()
        if turn.error:
            self.errors.labels(domain, turn.error).inc()
        self.tokens.labels(domain, "prompt").inc(turn.prompt_tokens)
        self.tokens.labels(domain, "completion").inc(turn.tokens)
        for stage, begin, end in stages(turn.timings_ms):
            self.stage.labels(domain, stage).observe(end - begin)
        for moment, histogram in (("total", self.duration), ("first_word", self.first_word)):
            if moment in turn.timings_ms:
                histogram.labels(domain).observe(turn.timings_ms[moment] / 1000)

    def render(self) -> tuple[bytes, str]:
        """What a scrape gets, and its content type. A store that cannot be read is `retune_store_up 0`, not an error."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


class _Standing:
    """What holds at the moment of a scrape: in this process, and in the store."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics

    def collect(self) -> Iterator[Metric]:
        """Called by the registry at each scrape, from whatever thread scrapes."""
        yield from _in_service(self.metrics.agents)
        up = GaugeMetricFamily("retune_store_up", "Whether the store could be read at this scrape.")
        try:
            found = list(_stored(self.metrics.store))
        except StoreError:
            found = []
        up.add_metric([], float(bool(found)))
        yield from (up, *found)


def _maker(kind: type, registry: CollectorRegistry, **more: object):
    return lambda name, about, labels: kind(f"retune_{name}", about, labels.split(), registry=registry, **more)


def _in_service(agents: list["Agent"]) -> Iterator[Metric]:
    bundles = GaugeMetricFamily("retune_bundle_info", "The bundles in service; always 1.", labels=["domain", "alias", "bundle"])
    running = GaugeMetricFamily("retune_turns_in_flight", "Turns that run just now.", labels=["domain"])
    swaps = CounterMetricFamily("retune_swaps", "Bundles that took over while running, and those that could not.",
                                labels=["domain", "outcome"])
    for agent in agents:
        domain, follower, trial = agent.domain.name, agent.follower, agent.trial
        serving = {agent.serving, *(follower.replaced if follower else ())}
        bundles.add_metric([domain, "champion", agent.serving.bundle.name], 1)
        if trial:
            bundles.add_metric([domain, "shadow" if trial.shadow else "canary", trial.serving.bundle.name], 1)
            serving.add(trial.serving)
        running.add_metric([domain], sum(each.turns.count for each in serving))
        for outcome in ("swapped", "refused"):
            swaps.add_metric([domain, outcome], follower.counts[outcome] if follower else 0)
    yield from (bundles, running, swaps)


def _stored(store: "Store") -> Iterator[Metric]:
    number = sa.func.count()
    said = sa.select(turns.c.domain, feedback.c.kind, number).join_from(feedback, turns, feedback.c.turn == turns.c.id)
    waiting = sa.select(handoffs.c.domain, number).where(handoffs.c.status == "waiting").group_by(handoffs.c.domain)
    with store.reading() as at:
        yield _family("feedback", "What people say about turns, as it stands now.", "domain kind",
                      at.execute(said.group_by(turns.c.domain, feedback.c.kind)))
        yield _family("handoffs_waiting", "Conversations that wait for a person.", "domain", at.execute(waiting))
        jobs = at.execute(sa.select(runs.c.job, runs.c.status, number).group_by(runs.c.job, runs.c.status))
        yield _family("runs", "Jobs that ran, such as retrain, by how they ended or that they run.", "job domain status",
                      [(*job.partition(" ")[::2], status, count) for job, status, count in jobs])


def _family(name: str, about: str, labels: str, rows: Iterable[Iterable]) -> Metric:
    """A gauge, since rows can be taken back; each row is its labels and then its number."""
    family = GaugeMetricFamily(f"retune_{name}", about, labels=labels.split())
    for *said, count in rows:
        family.add_metric(said, count)
    return family
