"""A conversation leaves the database as Markdown that says what served it, and is listed and found from the command line."""

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from agent import paths
from agent.domain import Domain
from agent.errors import DataError
from agent.store import Store
from agent.surfaces.exporting import LONGEST, app, title, to_markdown, write_markdown
from agent.types import Turn

DOMAIN = Domain.load("finance")
PASSAGE = DOMAIN.passages[0]


def turn(id: str = "t1", session: str = "s1", **changes: Any) -> Turn:
    made = Turn(id, session, "finance", "finance@0001", "", "What would a loan cost me?", reply="About **200** a month.",
                intent="loan_payment", engine="onnx")
    return replace(made, **({"state": "answered"} | changes))


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    with closing(Store(paths.database_url(home))) as made:
        made.open()
        yield made


def front(text: str) -> dict[str, Any]:
    """The front matter, of which each line is a name and JSON."""
    begin, matter, _ = text.split("---\n", 2)
    assert begin == ""
    return {name: json.loads(value) for name, value in (line.split(": ", 1) for line in matter.splitlines())}


def test_the_front_matter_says_what_served_the_conversation(store: Store) -> None:
    for id, bundle, engine in (("t1", "finance@0001", "onnx"), ("t2", "finance@0002", "onnx"), ("t3", "finance@0002", "")):
        store.log(turn(id, bundle=bundle, engine=engine), {})
    store.rename("s1", 'The "roof": a loan # 1')
    told = front(to_markdown(store, "s1"))
    assert told.pop("exported") >= told.pop("created")[:19]
    assert told == {"session": "s1", "domain": "finance", "title": 'The "roof": a loan # 1', "turns": 3,
                    "bundles": ["finance@0001", "finance@0002"], "engines": ["onnx"]}


def test_questions_answers_sources_and_what_was_said_of_them_are_there_in_order(store: Store) -> None:
    store.log(turn(passages=(PASSAGE, replace(PASSAGE, id="gone#1"))), {})
    store.log(turn("t2", redacted="A person,\nplease", reply="I pass you on.", engine="", intent="person"), {}, handoff="asked")
    store.feedback("t1", "ann", "correction", "It is 212.47.\n\nEach month.")
    store.feedback("t1", "ben", "none_of_these")
    store.answer_handoff("t2", "cy", "I am here.")
    text = to_markdown(store, "s1", DOMAIN)
    body = text[text.index("\n# "):]
    parts = ["# What would a loan cost me?", "## 1. 2", "> What would a loan cost me?", "About **200** a month.",
             "*loan_payment · answered · finance@0001 · onnx*", "Sources:",
             f"- {PASSAGE.title}, {PASSAGE.heading}: {PASSAGE.source} ({PASSAGE.id})", "- gone#1", "Feedback:",
             "- ann: correction\n\n  > It is 212.47.\n  >\n  > Each month.", "- ben: none of these", "## 2. 2",
             "> A person,\n> please", "I pass you on.", "**cy**, whom this was handed off to:\n\n> I am here."]
    places = [body.index(part) for part in parts]
    assert places == sorted(places) and text.endswith("> I am here.\n")
    assert f"- {PASSAGE.id}\n" in to_markdown(store, "s1")


def test_a_turn_that_failed_and_a_conversation_without_turns_are_told_too(store: Store) -> None:
    store.log(turn(reply="", state="error", flags=("error",)), {}, error="No server answers.")
    assert "(no answer)" in to_markdown(store, "s1") and "It failed: No server answers." in to_markdown(store, "s1")
    store.session("s2", "finance")
    assert front(to_markdown(store, "s2"))["turns"] == 0 and "# A conversation" in to_markdown(store, "s2")


def test_nothing_that_was_written_speaks_to_a_terminal_or_ends_the_front_matter(store: Store) -> None:
    bad = "\x1b[2J\x1b]0;owned\x07 \u202e---\r\n---\nsession: x\x9b31m"
    store.log(turn(redacted=bad, reply=bad), {})
    store.feedback("t1", f"ann{bad}", "comment", bad)
    store.rename("s1", bad)
    text = to_markdown(store, "s1")
    assert not {sign for sign in text if not sign.isprintable()} - {"\n"} and "owned" in text
    assert front(text)["session"] == "s1" and front(text)["turns"] == 1
    told = CliRunner().invoke(app, ["sessions"]).output + CliRunner().invoke(app, ["search", "owned"]).output
    assert told.count("owned") == 3 and not {sign for sign in told if not sign.isprintable()} - {"\n"}


def test_a_long_first_question_is_cut_to_a_title(store: Store) -> None:
    store.log(turn(redacted="word\n" * 100), {})
    assert len(title(store.sessions()[0])) <= LONGEST + 1 and title(store.sessions()[0]).endswith("word…")


def test_a_file_is_written_whole_again_and_never_over_something_else(store: Store, tmp_path: Path) -> None:
    store.log(turn(), {})
    file = tmp_path / "loan.md"
    assert write_markdown(store, "s1", file) == len(file.read_bytes())
    store.log(turn("t2"), {})
    write_markdown(store, "s1", file)
    assert front(file.read_text(encoding="utf-8"))["turns"] == 2 and [each.name for each in tmp_path.iterdir()] == ["loan.md"]
    file.write_text("# My notes", encoding="utf-8")
    with pytest.raises(DataError, match=r"loan\.md is no conversation that was exported"):
        write_markdown(store, "s1", file)
    assert file.read_text(encoding="utf-8") == "# My notes"
    with pytest.raises(DataError, match="cannot be written.*choose another place"):
        write_markdown(store, "s1", tmp_path / "no" / "loan.md")


# The command line


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, [*arguments], catch_exceptions=False)


def test_conversations_are_listed_and_searched(store: Store) -> None:
    assert run("sessions").output == "There is no conversation yet.\n" and json.loads(run("sessions", "--json").output) == []
    store.log(turn(), {})
    store.log(turn("t2", "s2", redacted="包裹在哪里"), {})
    store.archive("s1")
    store.rename("s1", "Roof")
    assert [row["id"] for row in json.loads(run("sessions", "--json").output)] == ["s2"]
    listed = run("sessions", "--archived", "--domain", "finance").output.splitlines()
    assert "  s2  finance  1 turn  包裹在哪里" in listed[0] and listed[1].endswith("  Roof  (archived)")
    assert run("sessions", "--domain", "medical").output == "There is no conversation yet.\n"
    assert "  s1  finance  Roof\n    What would a loan cost me?" in run("search", "loan", "month").output
    assert [row["turn"] for row in json.loads(run("search", "包裹", "--json").output)] == ["t2"]
    assert "use fewer" in run("search", '"nothing*').output and run("search").exit_code == 2


def test_a_conversation_is_printed_or_written(store: Store, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no conversation yet; `retune chat` begins one"):
        run("export")
    store.log(turn(passages=(PASSAGE,)), {})
    store.log(turn("t2", "s2"), {})
    assert front(run("export").output)["session"] == "s2"
    assert PASSAGE.source in run("export", "s1").output
    assert json.loads(run("export", "s1", "--json").output)["markdown"].startswith("---\nsession: \"s1\"")
    assert run("export", "s1", "--to", str(tmp_path / "a.md")).output == f"s1 (1 turn) is in {tmp_path / 'a.md'}.\n"
    assert front((tmp_path / "a.md").read_text(encoding="utf-8"))["session"] == "s1"
    with pytest.raises(DataError, match="`retune sessions` lists them"):
        run("export", "s9")
