"""Sentences are cut where a reader would, whole or streamed, and nothing is lost between them."""

import random
import time

import pytest

from agent.sentences import SentenceFeeder, split_sentences

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


@pytest.mark.parametrize(
    "seed",
    ["a", "1", "1,", "1.", "1,23", "nine ", "九", "May ", "a-1", "-", " ", "\n", "https://", "."],
)
def test_time_is_linear_in_the_text(seed: str) -> None:
    text = (seed * 100_000)[:100_000]
    start = time.process_time()
    split_sentences(text)
    assert time.process_time() - start < 1.0
