"""The review by its keys, on a small library's domain: every key is looked for in the store, and the queue in tuning's own."""

import asyncio
from contextlib import closing

import numpy as np
import pytest
import sqlalchemy as sa
from taught import bag, library, say, tell
from tui import SIZES, Typist, app_on, piloted, same_as_snapshot, stub, text_of, until

from agent.domain import Domain
from agent.schema import authors, reviews
from agent.settings import Settings
from agent.store import Store
from agent.surfaces.tui.reviewing import Reviewing
from agent.surfaces.tui.screens.review import ReviewScreen
from tuning.dataset import build
from tuning.review import decide

ALIKE = ("where can I park my car", "is there car parking", "can I park a car here", "parking for my car", "car parking")


@pytest.fixture
def domain(tmp_path):
    return library(tmp_path / "library")


@pytest.fixture
def store(home):
    with closing(Store(Settings.load(home=home).database_url)) as made:
        made.open()
        yield made


def four(store, domain):
    """Three labels and a correction that wait, the least sure first."""
    for text, sure in (("may dogs come in", 0.2), ("who has the key", 0.4), ("is there a lift", 0.6)):
        tell(store, say(store, domain, text, confidence=sure), "intent", "opening", "eve")
    tell(store, say(store, domain, "How long for a film?", "For 12 weeks.", confidence=0.9), "correction",
         "For 3 weeks at a time.", "eve")


def reviewed(home, domain, **given):
    """The app on that domain and store, with an encoder of hashed words."""
    settings = Settings.load(home=home, **given)
    return app_on(home, None, domains=[str(domain.folder)], load=lambda name: stub(settings, home, Typist("Yes."), domain=name),
                  **given)


def about_parking(texts):
    """An encoder of one topic beside that of words."""
    return np.stack([np.eye(1, 256, 7, dtype=np.float32)[0] if "park" in text else bag([text])[0] for text in texts])


async def looked_at(app, pilot, embed=bag):
    """The review screen with all of its first row."""
    await app.remove_mode("review")
    app.add_mode("review", lambda: ReviewScreen(embed))
    await pilot.press("f3")
    await until(pilot, lambda: isinstance(app.screen, ReviewScreen) and app.screen.gathered and app.screen.quiet)
    return app.screen


def kept(store):
    """Decisions as they stand in the store: (question's row id, decision, intent, answer, reviewer)."""
    with store.reading() as at:
        return {each.row: (each.decision, each.intent, each.answer, each.reviewer) for each in at.execute(sa.select(reviews))}


def test_each_key_is_a_row_of_the_store_before_the_next_is_shown_and_is_taken_back(home, store, domain):
    four(store, domain)
    order = [each.row for each in build(domain, store, encoder=bag).waiting]

    async def talk():
        app = reviewed(home, domain)
        async with piloted(app) as pilot:
            screen = await looked_at(app, pilot)
            rows = screen.rows
            assert [each.row.id for each in rows.items] == [row.id for row in order], "as `retune review` has them"
            assert "intent 3 · correction 1" in text_of(app) and "its author is new" in text_of(app)
            first = rows.shown.row
            await pilot.press("e")  # holds no answer
            await until(pilot, lambda: "relabel it instead" in text_of(app) and screen.quiet)
            assert kept(store) == {}
            await pilot.press("a")
            await until(pilot, lambda: rows.shown.row.id != first.id)
            assert kept(store) == {first.id: ("accept", None, None, "anna")}
            await until(pilot, lambda: screen.quiet)
            await pilot.press("u")
            await until(pilot, lambda: screen.quiet and rows.shown.row.id == first.id)
            assert kept(store) == {}
            await pilot.press("i")
            await until(pilot, lambda: "What was it about?" in text_of(app))
            await pilot.press(*"borr", "enter")
            await until(pilot, lambda: app.screen is screen and screen.quiet and len(rows.items) == 3)
            assert kept(store)[first.id][:2] == ("relabel", "borrowing")
            second = rows.shown.row
            await pilot.press("s")
            await until(pilot, lambda: rows.shown.row.id != second.id and screen.quiet)
            assert len(kept(store)) == 1 and "skipped" in text_of(app)
            while rows.shown.row.part == "router":
                third = rows.shown.row
                await pilot.press("x")
                await until(pilot, lambda third=third: rows.shown.row.id != third.id and screen.quiet)
                assert kept(store)[third.id][0] == "reject"
            wrong = rows.shown.row
            await until(pilot, lambda: "Instead of" in text_of(app) and "For 12 weeks." in text_of(app))
            await pilot.press("e")
            await until(pilot, lambda: "The better answer" in text_of(app))
            app.screen.query_one("TextArea").insert(" Then bring it.")
            await pilot.press("ctrl+s")
            await until(pilot, lambda: app.screen is screen and screen.quiet and len(rows.items) == 1)
            assert kept(store)[wrong.id][:3] == ("edit", None, "For 3 weeks at a time. Then bring it.")
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.chat)

    asyncio.run(talk())
    made = build(domain, store, encoder=bag)
    assert len(made.waiting) == 1 and [row.intent for row in made.router] == ["borrowing"]
    assert [row.answer for row in made.generator] == ["For 3 weeks at a time. Then bring it."]

    async def again():
        app = reviewed(home, domain)
        async with piloted(app) as pilot:
            screen = await looked_at(app, pilot)
            left = [each.row.id for each in screen.rows.items]
            assert left == [made.waiting[0].row.id], "what was decided does not come again"
            await pilot.press("a")
            await until(pilot, lambda: screen.quiet and "Nothing waits for you" in text_of(app))
            assert "3 rows of feedback will be trained on." in text_of(app) and "rejected in review" in text_of(app)

    asyncio.run(again())


def test_a_row_shows_its_turn_what_was_said_before_and_its_neighbours(home, store, domain):
    session = "s-one"
    say(store, domain, "Good morning there", "Good morning.", session=session)
    asked = say(store, domain, "When do you open on Sunday", "We do.", session=session, confidence=0.3)
    tell(store, asked, "intent", "opening", "eve")

    async def talk():
        app = reviewed(home, domain)
        async with piloted(app, SIZES["140x45"]) as pilot:
            screen = await looked_at(app, pilot)
            await until(pilot, lambda: screen.quiet and "Nearest that are learned from" in text_of(app))
            shown = text_of(app)
            assert "Good morning there" in shown and "→ Good morning." in shown
            assert "We do." in shown and "router: borrowing" in shown
            near = screen.reviewing.surroundings(screen.here.domain, screen.rows.shown).neighbours
            assert near == tuple(sorted(near, key=lambda each: -each[0])) and near[0][1] in shown
            assert any(label == "opening" for _, _, label in near)

    asyncio.run(talk())


def test_trust_lets_the_authors_other_rows_through_and_is_taken_back(home, store, domain):
    four(store, domain)

    async def talk():
        app = reviewed(home, domain)
        async with piloted(app) as pilot:
            screen = await looked_at(app, pilot)
            await pilot.press("t")
            await until(pilot, lambda: "Trust eve?" in text_of(app))
            await pilot.press("y")
            await until(pilot, lambda: app.screen is screen and screen.quiet and len(screen.rows.items) == 1)
            assert screen.rows.shown.reasons == ("neighbours say otherwise",), "what speaks against a row is not silenced"
            with store.reading() as at:
                assert at.execute(sa.select(authors.c.name, authors.c.status)).all() == [("eve", "trusted")]
            await pilot.press("u")
            await until(pilot, lambda: screen.quiet and len(screen.here.rows) == 4)
            with store.reading() as at:
                assert at.execute(sa.select(authors)).all() == []

    asyncio.run(talk())


def test_one_key_adds_a_proposed_intent_with_its_reply_to_the_domain(home, store, domain):
    for number, text in enumerate(ALIKE):
        say(store, domain, text, intent=None, state="refused", session=f"s{number}", prompted=False)

    async def talk():
        app = reviewed(home, domain)
        async with piloted(app) as pilot:
            screen = await looked_at(app, pilot, about_parking)
            assert "new intent 1" in text_of(app) and "asked 5 times in 5 conversations" in text_of(app)
            name = screen.rows.shown.name
            await pilot.press("a")
            await until(pilot, lambda: "What should be said" in text_of(app))
            await pilot.press("ctrl+s")  # no words
            await until(pilot, lambda: "give a reply" in text_of(app) and screen.quiet)
            assert name not in Domain.load(domain.folder).intents
            await pilot.press("n")
            await until(pilot, lambda: "Name of the intent" in text_of(app))
            app.screen.query_one("Input").value = "parking"
            await pilot.press("enter")
            await until(pilot, lambda: "What should be said" in text_of(app))
            app.screen.query_one("TextArea").insert("Behind the house.")
            await pilot.press("ctrl+s")
            await until(pilot, lambda: app.screen is screen and screen.quiet and not screen.rows.items)
            added = Domain.load(domain.folder)
            assert added.intents["parking"].reply == "Behind the house."
            assert {"text": ALIKE[0], "intent": "parking"} in added.rows("intents.jsonl")
            await pilot.press("u")
            await until(pilot, lambda: "take it out of domain.toml" in text_of(app))

    asyncio.run(talk())


def test_what_somebody_else_decided_meanwhile_stays_and_is_told(home, store, domain):
    four(store, domain)

    async def talk():
        app = reviewed(home, domain)
        async with piloted(app) as pilot:
            screen = await looked_at(app, pilot)
            decide(store, domain, screen.rows.shown, "reject", "bob")
            await pilot.press("a")
            await until(pilot, lambda: "bob has decided it meanwhile (reject)" in text_of(app))
            assert [each[0] for each in kept(store).values()] == ["reject"] and len(screen.rows.items) == 4

    asyncio.run(talk())


def test_keys_stay_alive_while_rows_are_gathered(home, store, domain):
    import threading

    four(store, domain)
    gate = threading.Event()

    def slow(texts):
        gate.wait(10)
        return bag(texts)

    async def talk():
        app = reviewed(home, domain)
        async with piloted(app) as pilot:
            await app.remove_mode("review")
            app.add_mode("review", lambda: ReviewScreen(slow))
            await pilot.press("f3")
            await until(pilot, lambda: "gathering what waits in library" in text_of(app))
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.chat)
            await pilot.press("f3")
            gate.set()
            await until(pilot, lambda: app.screen.rows.items and app.screen.quiet)

    asyncio.run(talk())


def test_domains_are_gone_through_one_by_one_each_from_its_first_row(home, store, tmp_path):
    places = [tmp_path / name for name in ("library", "archive")]
    for number, place in enumerate(places):
        loaded = library(place)
        (place / "domain.toml").write_text((place / "domain.toml").read_text().replace('"template"', f'"{place.name}"'))
        loaded = Domain.load(place)
        assert loaded.name == place.name
        for text in ("who has the key", "is there a lift", "may dogs come in")[number:]:
            tell(store, say(store, loaded, text), "intent", "opening", "eve")
    settings = Settings.load(home=home)

    async def talk():
        app = app_on(home, None, domains=[str(place) for place in places],
                     load=lambda name: stub(settings, home, Typist("Yes."), domain=name))
        async with piloted(app) as pilot:
            screen = await looked_at(app, pilot)
            await until(pilot, lambda: "library 3   archive 2" in text_of(app) and screen.quiet)
            await pilot.press("down", "down", "right")
            await until(pilot, lambda: screen.quiet and len(screen.rows.items) == 2)
            assert screen.rows.highlighted == 0 and screen.here.domain.name == "archive"
            first = screen.rows.shown.row
            await pilot.press("x")
            await until(pilot, lambda: screen.quiet and "library 3   archive 1" in text_of(app))
            with store.reading() as at:
                assert at.execute(sa.select(reviews.c.domain, reviews.c.row)).all() == [("archive", first.id)]
            await pilot.press("x")
            await until(pilot, lambda: screen.quiet and "Something waits in library" in text_of(app))
            await pilot.press("right")
            await until(pilot, lambda: screen.quiet and len(screen.rows.items) == 3)

    asyncio.run(talk())


def test_with_the_base_models_neighbours_are_those_that_mean_the_same(settings, store, domain):
    tell(store, say(store, domain, "at what time does it close"), "intent", "borrowing", "eve")
    reviewing = Reviewing(store, settings, "anna")
    found = reviewing.gather(str(domain.folder))
    assert found.neighbours_asked and len(found.rows) == 1
    near = reviewing.surroundings(found.domain, found.rows[0]).neighbours
    assert len(near) == 5 and near[0][2] == "opening" and near[0][0] > 0.4


def test_without_base_models_the_queue_is_shown_and_says_that_no_neighbour_was_asked(home, store, domain):
    four(store, domain)
    made = Reviewing(store, Settings.load(home=home), "anna").gather(str(domain.folder))
    assert len(made.rows) == 4 and not made.neighbours_asked and made.signals == {"intent": 3, "correction": 1}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_review_looks_as_it_did(home, store, domain, size, theme):
    four(store, domain)

    async def talk():
        app = reviewed(home, domain, theme=theme)
        async with piloted(app, SIZES[size]) as pilot:
            await looked_at(app, pilot)
            same_as_snapshot(app, f"review-{size}-{theme}")

    asyncio.run(talk())
