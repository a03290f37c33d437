"""Numbers compare by value, however they are written, and ids by what is written."""

import time

import pytest

from agent.facts import facts

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
    ("B12, COVID-19, omega-3, v1.2.3", set()),
    ("LK-99999, PF-999 and AP-9999.", {"LK-99999", "PF-999", "AP-9999"}),
    ("订单LK-99999已发货", {"LK-99999"}),
    ("（LK‑10482）", {"LK-10482"}),
    ("LK-10482-B, LK-10482.pdf, LK-10482X", {"LK-10482-B", "LK-10482", "LK-10482X"}),
    ("L-999, LK-99, lk-99999, Lk-99999, LK99999, omega-369", set()),
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


@pytest.mark.parametrize(("one", "other"), SAME)
def test_numbers_compare_by_value(one: str, other: str) -> None:
    assert facts(one) == facts(other) != set()


@pytest.mark.parametrize(("text", "expected"), FACTS)
def test_facts_are_the_numbers_of_a_text(text: str, expected: set[str]) -> None:
    assert facts(text) == expected


def test_a_loose_reading_takes_an_id_in_any_case() -> None:
    assert facts("where is lk-10482?", loose=True) == facts("LK-10482") == {"LK-10482"}


def test_a_loose_reading_takes_the_quiet_words_as_numbers() -> None:
    assert facts("one tablet, and a half", loose=True) == {"1", "0.5"}
    assert facts("one tablet, and a half") == set()


@pytest.mark.parametrize(
    "seed",
    ["a", "1", "1,", "1.", "1,23", "nine ", "九", "May ", "a-1", "AB-", "AB-123-", "-", " ", "\n", "https://", "."],
)
def test_time_is_linear_in_the_text(seed: str) -> None:
    text = (seed * 100_000)[:100_000]
    start = time.process_time()
    facts(text)
    assert time.process_time() - start < 2.0
