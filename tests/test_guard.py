"""Sentences are cut where a reader would, numbers compare by value, and no number goes out without a source."""

import random
import time
from typing import Any

import pytest

from agent.guard import Guard, SentenceFeeder, Verdict, facts, split_sentences

SENTENCES = [
    ["Hello. ", "How are you? ", "Fine!"],
    ["Dr. Smith saw Mrs. Jones. ", "She left."],
    ["Take it, e.g. with food, i.e. at noon. ", "Rest."],
    ["It weighs 6.5 kg. ", "Good."],
    ["Order LK-10482. ", "It left."],
    ["No. 5 is free. ", "No. ", "It is taken."],
    ["It took approx. 3 days. ", "Done."],
    ["The U.S. office is shut. ", "Call later."],
    ["Come at 8 a.m. and wait. ", "Come at 8 a.m. ", "Then wait."],
    ["J. R. Smith wrote it. ", "Vitamin C. ", "Take it."],
    ["1. Take it. ", "2. Rest.\n", "3. Call."],
    ["Steps: 1. Take it. ", "2. Rest."],
    ["Choose:\n", "- one\n", "- two\n\n", "Thanks."],
    ["He said \"Stop.\" ", "I did."],
    ["**Note.** ", "Read it."],
    ["What?! ", "No..."],
    ["Wait... maybe. ", "Well... ", "Yes."],
    ["好的。", "你好吗？", "太好了！ ", "再见"],
    ["他说“好。” ", "我走了。"],
    ["OK.", "好的。"],
    ["See https://a.ie/x.html for more. ", "Bye."],
    ["It costs 5. ", "Then it rose to $6.50. ", "Ok."],
    ["\n\n Hello. ", "Bye."],
    ["Acme Inc. sells it, etc. and more. ", "We work at Acme Inc. ", "They pay."],
    ["no full stop"],
    [],
]

SAME = [  # two spellings, one set of facts
    ("1,200.00", "1200"),
    ("$1,200", "1200"),
    ("€1.200,50", "1200.5"),
    ("1,00,000", "100000"),
    ("USD1200", "1200"),
    ("1\u202f200", "1200"),
    ("$1.2k", "1200"),
    ("$5m", "5 million"),
    ("3bn", "3,000,000,000"),
    ("twelve", "12"),
    ("thirty days", "30 days"),
    ("twenty-four hours", "24 hours"),
    ("two hundred and fifty", "250"),
    ("three thousand four hundred", "3,400"),
    ("a hundred", "100"),
    ("two dozen", "24"),
    ("twice a day", "2 a day"),
    ("two and a half hours", "2.5 hours"),
    ("3rd", "third"),
    ("the 21st", "twenty-first"),
    ("nine one one", "911"),
    ("6,5 kg", "6.5kg"),
    (".5 mg", "0.5 mg"),
    ("1/2 tablet", "0.5 tablet"),
    ("½ tablet", "1/2 tablet"),
    ("2½", "2.5"),
    ("minus five", "-5"),
    ("−5 °C", "-5 °C"),
    ("five percent", "5%"),
    ("5 per cent", "5 %"),
    ("5-7%", "5% to 7%"),
    ("between 5 and 7 percent", "5% 7%"),
    ("21 November 2026", "2026-11-21"),
    ("Nov 21, 2026", "2026-11-21"),
    ("November 21st 2026", "2026-11-21"),
    ("the 21st of November, 2026", "2026-11-21"),
    ("21/11/2026", "2026-11-21"),
    ("11/21/2026", "2026-11-21"),
    ("21.11.26", "2026-11-21"),
    ("2026/11/21", "2026-11-21"),
    ("2026年11月21日", "2026-11-21"),
    ("二〇二六年十一月二十一日", "2026-11-21"),
    ("Nov 21", "21 November"),
    ("11月21日", "21 Nov"),
    ("November 2026", "2026年11月"),
    ("2026-11-21T08:00:00Z", "21 Nov 2026 at 8 am"),
    ("8 am", "08:00"),
    ("8.30 p.m.", "20:30"),
    ("8-10 am", "08:00 10:00"),
    ("noon", "12 pm"),
    ("12 am", "midnight"),
    ("下午3点半", "15:30"),
    ("上午八点", "8 am"),
    ("二十四小时", "24"),
    ("三天", "3"),
    ("第三", "3"),
    ("三百五十元", "350"),
    ("5万", "50000"),
    ("１２３", "123"),
    ("百分之五", "5%"),
    ("087 123 4567", "0871234567"),
    ("(555) 123-4567", "555-123-4567"),
    ("+353 (0)87 123 4567", "+353871234567"),
]

FACTS = [
    ("24/7", {"24/7"}),
    ("7-10 days", {"7", "10"}),
    ("120/80", {"120", "80"}),
    ("1,2,3", {"1", "2", "3"}),
    ("2/3", {"2/3"}),
    ("call 911", {"911"}),
    ("1. Take 2", {"2"}),
    ("Step 1: take 2", {"2"}),
    ("it says so [2]", set()),
    ("https://a.ie/2024/12", set()),
    ("B12, COVID-19, omega-3, LK-10482, v1.2.3", set()),
    ("[PHONE_1]", set()),
    ("one day, at first, a second", set()),
    ("weight, often, someone, attention", set()),
    ("三明治很好，十分好，千万不要，一个", set()),
    ("500mg", {"500"}),
    ("2x", {"2"}),
    ("five and six", {"5", "6"}),
    ("Only 5 may come", {"5"}),
    ("5m", {"5"}),
    ("3/4/2026", {"2026-04-03"}),
    ("-5% and 5", {"-5%", "5"}),
    ("192.168.1.1", {"192.168.1.1"}),
    ("", set()),
]

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
    "Your order LK-99999 is fine.",
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
]


def guard(*sources: str, **options: Any) -> Guard:
    return Guard(sources or SOURCES, **{"numbers_need_source": True, "unknown": UNKNOWN} | options)


@pytest.mark.parametrize("sentences", SENTENCES, ids=lambda sentences: "".join(sentences)[:30])
def test_a_text_is_cut_where_a_reader_would(sentences: list[str]) -> None:
    assert split_sentences("".join(sentences)) == sentences


@pytest.mark.parametrize("sentences", SENTENCES, ids=lambda sentences: "".join(sentences)[:30])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_streamed_text_is_cut_the_same_way(sentences: list[str], size: int) -> None:
    text = "".join(sentences)
    feeder = SentenceFeeder()
    found = [s for i in range(0, len(text), size) for s in feeder.feed(text[i : i + size])]
    rest = feeder.close()
    assert [*found, rest][: len(sentences)] == sentences
    assert feeder.close() == ""


def test_nothing_is_lost_between_the_sentences() -> None:
    rng = random.Random(5)
    for _ in range(300):
        text = "".join(rng.choices("aB1 .!?。？\n\"')e.g.Mr. ", k=rng.randint(0, 80)))
        feeder, found, place = SentenceFeeder(), [], 0
        while place < len(text):
            step = rng.randint(1, 9)
            found += feeder.feed(text[place : place + step])
            place += step
        assert "".join(found) + feeder.close() == text
        assert "".join(split_sentences(text)) == text


@pytest.mark.parametrize(("one", "other"), SAME)
def test_numbers_compare_by_value(one: str, other: str) -> None:
    assert facts(one) == facts(other) != set()


@pytest.mark.parametrize(("text", "expected"), FACTS)
def test_facts_are_the_numbers_of_a_text(text: str, expected: set[str]) -> None:
    assert facts(text) == expected


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


@pytest.mark.parametrize(
    "seed", ["a", "1", "1,", "1.", "1,23", "nine ", "九", "May ", "a-1", "-", " ", "\n", "https://", "."]
)
def test_time_is_linear_in_the_text(seed: str) -> None:
    text = (seed * 100_000)[:100_000]
    start = time.process_time()
    facts(text)
    split_sentences(text)
    assert time.process_time() - start < 2.0
