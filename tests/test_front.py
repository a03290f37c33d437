"""One agent in front of several domains: each message goes to its domain, and the store remembers which one that was."""

import asyncio

import pytest
from instant import Routes, agent

from agent import Done, Front, Routed
from agent.errors import DataError, EngineError
from agent.types import Route

DOMAINS = ("customer_service", "finance", "medical")


class Known(Routes):
    """Sure of an intent that the message names, else out of scope; less sure of what two domains could mean."""

    def route(self, texts: list[str]) -> list[Route]:
        return [Route(each.intent, 0.9, each.ranking, each.oos) for each in super().route(texts)]


@pytest.fixture
def make(home):
    """(*answers) -> a front of the three domains, whose messages name intents."""
    fronts = []

    def build(*answers, domains=DOMAINS):
        agents = {name: agent(home, *answers or ["Fine."], domain=name, usual=None) for name in domains}
        fronts.append(Front(agents))
        return fronts[-1]

    yield build
    for front in fronts:
        front.close()


def test_each_message_goes_to_its_domain_and_one_id_holds_the_conversation(make):
    front = make()
    said = ["credit_score please", "return_policy please", "thanks", "budgeting please"]
    domains = [front.ask_sync(text, "s").turn.domain for text in said]
    assert domains == ["finance", "customer_service", "customer_service", "finance"]
    assert {row["id"] for row in front.sessions()} == {"s-finance", "s-customer_service"}


def test_a_session_goes_on_by_the_id_of_its_turns_too(make):
    front = make()
    first = front.ask_sync("credit_score please")
    again = front.ask_sync("and budgeting?", first.turn.session)
    assert again.turn.session == first.turn.session
    other = front.ask_sync("return_policy please", first.turn.session)
    assert other.turn.session.removesuffix("-customer_service") == first.turn.session.removesuffix("-finance")


def test_another_process_knows_which_domain_the_session_is_with(make):
    make().ask_sync("credit_score please", "s")
    assert make().ask_sync("and what else?", "s").turn.domain == "finance"  # no domain knows it, so the last one answers


def test_an_open_question_stays_with_its_domain_in_another_process(make):
    assert make().ask_sync("cancel_order please", "s").turn.state == "asking"
    done = make().ask_sync("LK-10482", "s")
    assert done.turn.domain == "customer_service" and done.turn.state == "confirming"


def test_a_session_that_one_domain_began_under_its_own_name_stays_there(make):
    front = make()
    front.agents["finance"].ask_sync("credit_score please", "mine")
    done = front.ask_sync("return_policy please", "mine")
    assert (done.turn.domain, done.turn.session) == ("finance", "mine")


def test_sessions_whose_names_end_like_a_domain_are_kept_apart(make):
    front = make()
    front.ask_sync("credit_score please", "ann-finance")
    front.ask_sync("credit_score please", "ann")
    front.ask_sync("credit_score please", "ann-finance")
    assert {row["id"]: row["turns"] for row in front.sessions()} == {"ann-finance-finance": 2, "ann-finance": 1}


def test_a_session_of_a_domain_that_is_not_loaded_is_refused_with_the_next_step(make):
    make().ask_sync("return_policy please", "s")
    with pytest.raises(DataError, match="belongs to the domain 'customer_service', which is not loaded here; load it beside"):
        make(domains=("finance",)).ask_sync("hello", "s-customer_service")


def test_its_events_are_those_of_the_domains_agent(make):
    front = make()

    async def run() -> list:
        return [event async for event in front.stream("credit_score please", "s", "ann", [("a", "b")])]

    events = asyncio.run(run())
    assert isinstance(events[0], Routed) and isinstance(events[-1], Done)
    assert front.agents["finance"].store.session("s-finance", "finance")["author"] == "ann"


def test_messages_of_one_conversation_are_answered_in_order_across_domains(make):
    front = make()
    said = ["credit_score one", "return_policy two", "credit_score three", "return_policy four"]
    told = []

    async def ask(text: str) -> None:
        done = await front.ask(text, "s")
        told.append((done.turn.domain, done.turn.question))

    async def run() -> None:
        await asyncio.gather(*map(ask, said))

    asyncio.run(run())
    assert [text for _, text in told] == said and [domain for domain, _ in told] == ["finance", "customer_service"] * 2


def test_what_people_say_goes_to_the_turns_domain(make):
    front = make()
    id = front.ask_sync("credit_score please", "s").turn.id
    front.rate(id, False, "ann", "too short")
    asyncio.run(front.acorrect(id, "A longer one.", "ann"))
    front.feedback(id, "intent", "ann", "budgeting")
    kept = front.agents["finance"].store.feedback_of(id)
    assert {(row["kind"], row["value"]) for row in kept} == {("down", None), ("comment", "too short"), ("intent", "budgeting"),
                                                             ("correction", "A longer one.")}
    with pytest.raises(DataError, match="no turn 'gone'"):
        front.rate("gone", True)


def test_what_cannot_be_read_is_answered_by_the_domain_of_the_conversation(make):
    front = make()
    front.ask_sync("credit_score please", "s")
    assert front.ask_sync(" ", "s").turn.domain == "finance"
    assert front.ask_sync("x" * 100_000).turn.state == "refused"


def test_an_engine_that_fails_fails_the_front_and_lets_the_next_message_through(make):
    front = make(EngineError("gone"), "Fine.")
    with pytest.raises(EngineError):
        front.ask_sync("credit_score please", "s")
    assert front.ask_sync("credit_score please", "s").turn.domain == "finance" and len(front.line) == 0


def test_it_loads_the_domains_that_are_named_with_their_settings(settings):
    from agent import ScriptedGenerator

    front = Front.load(["finance", "medical"], generator=ScriptedGenerator("Fine."), home=settings.home)
    try:
        assert list(front.agents) == ["finance", "medical"]
        encoders = {id(each.serving.index._encoder) for each in front.agents.values()}
        assert len(encoders) == 1  # shared in memory
        done = front.ask_sync("What would a loan of $12,000 at 6.5% over 5 years cost me a month?", "s")
        assert done.turn.domain == "finance" and "$234.79" in done.reply
        assert front.ask_sync("I have had a sore throat for two days, what helps?", "s").turn.domain == "medical"
        assert front.ask_sync("my chest feels crushed and my left arm hurts", "s").turn.state == "escalated"
    finally:
        front.close()


def test_a_front_of_nothing_is_refused(home):
    from agent.errors import DomainError, SettingsError

    with pytest.raises(SettingsError, match="needs a domain"):
        Front.load([], home=home)
    with pytest.raises(DomainError, match="no domain 'nowhere'"):
        Front.load(["nowhere"], home=home)
