"""A bundle tells which rows it learned and whose they were; a part taken over unchanged learned elsewhere."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from taught import library, say, tell

from agent.domain import Domain
from agent.errors import BundleError
from agent.registry import Bundle, Registry
from agent.schema import forgotten, sessions
from agent.settings import Settings
from agent.store import Store
from agent.teaching import forgotten_key
from tuning import lineage
from tuning.rows import Row


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return library(tmp_path / "library")


@pytest.fixture
def store(db: Store) -> Store:
    return db


@pytest.fixture
def registry(domain: Domain, home: Path) -> Registry:
    return Registry(domain, home)


def publish(registry: Registry, built: Path, rows: Sequence[Row] = (), router: str = "r", generator: str = "g",
            parent: Bundle | None = None, goes_on: Sequence[str] = ()) -> Bundle:
    """A bundle whose parts hold these words; the same words are the same part."""
    for part, said in (("router", router), ("generator", generator)):
        (built / part).mkdir(parents=True)
        (built / part / "weights").write_text(said, encoding="utf-8")
    lineage.write(built, rows)
    verdict = {"verdict": {"decision": "promote"}} if parent else {}
    return registry.publish(built, {"parent": parent and parent.name, "made": "2026-03-02", "recipe": "default",
                                    "goes_on": list(goes_on), **verdict})


def row(signal: str = "intent", author: str = "ann", turn: str = "t1", part: str = "router") -> Row:
    return Row(part, signal, "Unmistakable words?", intent="borrowing", turn=turn, author=author, weight=2)


def test_a_line_names_row_turn_and_weight_and_holds_neither_words_nor_names(registry, tmp_path):
    made = publish(registry, tmp_path / "one", [row()])
    assert lineage.read(made) == [{"row": row().id, "part": "router", "signal": "intent", "turn": "t1",
                                   "author": forgotten_key("ann"), "weight": 2}]
    text = (made.path / lineage.FILE).read_text(encoding="utf-8")
    assert "ann" not in text and "Unmistakable" not in text


def test_the_domains_own_rows_are_no_lineage_and_a_bundle_without_the_file_has_none(registry, tmp_path):
    made = publish(registry, tmp_path / "one", [row("seed")])
    assert lineage.read(made) == []
    (made.path / lineage.FILE).unlink()
    assert lineage.read(made) == []


@pytest.mark.parametrize("damage", ["{not json\n", '{"row": 1}\n', "[]\n", "\xff"])
def test_a_damaged_line_is_named_with_the_bundle(registry, tmp_path, damage):
    made = publish(registry, tmp_path / "one", [row()])
    (made.path / lineage.FILE).chmod(0o644)
    (made.path / lineage.FILE).write_bytes(damage.encode("latin-1"))
    with pytest.raises(BundleError, match=f"{made.name}.*retune versions"):
        lineage.read(made)


def test_who_taught_a_part_taught_every_bundle_that_took_it_over(registry, tmp_path):
    first = publish(registry, tmp_path / "one", [row(author="ann"), row(author="bob", part="generator")])
    second = publish(registry, tmp_path / "two", [row(author="cy")], router="r2")  # the generator is the first's
    third = publish(registry, tmp_path / "three", [row(author="cy")], router="r3", generator="g3")
    assert lineage.learned_from(registry, "ann") == [first]
    assert lineage.learned_from(registry, "bob") == [first, second]
    assert lineage.learned_from(registry, "cy") == [second, third]
    assert lineage.learned_from(registry, "dee") == []


def test_rows_of_a_part_that_was_taken_over_unchanged_taught_nothing(registry, tmp_path):
    first = publish(registry, tmp_path / "one")
    publish(registry, tmp_path / "two", [row("down", "bob", part="generator")], router="r2")
    assert lineage.learned_from(registry, "bob") == []
    assert lineage.taught(registry.versions(), first) == []


def test_what_others_said_about_a_persons_turns_is_learned_from_the_person_too(registry, tmp_path):
    made = publish(registry, tmp_path / "one", [row(author="reviewer", turn="t9")])
    assert lineage.learned_from(registry, "ann") == [] and lineage.learned_from(registry, "ann", ["t9"]) == [made]


def test_a_trace_counts_by_author_and_signal_and_shows_questions_that_are_still_there(domain, home, store, registry, tmp_path):
    turn = say(store, domain, "How long may I keep it?")
    tell(store, turn, "intent", "borrowing", author="ann")
    starter = publish(registry, tmp_path / "one")
    publish(registry, tmp_path / "two", [row(turn=turn), row("up", "ann", turn, "generator"), row(author="gone", turn="t0")],
            "r2", "g2", starter)
    with store.writing() as at:
        at.execute(forgotten.insert().values(key=forgotten_key("gone"), created="2026-03-03"))
    table = lineage.trace(domain, Settings(home), store, "3")
    assert (table["bundle"], table["verdict"]) == ("template@0003", "promote")
    assert table["rows"] == {"router": 2, "generator": 1} and table["signals"] == {"intent": 2, "up": 1}
    assert table["authors"] == {"ann": {"intent": 1, "up": 1}, "(forgotten)": {"intent": 1}}
    assert [(line["turn"], line["question"]) for line in table["lines"]] == [
        (turn, "How long may I keep it?"), ("t0", None), (turn, "How long may I keep it?")]
    assert [each["bundle"] for each in table["parents"]] == ["template@0002"]
    assert json.loads(json.dumps(table)) == table
    said = "\n".join(lineage.words(table))
    assert "2 for the router, 1 for the generator" in said and "(deleted)" in said and "after template@0002" in said


def test_a_version_that_is_not_there_is_refused_with_those_that_are(domain, home, store, registry, tmp_path):
    publish(registry, tmp_path / "one")
    with pytest.raises(BundleError, match="there are: template@0002"):
        lineage.trace(domain, Settings(home), store, "7")


def test_a_part_is_to_be_unlearned_once_its_turn_or_its_author_is_forgotten(domain, store, registry, tmp_path):
    turn, other = say(store, domain), say(store, domain)
    publish(registry, tmp_path / "one", [row(turn=turn, author="ann"), row("up", "bob", other, "generator")])
    made = publish(registry, tmp_path / "two", [row(turn=turn, author="ann")], "r2")  # with the generator of the first
    assert lineage.to_unlearn(registry.versions(), made, store) == set()
    with store.writing() as at:
        at.execute(forgotten.insert().values(key=forgotten_key("bob"), created="2026-03-03"))
    assert lineage.to_unlearn(registry.versions(), made, store) == {"generator"}
    with store.writing() as at:
        at.execute(sessions.delete().where(sessions.c.id == f"s-{turn}"))
    assert lineage.to_unlearn(registry.versions(), made, store) == {"router", "generator"}


def test_a_part_that_went_on_from_its_parent_learned_what_that_had_too(registry, tmp_path):
    first = publish(registry, tmp_path / "one", [row(turn="t1")], router="r1")
    both = [row(turn="t1"), row(turn="t2")]
    second = publish(registry, tmp_path / "two", both, router="r2", parent=first, goes_on=["router"])
    third = publish(registry, tmp_path / "three", [row(turn="t3")], router="r3", parent=second, goes_on=["router"])
    fresh = publish(registry, tmp_path / "four", [row(turn="t4")], router="r4", parent=third)
    bundles = registry.versions()
    assert [line["turn"] for line in lineage.taught(bundles, third)] == ["t3", "t1", "t2"]
    assert [line["turn"] for line in lineage.taught(bundles, fresh)] == ["t4"]
