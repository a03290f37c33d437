"""No number or id goes out without a source, no forbidden phrase at all, and what stands in is a source's."""

from typing import Any

import pytest

from agent.guard import Guard, Verdict

SOURCES = [
    "Returns are free for 30 days. Refunds take 5-7 working days.",
    "The loan costs $1,200.00 a month at 6.5% from 21 November 2026.",
    '{"order": "LK-10482", "total": 59.9}',
    "Is the kettle 99 euro?",
    "- Take one tablet at 8 am.\n- The share fell -3.2%.",
]
UNKNOWN = "I do not know that."

SUPPORTED = [
    "You have thirty days to return it.",
    "Refunds take between five and 7 working days.",
    "It is $1200 a month.",
    "The rate is 6.5 percent.",
    "It starts on Nov 21, 2026.",
    "It starts on the 21st.",
    "It starts in November 2026.",
    "It starts in 2026.",
    "Your order LK-10482 is fine.",
    "The total is €59.90.",
    "Take 1 tablet.",
    "Take it at 8.",
    "It is down 3.2%.",
    "No number at all.",
    "Vitamin B12 and COVID-19.",
    "1. Returns are free.",
]

UNSUPPORTED = [
    "You have 31 days.",
    "It is $1,201 a month.",
    "The rate is 6.5.",
    "The rate is 5%.",
    "It starts on 22 November 2026.",
    "It starts on 21 December.",
    "Take two tablets twice.",
    "Take it at 9 pm.",
    "Take 1/3 tablet.",
    "请等三天。",
    "Call 911.",
    "It rose by sixty.",
    "Your order LK-99999 is fine.",
    "See PF-999.",
    "Article AP-9999 says so.",
    "It is LK-10482-B.",
]


def guard(*sources: str, **options: Any) -> Guard:
    return Guard(sources or SOURCES, **{"numbers_need_source": True, "unknown": UNKNOWN} | options)


@pytest.mark.parametrize("sentence", SUPPORTED)
def test_a_sourced_sentence_is_shown_as_it_is(sentence: str) -> None:
    assert guard().check(sentence + " ") == Verdict(True, sentence + " ", None)


@pytest.mark.parametrize("sentence", UNSUPPORTED)
def test_a_number_without_a_source_never_goes_out(sentence: str) -> None:
    verdict = guard().check(sentence)
    assert (verdict.ok, verdict.flag) == (False, "unsupported_number")
    assert verdict.sentence != sentence


def test_the_closest_source_sentence_stands_in() -> None:
    verdict = guard().check("Refunds take 14 working days.\n")
    assert verdict == Verdict(False, "Refunds take 5-7 working days.\n", "unsupported_number")
    assert guard("退款需要5天。运费免费。").check("退款需要8天。").sentence == "退款需要5天。"
    assert guard("- Take one tablet daily.").check("Take 3 tablet daily.").sentence == "Take one tablet daily."


def test_without_a_close_source_the_answer_is_that_it_is_unknown() -> None:
    assert guard().check("Bananas cost 77 cents.").sentence == UNKNOWN
    assert guard("").check("It is 5.").sentence == UNKNOWN


def test_questions_and_json_are_never_quoted() -> None:
    assert guard().check("The kettle is 98 euro.").sentence == UNKNOWN
    assert guard('{"order total": 59.9}').check("The order total is 60.").sentence == UNKNOWN


def test_what_was_heard_supports_but_is_never_quoted() -> None:
    heard = guard("Fees vary.", heard=["I pay 40 euro for the kettle."])
    assert heard.check("You pay 40 euro.").ok
    assert heard.check("You pay 41 euro for the kettle.").sentence == UNKNOWN


def test_an_id_needs_the_same_id_in_a_source_or_heard() -> None:
    heard = guard("Article AP-1234 covers 10482 parcels.", heard=["where is lk-10482?"])
    assert heard.check("Article AP-1234 says so.").ok
    assert heard.check("Your order LK-10482 has left.").ok
    assert heard.check("Your order PF-10482 has left.").flag == "unsupported_number"
    assert heard.check("Article AP-9999 says so.").flag == "unsupported_number"
    assert not heard.check("There are 1234 of them.").ok  # an id supports no number


def test_the_same_replacement_is_said_once() -> None:
    one = guard()
    assert one.check("Bananas cost 77 cents. ").sentence == UNKNOWN + " "
    assert one.check("Pears cost 78 cents. ") == Verdict(False, "", "unsupported_number")
    assert one.check("Refunds take 5-7 working days. ").ok
    assert one.check("Refunds take 9 working days. ").sentence == ""


def test_a_forbidden_phrase_is_replaced_even_where_a_source_says_it() -> None:
    strict = guard("Buy now, it will surely rise.", forbid=[r"\bsurely rise\b", r"you're (guaranteed|safe)"])
    assert strict.check("It will SURELY rise.") == Verdict(False, UNKNOWN, "forbidden")
    assert strict.check("You’re guaranteed to win.").flag == "forbidden"
    assert strict.check("It will rise 5% now, buy.").sentence == ""
    assert strict.check("Ask a person.").ok


def test_numbers_are_free_where_the_domain_says_so() -> None:
    assert guard(numbers_need_source=False).check("It costs 77.").ok


def test_a_bad_forbid_pattern_is_a_named_error() -> None:
    with pytest.raises(ValueError, match="bad regex"):
        guard(forbid=["("])


@pytest.mark.parametrize("sentence", ["It costs EUR 6.", "You pay $6 for it.", "That is 6 euros."])
def test_an_hour_does_not_support_an_amount_of_money(sentence: str) -> None:
    guard = Guard(["Parcels come between 8 am and 6 pm and cost EUR 4.95."], numbers_need_source=True, unknown="I do not know.")
    assert not guard.check(sentence).ok
    assert guard.check("They come until 6 in the evening and cost EUR 4.95.").ok


def test_amounts_are_read_with_their_scale() -> None:
    guard = Guard(["Deposits are insured up to $250,000; the fund holds 1.2 million dollars."], numbers_need_source=True, unknown="-")
    assert guard.check("That is $250k.").ok and guard.check("It holds $1.2 million.").ok
