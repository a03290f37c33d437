"""A passage is found by its text and by the questions that are known to be answered by it."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from agent.domain import Domain
from agent.encoder import KEPT, Encoder, Shared
from agent.models import find
from agent.retrieve import Index, words
from agent.settings import Settings
from agent.types import Passage

PASSAGES = [Passage("post#1", "Postage", "Who pays", "You pay the postage of a return.", "Terms", frozenset()),
            Passage("time#1", "Returns", "How long", "You have 30 days from delivery.", "Terms", frozenset()),
            Passage("wash#1", "Wool", "Washing", "Wash wool at 30 degrees.", "Label", frozenset())]
ASKED = [("my jumper shrank, what did I do wrong", "wash#1"), ("is it too late to send it back", "time#1")]


@pytest.fixture
def encoder(settings: Settings) -> Encoder:
    return Encoder(find("minilm", settings))


def index(encoder: Encoder, asked: list[tuple[str, str]]) -> Index:
    texts = [f"{passage.title}. {passage.heading}. {passage.text}" for passage in PASSAGES] + [text for text, _ in asked]
    return Index(PASSAGES, asked, encoder.embed(texts), encoder)


def first(found: list[Passage]) -> str:
    return found[0].id


def test_the_passage_that_answers_comes_first(encoder: Encoder) -> None:
    plain = index(encoder, [])
    assert first(plain.search("who has to pay for sending it", 2)) == "post#1"
    assert first(plain.search("how many days do I have", 2)) == "time#1"
    assert first(plain.search("wool", 5)) == "wash#1"


def test_a_passage_that_stands_out_is_shown_alone(encoder: Encoder) -> None:
    known = index(encoder, ASKED)
    assert [passage.id for passage in known.search("is it too late to send it back?", 2)] == ["time#1"]
    assert len(known.search("is it too late to send it back?", 5, clear=9.0)) == 3
    assert len(known.search("hello there", 2)) == 2


def test_a_known_question_leads_to_its_passage_unless_it_is_to_be_new(encoder: Encoder) -> None:
    odd = ("zebra crossing", "post#1")
    known = index(encoder, [*ASKED, odd])
    assert first(known.search("zebra crossing", 1)) == "post#1"
    with_others = [passage.id for passage in index(encoder, ASKED).search("zebra crossing", 3, clear=9.0)]
    assert [passage.id for passage in known.search("zebra crossing", 3, unseen=True, clear=9.0)] == with_others


def test_a_question_without_words_still_finds_something(encoder: Encoder) -> None:
    assert len(index(encoder, ASKED).search("???", 2)) >= 1


def test_vectors_are_kept_and_made_again_when_a_text_changes(encoder: Encoder, shop_folder: Path, tmp_path: Path) -> None:
    domain, cache = Domain.load(shop_folder), tmp_path / "index"
    Index.build(domain, encoder, "one", cache)
    kept, = cache.iterdir()
    before = kept.stat().st_mtime_ns
    Index.build(domain, encoder, "one", cache)
    assert [file.stat().st_mtime_ns for file in cache.iterdir()] == [before]
    assert np.load(kept).shape == (len(domain.passages) + len(domain.asked()), 384)
    (shop_folder / "questions.jsonl").write_text('{"id": "a1", "question": "late?", "evidence": ["borrowing#2"]}\n', encoding="utf-8")
    Index.build(Domain.load(shop_folder), encoder, "one", cache)
    Index.build(domain, encoder, "another encoder", cache)
    assert len(list(cache.iterdir())) == 3


@pytest.fixture
def shop_folder(tmp_path: Path) -> Path:
    import shutil

    from agent import paths

    return Path(shutil.copytree(paths.DOMAINS / "_template", tmp_path / "library"))


def test_words_are_stemmed_lightly_and_chinese_is_read_in_pairs() -> None:
    assert words("The returned parcels, paid twice") == ["return", "parcel", "paid", "twice"]
    assert words("我要退货") == ["我要", "要退", "退货"]


def test_a_vector_that_was_computed_ahead_finds_what_the_question_finds(encoder: Encoder) -> None:
    known = index(encoder, ASKED)
    ahead = known.ahead("wool").result()
    assert known.search("wool", 3, clear=9.0, vector=ahead) == known.search("wool", 3, clear=9.0)
    assert first(known.search("who has to pay for sending it", 1, vector=ahead)) == "wash#1"  # it is the vector that is used


def test_two_who_ask_for_the_same_text_at_once_share_one_computation(encoder):
    class Counting:
        precision, calls = "int8", 0

        def embed(self, texts):
            self.calls += 1
            time.sleep(0.05)
            return encoder.embed(texts)

    inner = Counting()
    shared = Shared(inner)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(shared.embed, [["where is my parcel"]] * 4))
    assert inner.calls == 1 and all(np.array_equal(each, encoder.embed(["where is my parcel"])) for each in found)
    for number in range(KEPT + 1):
        shared.embed([f"text {number}"])
    shared.embed(["where is my parcel"])
    assert inner.calls == KEPT + 3 and shared.embed(["a", "b"]).shape == (2, 384) and inner.calls == KEPT + 4


def test_a_text_that_could_not_be_computed_is_tried_again(encoder):
    class Failing:
        precision, fails = "int8", True

        def embed(self, texts):
            if self.fails:
                raise MemoryError
            return encoder.embed(texts)

    inner = Failing()
    shared = Shared(inner)
    with pytest.raises(MemoryError):
        shared.embed(["hello"])
    inner.fails = False
    assert shared.embed(["hello"]).shape == (1, 384)
