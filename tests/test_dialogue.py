"""One message, one move: asking in order, saying yes, changing one's mind, leaving a topic and coming back to it."""

import json
import random
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent import slots, toolbox
from agent.dialogue import Move, State, open_question, reopened, resume, step
from agent.domain import Domain
from agent.types import Route

ROOT = Path(__file__).parent.parent
NOW = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)  # a Saturday
DOMAINS = {name: Domain.load(ROOT / "domains" / name) for name in ("customer_service", "finance", "medical")}
SHOP, MONEY, HEALTH = DOMAINS.values()
TABLES = {"medicines": slots.NameTable.load(ROOT / "domains/medical/data/medicines.csv"),
          "tickers": slots.NameTable.load(ROOT / "domains/finance/data/tickers.csv")}


def read(text: str, wanted: Iterable[tuple[str, str]], asked: str | None = None) -> dict[str, Any]:
    return slots.read(text, wanted, tables=TABLES, now=NOW, asked=asked)


def to(intent: str | None, confidence: float = 0.95, *others: tuple[str, float]) -> Route:
    """A route to an intent; None is out of scope."""
    if intent is None:
        return Route(None, confidence, (("greeting", 0.3), ("thanks", 0.1)), confidence)
    return Route(intent, confidence, ((intent, confidence), *(others or (("thanks", round((1 - confidence) / 4, 3)),))), 0.05)


class Talk:
    """A conversation in one domain; the state goes through JSON between messages, as in the store."""

    def __init__(self, domain: Domain) -> None:
        self.domain, self.state = domain, State()

    def say(self, text: str, route: Route | str | None) -> Move:
        """The move for a message, routed as told; a bare name is a sure route."""
        route = route if isinstance(route, Route) else to(route)
        move = step(self.domain, self.state, text, route, read, toolbox.changes)
        self.state = State.of(json.loads(json.dumps(move.state.table())))
        assert self.state == move.state, "the state is plain data"
        return move

    def back(self) -> Move | None:
        """What is taken up again once something else is finished."""
        move = resume(self.domain, self.state, read, toolbox.changes)
        self.state = move.state if move else self.state
        return move


def told(move: Move) -> tuple[str, str | None, dict[str, Any]]:
    return move.kind, move.intent, move.slots


LOAN = {"amount": 12000, "rate": 6.5, "years": 5}
UNSURE = 0.4


# ---- a wish and its slots

def test_everything_said_at_once_runs_at_once() -> None:
    move = Talk(MONEY).say("What would a loan of $12,000 at 6.5% over 5 years cost me a month?", "loan_payment")
    assert told(move) == ("run", "loan_payment", LOAN)
    assert move.state == State(last_intent="loan_payment", last_slots=LOAN)


def test_what_is_missing_is_asked_for_in_the_domains_order() -> None:
    talk = Talk(MONEY)
    first = talk.say("what would a loan cost me a month", "loan_payment")
    assert (first.kind, first.state.asking, first.say) == ("ask", "amount", MONEY.ask["amount"])
    second = talk.say("12,000", to("calculate", UNSURE))
    assert (second.kind, second.state.asking, second.say) == ("ask", "rate", MONEY.ask["rate"])
    third = talk.say("6.5", to("calculate", UNSURE))
    assert (third.kind, third.state.asking, third.say) == ("ask", "years", MONEY.ask["years"])
    assert told(talk.say("five", to("greeting", UNSURE))) == ("run", "loan_payment", LOAN)


def test_what_was_said_already_is_not_asked_for() -> None:
    talk = Talk(MONEY)
    move = talk.say("monthly payment on 12000 over 5 years please", "loan_payment")
    assert (move.state.asking, move.slots) == ("rate", {"amount": 12000, "years": 5})
    assert told(talk.say("6.5", to("loan_payment", UNSURE))) == ("run", "loan_payment", LOAN)


def test_an_answer_may_bring_more_than_was_asked_for() -> None:
    talk = Talk(MONEY)
    talk.say("what would a loan cost me a month", "loan_payment")
    assert told(talk.say("12,000 over 5 years at 6.5%", "loan_payment")) == ("run", "loan_payment", LOAN)


@pytest.mark.parametrize(("domain", "wish", "intent", "answer", "value"), [
    (SHOP, "where is my order", "order_status", "10482", {"order": "LK-10482"}),
    (SHOP, "where is my order", "order_status", "it's lk 10482 I think", {"order": "LK-10482"}),
    (HEALTH, "what are the side effects", "medicine_side_effects", "ibuprofen", {"medicine": "ibuprofen"}),
    (MONEY, "how risky is my portfolio", "portfolio_risk", "102", {"portfolio": "PF-102"}),
])
def test_a_bare_answer_is_enough(domain: Domain, wish: str, intent: str, answer: str, value: dict[str, str]) -> None:
    talk = Talk(domain)
    talk.say(wish, intent)
    assert told(talk.say(answer, to(None, 0.6))) == ("run", intent, value)


@pytest.mark.parametrize(("answer", "route"), [
    ("10482", "order_status"), ("it's 10482", "invoice_copy"), ("10 482", "refund_status"), ("10482?", "order_status")])
def test_a_bare_answer_is_no_new_wish_however_it_is_routed(answer: str, route: str) -> None:
    talk = Talk(SHOP)
    talk.say("I want to cancel my order", "cancel_order")
    assert told(talk.say(answer, route)) == ("confirm", "cancel_order", {"order": "LK-10482"})


def test_an_answer_that_says_nothing_is_asked_for_again() -> None:
    talk = Talk(SHOP)
    talk.say("where is my order", "order_status")
    move = talk.say("I have it somewhere", to("order_status", UNSURE))
    assert (move.kind, move.say) == ("ask", f"I did not catch that. {SHOP.ask['order']}")
    assert told(talk.say("LK-10482", "order_status")) == ("run", "order_status", {"order": "LK-10482"})


def test_a_tool_without_slots_runs_at_once() -> None:
    assert told(Talk(SHOP).say("when are you open", "opening_hours")) == ("run", "opening_hours", {})


def test_free_words_are_taken_whole_whatever_they_look_like_to_the_router() -> None:
    talk = Talk(SHOP)
    talk.say("I want to complain", "complaint")
    words = "The courier threw my parcel over the wall and broke the lamp"
    move = talk.say(words, "damaged_item" if "damaged_item" in SHOP.intents else "order_status")
    assert (move.kind, move.slots["summary"]) == ("confirm", words)


def test_what_may_be_left_out_is_read_but_not_asked_for() -> None:
    savings = {"amount": 5000, "rate": 4, "years": 10}
    talk = Talk(MONEY)
    move = talk.say("5,000 at 4% for 10 years, what does it grow to", "compound_growth")
    assert told(move) == ("run", "compound_growth", savings)
    move = talk.say("and with 200 a month?", to("compound_growth", UNSURE))
    assert told(move) == ("run", "compound_growth", savings | {"monthly": 200})
    talk.say("what would 300 a month at 5% grow to in 15 years", "compound_growth")
    assert told(talk.say("1000", to("calculate", UNSURE)))[2] == {"amount": 1000, "rate": 5, "years": 15, "monthly": 300}


# ---- setting right

def test_a_value_can_be_set_right_while_another_is_asked_for() -> None:
    talk = Talk(MONEY)
    talk.say("a loan of 12,000 at 7.5%, what a month", "loan_payment")
    move = talk.say("sorry, the rate is 6.5%", to("loan_payment", UNSURE))
    assert (move.state.asking, move.slots) == ("years", {"amount": 12000, "rate": 6.5})


def test_a_value_can_be_set_right_after_the_answer() -> None:
    talk = Talk(MONEY)
    talk.say("$12,000 at 7% over 5 years a month?", "loan_payment")
    assert told(talk.say("no, I meant 6.5%", to("loan_payment", UNSURE))) == ("run", "loan_payment", LOAN)
    assert talk.state.last_slots == LOAN


# ---- yes and no

def asked_to_confirm() -> Talk:
    talk = Talk(SHOP)
    move = talk.say("please cancel order LK-10541", "cancel_order")
    assert told(move) == ("confirm", "cancel_order", {"order": "LK-10541"})
    assert "LK-10541" in move.say and move.say.endswith("Shall I go ahead?") and move.state.confirming
    return talk


@pytest.mark.parametrize("yes", ["yes", "Yes please", "go ahead", "ok", "yes, cancel it", "do it"])
def test_what_changes_something_runs_after_a_yes(yes: str) -> None:
    move = asked_to_confirm().say(yes, to("thanks", UNSURE))
    assert told(move) == ("run", "cancel_order", {"order": "LK-10541"})
    assert not move.state.confirming and move.state.intent is None


@pytest.mark.parametrize("no", ["no", "no thanks", "never mind", "don't", "stop"])
def test_what_changes_something_does_not_run_after_a_no(no: str) -> None:
    move = asked_to_confirm().say(no, to("thanks", UNSURE))
    assert told(move) == ("cancelled", "cancel_order", {"order": "LK-10541"})
    assert move.say == "All right, nothing was changed." and move.state.intent is None


@pytest.mark.parametrize("words", ["no, LK-10555", "sorry, I meant LK-10555", "make it LK-10555", "not that one but LK-10555"])
def test_another_value_instead_of_a_yes_is_confirmed_anew(words: str) -> None:
    talk = asked_to_confirm()
    move = talk.say(words, "cancel_order")
    assert told(move) == ("confirm", "cancel_order", {"order": "LK-10555"}) and "LK-10555" in move.say
    assert told(talk.say("yes", to("thanks", UNSURE))) == ("run", "cancel_order", {"order": "LK-10555"})


@pytest.mark.parametrize("words", ["hmm", "maybe", "yes but is it free?", "which order was it again"])
def test_neither_yes_nor_no_is_asked_again_and_never_run(words: str) -> None:
    move = asked_to_confirm().say(words, to("cancel_order", UNSURE))
    assert told(move) == ("confirm", "cancel_order", {"order": "LK-10541"})


@pytest.mark.parametrize("text", ["what is the weather on Mars?", "tell me a joke"])
def test_a_message_out_of_scope_is_no_yes(text: str) -> None:
    talk = asked_to_confirm()
    assert talk.say(text, None).kind == "refuse"
    assert open_question(SHOP, talk.state) == "Back to cancelling an order that was placed: shall I go ahead?"
    assert told(talk.say("yes", to("thanks", UNSURE))) == ("run", "cancel_order", {"order": "LK-10541"})


def test_a_question_about_another_order_does_not_change_what_is_confirmed() -> None:
    talk = asked_to_confirm()
    assert told(talk.say("and where is LK-10555?", "order_status")) == ("run", "order_status", {"order": "LK-10555"})
    back = talk.back()
    assert back and told(back) == ("confirm", "cancel_order", {"order": "LK-10541"})


# ---- giving up

def test_a_wish_can_be_given_up_while_it_is_asked_for() -> None:
    talk = Talk(SHOP)
    talk.say("where is my order", "order_status")
    move = talk.say("never mind", to("thanks", UNSURE))
    assert (move.kind, move.intent, move.say) == ("cancelled", "order_status", "All right, I have left it.")
    assert (move.state.intent, move.state.asking) == (None, None)


def test_to_give_up_nothing_is_harmless() -> None:
    move = Talk(SHOP).say("never mind", to("thanks", UNSURE))
    assert (move.kind, move.say, move.state) == ("cancelled", "All right.", State())


def test_to_cancel_an_order_is_a_wish_and_gives_nothing_up() -> None:
    talk = Talk(SHOP)
    talk.say("where is my order", "order_status")
    move = talk.say("actually I want to cancel my order", "cancel_order")
    assert (move.kind, move.intent, move.state.asking) == ("ask", "cancel_order", "order")


# ---- another topic, and back

def test_a_question_in_between_is_answered_and_the_open_question_stays() -> None:
    talk = Talk(MONEY)
    talk.say("what would 12,000 at 6.5% cost a month", "loan_payment")
    move = talk.say("how do credit scores work?", "credit_score")
    assert told(move) == ("docs", "credit_score", {})
    assert open_question(MONEY, talk.state) == "Back to what a loan would cost a month: Over how many years?"
    assert told(talk.say("5", to("loan_payment", UNSURE))) == ("run", "loan_payment", LOAN)


def test_a_question_in_between_is_answered_even_where_free_words_are_awaited() -> None:
    talk = Talk(SHOP)
    talk.say("change the delivery address of LK-10541", "change_address")
    assert told(talk.say("what does delivery to Portugal cost?", "delivery_abroad" if "delivery_abroad" in SHOP.intents
                         else "return_policy"))[0] == "docs"
    move = talk.say("12 Main Street, Cork", to("change_address", UNSURE))
    assert told(move) == ("confirm", "change_address", {"order": "LK-10541", "address": "12 Main Street, Cork"})


def test_a_greeting_or_a_hand_off_keeps_what_is_open() -> None:
    talk = Talk(SHOP)
    talk.say("where is my order", "order_status")
    assert told(talk.say("hello?", "greeting"))[:2] == ("fixed", "greeting")
    move = talk.say("let me talk to a person", "talk_to_person")
    assert (move.kind, move.say) == ("handoff", SHOP.intents["talk_to_person"].reply)
    assert talk.state.asking == "order"


def test_another_tool_in_between_runs_and_the_first_wish_is_taken_up_again() -> None:
    talk = Talk(MONEY)
    talk.say("what would 12,000 at 6.5% cost a month", "loan_payment")
    assert told(talk.say("what is the price of SOLR?", "market_price"))[:2] == ("run", "market_price")
    back = talk.back()
    assert back and (back.kind, back.state.asking, back.slots) == ("ask", "years", {"amount": 12000, "rate": 6.5})
    assert told(talk.say("5", to("loan_payment", UNSURE))) == ("run", "loan_payment", LOAN)
    assert talk.back() is None


def test_wishes_are_taken_up_again_newest_first() -> None:
    talk = Talk(SHOP)
    talk.say("cancel my order", "cancel_order")
    talk.say("no wait, I want my money back for an order", "request_refund")
    talk.say("actually where is LK-10482?", to("order_status", 0.99))
    first = talk.back()
    assert first and first.intent == "request_refund"
    assert told(talk.say("LK-10482, damaged", "request_refund"))[0] == "confirm"
    assert told(talk.say("yes", to("thanks", UNSURE)))[:2] == ("run", "request_refund")
    second = talk.back()
    assert second and second.intent == "cancel_order"


def test_a_wish_that_is_said_again_is_taken_up_and_does_not_wait_twice() -> None:
    talk = Talk(MONEY)
    talk.say("what would 12,000 at 6.5% cost a month", "loan_payment")
    talk.say("how risky is my portfolio?", "portfolio_risk")
    move = talk.say("what would the loan cost a month?", "loan_payment")
    assert (move.kind, move.state.asking, move.slots) == ("ask", "years", {"amount": 12000, "rate": 6.5})
    assert told(talk.say("5", to("loan_payment", UNSURE))) == ("run", "loan_payment", LOAN)
    back = talk.back()
    assert back and back.intent == "portfolio_risk"
    assert told(talk.say("PF-102", "portfolio_risk"))[0] == "run"
    assert talk.back() is None


def test_nothing_waits_where_nothing_was_interrupted() -> None:
    talk = Talk(SHOP)
    talk.say("where is LK-10482", "order_status")
    assert talk.back() is None and open_question(SHOP, talk.state) == ""


def test_a_message_out_of_scope_is_refused_and_the_open_question_stays() -> None:
    talk = Talk(SHOP)
    talk.say("where is my order", "order_status")
    move = talk.say("what is the weather on Mars?", None)
    assert (move.kind, move.intent, move.state.asking) == ("refuse", None, "order")
    assert open_question(SHOP, talk.state).endswith(SHOP.ask["order"])
    assert told(talk.say("LK-10482", None)) == ("run", "order_status", {"order": "LK-10482"})


# ---- what leans on what went before

@pytest.mark.parametrize(("text", "changed"), [
    ("and over 10 years?", {"years": 10}), ("what about 15,000?", {"amount": 15000}), ("and at 7%?", {"rate": 7}),
    ("what if I borrow 9,000 over 3 years", {"amount": 9000, "years": 3}), ("how about 18 months", {"years": 1.5}),
])
@pytest.mark.parametrize("route", [to("loan_payment"), to("loan_payment", UNSURE), to(None, 0.7), to("compound_growth", 0.7)])
def test_a_follow_up_runs_the_last_tool_again_with_what_changed(text: str, changed: dict[str, float], route: Route) -> None:
    talk = Talk(MONEY)
    talk.say("a loan of $12,000 at 6.5% over 5 years a month?", "loan_payment")
    assert told(talk.say(text, route)) == ("run", "loan_payment", LOAN | changed)
    assert talk.state.last_slots == LOAN | changed


def test_a_follow_up_may_name_another_thing() -> None:
    talk = Talk(HEALTH)
    talk.say("side effects of ibuprofen", "medicine_side_effects")
    assert told(talk.say("what about naproxen?", to(None, 0.7))) == ("run", "medicine_side_effects", {"medicine": "naproxen"})


def test_a_follow_up_about_a_pair_changes_the_second() -> None:
    talk = Talk(HEALTH)
    talk.say("can I take warfarin with ibuprofen", "medicine_interaction")
    assert told(talk.say("and naproxen?", to("medicine_use", UNSURE))) == (
        "run", "medicine_interaction", {"medicine": "warfarin", "other": "naproxen"})


def test_a_follow_up_about_what_changes_something_is_confirmed_first() -> None:
    talk = asked_to_confirm()
    talk.say("yes", to("thanks", UNSURE))
    assert told(talk.say("and LK-10555?", to("cancel_order", UNSURE))) == ("confirm", "cancel_order", {"order": "LK-10555"})


def test_a_follow_up_with_a_sure_wish_of_its_own_is_that_wish() -> None:
    talk = Talk(MONEY)
    talk.say("a loan of $12,000 at 6.5% over 5 years a month?", "loan_payment")
    assert told(talk.say("and how does a credit score work?", to("credit_score", 0.97))) == ("docs", "credit_score", {})


def test_without_anything_before_a_follow_up_is_a_message_like_any_other() -> None:
    assert Talk(MONEY).say("and over 10 years?", None).kind == "refuse"


def test_ids_and_names_are_carried_to_another_wish_that_points_back() -> None:
    talk = Talk(SHOP)
    talk.say("where is LK-10541", "order_status")
    assert told(talk.say("cancel it please", "cancel_order")) == ("confirm", "cancel_order", {"order": "LK-10541"})


def test_ids_are_not_carried_to_a_wish_that_does_not_point_back() -> None:
    talk = Talk(SHOP)
    talk.say("where is LK-10541", "order_status")
    assert talk.say("I want to cancel an order", "cancel_order").state.asking == "order"


def test_figures_are_not_carried() -> None:
    talk = Talk(MONEY)
    talk.say("a loan of $12,000 at 6.5% over 5 years a month?", "loan_payment")
    move = talk.say("what would that grow to as savings", "compound_growth")
    assert (move.kind, move.slots) == ("ask", {})


def test_what_is_said_stands_over_what_is_carried() -> None:
    talk = Talk(SHOP)
    talk.say("where is LK-10541", "order_status")
    assert told(talk.say("cancel that and also LK-10555", "cancel_order"))[2] == {"order": "LK-10555"}


def test_what_is_open_is_carried_before_what_is_over() -> None:
    talk = Talk(SHOP)
    talk.say("where is LK-10482", "order_status")
    talk.say("please cancel order LK-10541", "cancel_order")
    move = talk.say("can I get an invoice for it first?", "invoice_copy")
    assert told(move) == ("run", "invoice_copy", {"order": "LK-10541"})


def test_a_new_name_beside_a_carried_one_makes_the_pair() -> None:
    talk = Talk(HEALTH)
    talk.say("side effects of ibuprofen", "medicine_side_effects")
    assert told(talk.say("can I take it with warfarin?", "medicine_interaction")) == (
        "run", "medicine_interaction", {"medicine": "ibuprofen", "other": "warfarin"})


# ---- which of two

CLOSE = to("return_item", 0.45, ("request_refund", 0.40))


def unclear(text: str = "my order has to go back and I want my money") -> tuple[Talk, Move]:
    talk = Talk(SHOP)
    return talk, talk.say(text, CLOSE)


def test_as_many_are_asked_about_as_are_likely_up_to_three():
    near = Route("return_item", 0.4, (("return_item", 0.4), ("request_refund", 0.35), ("complaint", 0.2), ("thanks", 0.05)), 0.05,
                 ("return_item", "request_refund", "complaint"))
    talk = Talk(SHOP)
    move = talk.say("the lamp does not suit me", near)
    assert move.kind == "clarify" and move.state.options == near.likely
    assert all(SHOP.intents[name].about in move.say for name in near.likely) and move.say.count("about") >= 3
    assert talk.say("the third", to("thanks", 0.3)).intent == "complaint"
    many = replace(near, likely=("return_item", "request_refund", "complaint", "thanks"))
    assert Talk(SHOP).say("the lamp does not suit me", many).state.options == ("return_item", "request_refund")


def test_two_close_intents_are_asked_about_in_the_domains_words() -> None:
    _, move = unclear()
    assert (move.kind, move.intent, move.state.options) == ("clarify", None, ("return_item", "request_refund"))
    assert SHOP.intents["return_item"].about in move.say and SHOP.intents["request_refund"].about in move.say


@pytest.mark.parametrize(("text", "picked"), [
    ("the first", "return_item"), ("1", "return_item"), ("yes", "return_item"), ("the second one", "request_refund"),
    ("2", "request_refund"), ("the money back", "request_refund"), ("sending it back", "return_item"),
])
def test_a_choice_is_understood(text: str, picked: str) -> None:
    talk, _ = unclear()
    move = talk.say(text, to(None, 0.6))
    assert move.intent == picked and move.state.options == () and move.state.unclear == ""


def test_what_was_said_before_the_choice_counts() -> None:
    talk, _ = unclear("LK-10482 has to go back and I want my money")
    assert told(talk.say("the first", to(None, 0.6))) == ("run", "return_item", {"order": "LK-10482"})


def test_a_choice_in_words_that_the_router_knows_keeps_what_was_said_before() -> None:
    talk, _ = unclear("LK-10482 has to go back and I want my money")
    move = talk.say("getting my money back", to("request_refund", 0.8))
    assert (move.kind, move.intent, move.slots) == ("ask", "request_refund", {"order": "LK-10482"})


def test_a_choice_in_words_may_set_right_what_was_said_before() -> None:
    talk, _ = unclear("LK-10482 has to go back and I want my money")
    move = talk.say("my money back, for LK-10555, it is damaged", to("request_refund", UNSURE))
    assert told(move) == ("confirm", "request_refund", {"order": "LK-10555", "reason": "damaged"})


def test_a_chosen_article_question_is_looked_up_in_its_own_words() -> None:
    talk = Talk(MONEY)
    text = "fees when I pay it off"
    talk.say(text, to("loan_basics", 0.4, ("card_costs", 0.35)))
    move = talk.say("the second", to(None, 0.6))
    assert (move.kind, move.intent, move.question) == ("docs", "card_costs", text)


def test_another_wish_instead_of_a_choice_is_that_wish() -> None:
    talk, _ = unclear()
    move = talk.say("when are you open?", "opening_hours")
    assert told(move) == ("run", "opening_hours", {}) and move.state.options == ()


def test_neither_of_the_two_can_be_given_up() -> None:
    talk, _ = unclear()
    assert talk.say("never mind", to("thanks", UNSURE)).kind == "cancelled" and talk.state == State()


@pytest.mark.parametrize(("text", "route"), [
    ("my order has to go back", to("return_item", 0.6, ("request_refund", 0.5))),  # sure enough
    ("my order has to go back", to("return_item", 0.5, ("request_refund", 0.2))),  # far apart
    ("return", CLOSE),  # a single word is taken as it is
])
def test_nothing_is_asked_about_without_need(text: str, route: Route) -> None:
    assert Talk(SHOP).say(text, route).intent == "return_item"


def test_a_choice_is_picked_although_another_question_is_open() -> None:
    talk = Talk(SHOP)
    talk.say("change the delivery address of LK-10541", "change_address")
    assert talk.say("what about money or sending back?", CLOSE).kind == "clarify"
    assert talk.say("the second one", to(None, 0.6)).intent == "request_refund"


# ---- fixed answers, hand-off, refusal

def test_a_fixed_answer_is_the_domains_own_words() -> None:
    move = Talk(MONEY).say("should I buy NVLA now?", "buy_or_sell")
    assert told(move) == ("fixed", "buy_or_sell", {}) and move.say == MONEY.intents["buy_or_sell"].reply


def test_a_person_is_called_where_one_is_asked_for() -> None:
    move = Talk(HEALTH).say("I want to talk to a nurse", "talk_to_person")
    assert told(move) == ("handoff", "talk_to_person", {}) and move.say == HEALTH.intents["talk_to_person"].reply


def test_a_message_out_of_scope_is_refused() -> None:
    assert Talk(SHOP).say("who won the match", None) == Move("refuse", State())


# ---- whatever comes

def test_no_message_breaks_a_conversation_and_nothing_changes_without_a_yes() -> None:
    order = random.Random(11)
    texts = ["", "?", "yes", "no", "5", "LK-10482", "never mind", "the first", "and over 10 years?", "it", "aspirin", "how?",
             "12k at 7%", "what about naproxen?", "no, LK-10555", "tomorrow at 9", "12 Main Street, Cork", "退货", "sell some",
             "x" * 9000]
    for domain in DOMAINS.values():
        changing = {intent.name for intent in domain.intents.values() if toolbox.changes(intent)}
        for _ in range(60):
            talk = Talk(domain)
            for _ in range(12):
                names = order.sample(list(domain.intents), 2)
                route = order.choice([to(names[0]), to(names[0], 0.65), to(names[0], 0.42, (names[1], 0.38)), to(None, 0.8)])
                before, text = talk.state, order.choice(texts)
                move = talk.say(text, route)
                assert move.kind in {"docs", "fixed", "handoff", "run", "ask", "confirm", "cancelled", "clarify", "refuse"}
                if move.kind == "run":
                    intent = domain.intents[move.intent]
                    assert set(move.slots) | intent.optional == {slot for slot, _ in intent.slots}
                    if move.intent in changing:
                        assert before.confirming and slots.is_yes(text) and move.slots == before.slots
                    talk.back()
                if move.kind in ("ask", "confirm", "clarify", "fixed", "handoff", "cancelled"):
                    assert move.say


# ---- figures that come late, alone or in the wrong place

def asked_for_the_rate() -> Talk:
    talk = Talk(MONEY)
    assert talk.say("a loan of 7,000, what a month", "loan_payment").state.asking == "rate"
    return talk


def test_a_figure_that_cannot_answer_sets_another_right_only_where_it_says_so() -> None:
    talk = asked_for_the_rate()
    move = talk.say("7500", "calculate")
    assert (move.kind, move.slots, move.state.asking) == ("ask", {"amount": 7000}, "rate") and "did not catch" in move.say
    move = talk.say("well 7,500 actually", "calculate")
    assert (move.slots, move.state.asking) == ({"amount": 7500}, "rate")


def test_a_statement_may_bring_another_figure_than_the_one_asked_for() -> None:
    move = asked_for_the_rate().say("I was thinking four years", to("compound_growth", 0.7))
    assert (move.intent, move.slots, move.state.asking) == ("loan_payment", {"amount": 7000, "years": 4}, "rate")


@pytest.mark.parametrize(("text", "route", "changed"), [
    ("make it 15", "loan_payment", {"amount": 15000}), ("no, 14,000", "calculate", {"amount": 14000}),
    ("let's try 4%", None, {"rate": 4}), ("4% and 15 years?", "loan_payment", {"rate": 4, "years": 15}),
    ("could you redo it with 4%?", to("compound_growth", 0.8), {"rate": 4}), ("and after twenty?", "compound_growth", {"years": 20}),
    ("that's too much. how about stretching it to 8 years", to("compound_growth", 0.7), {"years": 8}),
])
def test_a_variation_runs_the_last_tool_again(text: str, route: Route | str | None, changed: dict[str, float]) -> None:
    talk = Talk(MONEY)
    talk.say("a loan of $12,000 at 6.5% over 5 years a month?", "loan_payment")
    route = to(None, 0.76) if route is None else route
    assert told(talk.say(text, route)) == ("run", "loan_payment", LOAN | changed)


def test_a_bare_figure_near_to_two_values_is_not_guessed() -> None:
    talk = Talk(MONEY)
    talk.say("a loan of $12,000 at 6% over 5 years a month?", "loan_payment")
    assert told(talk.say("make it 7", "loan_payment"))[0] == "ask"


def test_the_same_figures_serve_a_tool_that_takes_the_same() -> None:
    talk = Talk(MONEY)
    talk.say("total interest on $12,000 at 6.5% over 5 years", "loan_schedule")
    assert told(talk.say("and what would it cost me a month?", "loan_payment")) == ("run", "loan_payment", LOAN)


@pytest.mark.parametrize(("domain", "wish", "intent", "aside", "article", "text", "route", "slots_now"), [
    (MONEY, "$12,000 at 6.5% over 5 years a month?", "loan_payment", "what is an APR?", "loan_basics",
     "and with 7 years?", "compound_growth", LOAN | {"years": 7}),
    (SHOP, "an invoice for LK-10404", "invoice_copy", "can I pay by card?", "payment_methods",
     "and for LK-10412 too", "payment_methods", {"order": "LK-10412"}),
])
def test_a_tool_is_gone_on_with_after_an_article(domain: Domain, wish: str, intent: str, aside: str, article: str, text: str,
                                                 route: str, slots_now: dict[str, Any]) -> None:
    talk = Talk(domain)
    talk.say(wish, intent)
    assert talk.say(aside, article).kind == "docs" and talk.state.aside
    assert told(talk.say(text, route)) == ("run", intent, slots_now)
    assert not talk.state.aside


def test_an_article_question_that_holds_a_figure_stays_one() -> None:
    talk = Talk(MONEY)
    talk.say("$12,000 at 6.5% over 5 years a month?", "loan_payment")
    assert talk.say("is that more than the 3% inflation takes?", to("investment_risk", 0.7)).kind == "docs"
    assert talk.say("and what if I miss 3 years of payments?", to("debt_help", 0.7)).kind == "docs"


def test_a_bare_number_after_a_tool_is_the_next_thing() -> None:
    talk = Talk(MONEY)
    talk.say("risk of PF-103", "portfolio_risk")
    assert told(talk.say("and 105?", "calculate")) == ("run", "portfolio_risk", {"portfolio": "PF-105"})


def test_what_is_being_confirmed_can_be_set_right_in_bare_words() -> None:
    assert told(asked_to_confirm().say("wait no, 10555", to("order_status", UNSURE))) == (
        "confirm", "cancel_order", {"order": "LK-10555"})
    talk = Talk(SHOP)
    talk.say("change the address of LK-10541 to 12 Oak Street, Galway", "change_address")
    assert told(talk.say("oops, I meant 21 Oak Street, Galway", "change_address")) == (
        "confirm", "change_address", {"order": "LK-10541", "address": "21 Oak Street, Galway"})
    assert talk.say("actually no, keep it", to("thanks", UNSURE)).kind == "cancelled"


def test_a_name_answers_one_of_two_places() -> None:
    talk = Talk(HEALTH)
    talk.say("can I take warfarin together with something", "medicine_interaction")
    assert told(talk.say("aspirin", to("medicine_use", 0.8))) == (
        "run", "medicine_interaction", {"medicine": "warfarin", "other": "aspirin"})


def test_a_question_of_its_own_about_a_new_name_is_not_the_last_one_again() -> None:
    talk = Talk(HEALTH)
    talk.say("side effects of sertraline", "medicine_side_effects")
    assert told(talk.say("and is it ok with ibuprofen?", to("medicine_interaction", 0.85))) == (
        "run", "medicine_interaction", {"medicine": "sertraline", "other": "ibuprofen"})
    talk.say("side effects of sertraline", "medicine_side_effects")
    assert told(talk.say("what about Tylenol then", to("medicine_use", 0.85)))[1:] == (
        "medicine_side_effects", {"medicine": "acetaminophen"})


def test_a_value_that_a_tool_refused_is_asked_for_again() -> None:
    talk = Talk(MONEY)
    move = talk.say("$12,000 at 6.5% over 90 years a month?", "loan_payment")
    talk.state = reopened(talk.state, move, "years")
    assert talk.state.asking == "years" and open_question(MONEY, talk.state)
    assert told(talk.say("5", "calculate")) == ("run", "loan_payment", LOAN)
