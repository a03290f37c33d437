"""Who asks to be forgotten leaves no word in the database or the home, others lose nothing, and who learned is named."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import sqlalchemy as sa
from filelock import FileLock
from taught import library, say, tell
from test_lineage import publish, row

from agent import paths
from agent.domain import Domain
from agent.errors import DataError
from agent.registry import Registry
from agent.schema import authors, feedback, forgotten, handoffs, reviews, sessions, signals, turns
from agent.settings import Settings
from agent.store import Store
from tuning import leftovers
from tuning.dataset import build
from tuning.exchange import export_feedback, import_feedback
from tuning.forget import forget, words
from tuning.harvest import harvest
from tuning.review import decide

TABLES = (authors, feedback, forgotten, handoffs, reviews, sessions, signals, turns)
WORD = "Zwetschgenknoedel"
ON_FILE = pytest.mark.parametrize("db", ["sqlite"], indirect=True)  # what is about a file's bytes


@pytest.fixture
def domain(tmp_path: Path) -> Domain:
    return library(tmp_path / "library")


@pytest.fixture
def store(db: Store) -> Store:
    return db


@pytest.fixture
def settings(home: Path) -> Settings:
    return Settings(home)


@pytest.fixture
def turn_of(store: Store, domain: Domain) -> dict[str, str]:
    """Ann's turn with a hand-off, a weak signal and Bob's feedback, and Bob's turn with feedback of both."""
    found = {}
    for name in ("ann", "bob"):
        store.session(f"s-{name}", domain.name, name)
        found[name] = say(store, domain, f"Where do I find {WORD if name == 'ann' else 'Pfannkuchen'}?", session=f"s-{name}")
    tell(store, found["ann"], "intent", "opening", "bob")
    tell(store, found["bob"], "correction", f"Ask Ann about {WORD}.", "ann")
    tell(store, found["bob"], "up", None, "bob")
    with store.writing() as at:
        at.execute(handoffs.insert().values(turn=found["ann"], session="s-ann", domain=domain.name, reason="r", created="c",
                                            status="waiting", conversation=[{"question": WORD, "reply": WORD}]))
        at.execute(signals.insert().values(turn=found["ann"], name="disputed", detail=WORD, created="c"))
        at.execute(authors.insert().values([{"name": name, "status": "trusted", "created": "c"} for name in found]))
    return found


def everything(store: Store) -> dict[str, list[Any]]:
    with store.reading() as at:
        return {table.name: sorted(map(str, at.execute(sa.select(table)).all())) for table in TABLES}


def bytes_of(store: Store) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(store.path.parent.glob(f"{store.path.name}*")))


def test_all_that_a_person_wrote_and_said_goes_and_what_is_others_stays(store, domain, settings, turn_of):
    table = forget("ann", [domain], settings, store)
    assert {name: count for name, count in table["deleted"].items() if count} == {
        "feedback": 2, "signals": 1, "handoffs": 1, "turns": 1, "sessions": 1, "authors": 1}
    with store.reading() as at:
        assert at.execute(sa.select(turns.c.id)).scalars().all() == [turn_of["bob"]]
        assert at.execute(sa.select(feedback.c.author, feedback.c.kind)).all() == [("bob", "up")]
        assert at.execute(sa.select(authors.c.name)).scalars().all() == ["bob"]
        assert len(at.execute(sa.select(forgotten.c.key)).scalar_one()) == 64
    assert store.check() == []


@ON_FILE
def test_no_word_and_no_name_is_left_in_the_databases_bytes(store, domain, settings, turn_of):
    tell(store, turn_of["bob"], "comment", "Quittenbrot " * 2000, "ann")
    with store.writing() as at:
        at.exec_driver_sql("PRAGMA secure_delete=OFF")  # taken back by a SQLite that leaves words on free pages
        at.execute(feedback.delete().where(feedback.c.kind == "comment"))
        at.execute(sessions.update().where(sessions.c.id == "s-ann").values(author="annegret-91"))
    assert all(word in bytes_of(store) for word in (WORD.encode(), b"Quittenbrot", b"annegret-91"))
    tell(store, turn_of["bob"], "comment", f"{WORD}!", "annegret-91")
    assert forget("ann", [domain], settings, store)["wiped"] and forget("annegret-91", [domain], settings, store)["wiped"]
    assert not any(word in bytes_of(store) for word in (WORD.encode(), b"Quittenbrot", b"annegret-91"))
    assert b"Pfannkuchen" in bytes_of(store) and store.check() == []


@ON_FILE
def test_a_journal_that_somebody_reads_is_said_to_be_there_still(store, domain, settings, turn_of):
    with store.reading() as reader:
        reader.execute(sa.select(turns)).all()  # a view of before, which the journal has to keep
        with store.writing() as other:
            other.exec_driver_sql("PRAGMA busy_timeout=50")  # or the wipe would wait for half a minute
        assert leftovers.wipe(store) is False
    assert leftovers.wipe(store) is True


def test_a_dry_run_counts_the_same_and_changes_nothing(store, domain, settings, turn_of):
    export_feedback(store, domain, settings.home / "said.jsonl")
    before, file = everything(store), (settings.home / "said.jsonl").read_bytes()
    told = forget("ann", [domain], settings, store, dry_run=True)
    assert everything(store) == before and (settings.home / "said.jsonl").read_bytes() == file
    done = forget("ann", [domain], settings, store)
    assert done["deleted"] == told["deleted"] and done["files"] == told["files"] == {str(settings.home / "said.jsonl"): 2}
    assert words(told)[0].startswith("Would be deleted: 2 feedback") and words(done)[0].startswith("Deleted: 2 feedback")


@pytest.mark.parametrize("author, hint", [("An", "did you mean 'ann'"), ("ANN", "did you mean 'ann'"),
                                          ("Xerxes", "feedback list"), ("", "without a name")])
def test_somebody_who_is_not_there_is_refused_with_who_might_be_meant(store, domain, settings, turn_of, author, hint):
    before = everything(store)
    with pytest.raises(DataError, match=hint):
        forget(author, [domain], settings, store)
    assert everything(store) == before


@ON_FILE
def test_a_forgotten_word_is_searched_for_in_vain_and_others_are_found(store, domain, settings, turn_of):
    say(store, domain, "ЩЮЪ", session="s-ann")
    three = "щюъ".encode()[1:]  # as the index alone has it; the first byte may be shared with the entry before
    assert [row["turn"] for row in store.search(WORD)] == [turn_of["ann"]] and three in bytes_of(store)
    store.rename("s-ann", f"All of {WORD}")
    forget("ann", [domain], settings, store)
    assert store.search(WORD) == store.search("щюъ") == []
    assert three not in bytes_of(store) and WORD.encode() not in bytes_of(store)
    assert [row["turn"] for row in store.search("pfannkuchen")] == [turn_of["bob"]]


def test_a_name_on_others_handoffs_goes_and_what_it_had_taken_waits_again(store, domain, settings, turn_of):
    assert store.take(turn_of["ann"], "cy")["by"] == "cy"
    store.hand_off(turn_of["bob"], "cy", f"{WORD} are urgent")
    assert forget("cy", [domain], settings, store)["deleted"]["names_on_handoffs"] == 2
    assert {(row["turn"], row["author"], row["by"], row["reason"]) for row in store.handoffs()} == {
        (turn_of["ann"], "", "", "r"), (turn_of["bob"], "", "", "asked for by a person")}


def test_again_is_nothing_more(store, domain, settings, turn_of):
    forget("ann", [domain], settings, store)
    before = everything(store)
    assert not any(forget("ann", [domain], settings, store)["deleted"].values()) and everything(store) == before


def test_reviews_of_their_rows_go_and_what_they_decided_about_others_stays_without_their_name(store, domain, settings, turn_of):
    rows = {(each.author, each.turn): each for each in harvest(store, domain)[0]}
    decide(store, domain, rows["ann", turn_of["bob"]], "accept", "cy")
    decide(store, domain, rows["bob", turn_of["ann"]], "reject", "cy")  # about Ann's words
    decide(store, domain, rows["bob", turn_of["bob"]], "accept", "ann")
    forget("ann", [domain], settings, store)
    with store.reading() as at:
        left = at.execute(sa.select(reviews.c.row, reviews.c.decision, reviews.c.reviewer)).all()
    assert left == [(rows["bob", turn_of["bob"]].id, "accept", "")]


def test_an_edit_of_a_row_that_is_gone_goes_and_one_of_a_living_row_stays(store, domain, settings, turn_of):
    rows = {each.author: each for each in harvest(store, domain)[0] if each.turn == turn_of["bob"]}
    decide(store, domain, rows["ann"], "edit", "cy", answer=f"{WORD} are on the shelf.")
    decide(store, domain, rows["bob"], "edit", "cy", answer="They are on the shelf.")
    store.feedback(turn_of["bob"], "ann", "correction", "Something else.")  # the edited row is no more
    forget("ann", [domain], settings, store)
    with store.reading() as at:
        assert at.execute(sa.select(reviews.c.answer)).scalars().all() == ["They are on the shelf."]


def test_rows_in_files_of_the_home_go_and_other_lines_stay_byte_for_byte(store, domain, settings, turn_of):
    home = settings.home
    export_feedback(store, domain, home / "exports" / "said.parquet")
    log = paths.shadow(home, domain.name)
    log.parent.mkdir()
    own = f'{{"turn": "{turn_of["bob"]}"}}\nnot json\n'
    log.write_text(f'{own}{{"turn": "{turn_of["ann"]}"}}\n', encoding="utf-8")
    (home / "models").mkdir()
    (home / "models" / "words.jsonl").write_text('{"author": "ann"}\n', encoding="utf-8")
    assert forget("ann", [domain], settings, store)["files"] == {str(home / "exports" / "said.parquet"): 2, str(log): 1}
    assert log.read_text(encoding="utf-8") == own and (home / "models" / "words.jsonl").stat().st_size
    rows = pq.read_table(home / "exports" / "said.parquet").to_pylist()
    assert [(each["author"], each["turn"]) for each in rows] == [("bob", turn_of["bob"])]


def test_a_file_that_cannot_be_cleaned_stops_it_before_anything_is_deleted(store, domain, settings, turn_of):
    export_feedback(store, domain, settings.home / "said.jsonl")
    (settings.home / ".said.jsonl.new").mkdir()
    before = everything(store)
    with pytest.raises(DataError, match="said.jsonl cannot be cleaned"):
        forget("ann", [domain], settings, store)
    assert everything(store) == before


def test_unfinished_trainings_of_their_domains_are_given_up(store, domain, settings, turn_of):
    mine, other = (paths.training(settings.home) / f"{name}-{'a1' * 8}" for name in (domain.name, "finance"))
    for folder in (mine, other):
        (folder / "bundle").mkdir(parents=True)
    assert forget("ann", [domain], settings, store)["trainings"] == [mine.name]
    assert not mine.exists() and other.exists()


def test_nothing_is_deleted_while_a_retraining_runs(store, domain, settings, turn_of):
    paths.training(settings.home).mkdir(parents=True)
    before = everything(store)
    with FileLock(paths.training(settings.home) / f"{domain.name}.lock"), pytest.raises(DataError, match="retrained just now"):
        forget("ann", [domain], settings, store)
    assert everything(store) == before


def test_a_domain_whose_folder_is_not_known_is_asked_for(store, settings, turn_of):
    before = everything(store)
    with pytest.raises(DataError, match="'template', whose folder is not known here.*--domain"):
        forget("ann", [], settings, store)
    assert everything(store) == before


def test_every_bundle_that_learned_from_them_is_named_wherever_it_is(store, domain, settings, turn_of, tmp_path):
    registry = Registry(domain, settings.home)
    clean = publish(registry, tmp_path / "b2", [row(author="bob", turn=turn_of["bob"])])
    publish(registry, tmp_path / "b3", [row(author="ann", turn=turn_of["bob"])], "r3", "g3", clean)
    publish(registry, tmp_path / "b4", [row(author="bob", turn=turn_of["ann"])], "r4", "g4", clean)  # Bob, about Ann's words
    publish(registry, tmp_path / "b5", [], "r5", "g5", clean)
    registry.promote(4, None, "r", "b")
    (settings.home / "registry" / "elsewhere").mkdir()
    registry.get("3").path.rename(settings.home / "registry" / "elsewhere" / "0003")
    table = forget("ann", [domain], settings, store)
    assert [(each["bundle"], each["rows"], each["alias"], each["instead"]) for each in table["bundles"]] == [
        ("elsewhere@0003", 1, [], None), ("template@0004", 1, ["champion"], "template@0005")]
    said = "\n".join(table["next"])
    assert "`retune retrain template` makes one without them; until then `retune promote template template@0005`" in said
    assert "Do not go back to elsewhere@0003" in said and json.loads(json.dumps(table)) == table


def test_the_next_dataset_and_an_old_export_bring_nothing_back(store, domain, settings, turn_of, tmp_path):
    export_feedback(store, domain, tmp_path / "old.jsonl")  # outside of the home
    lines = [line for line in (tmp_path / "old.jsonl").read_text(encoding="utf-8").splitlines() if turn_of["bob"] in line]
    (tmp_path / "old.jsonl").write_text("\n".join(lines), encoding="utf-8")  # Ann's own turn would be an unknown one
    forget("ann", [domain], settings, store)
    read = import_feedback(store, domain, tmp_path / "old.jsonl", tmp_path)
    assert (read.forgotten, read.done["unchanged"], read.done["written"]) == (1, 1, 0)
    made = build(domain, store)
    rows = (*made.generator, *made.router, *made.down, *(each.row for each in made.waiting))
    assert {each.author for each in rows} == {"bob"}
