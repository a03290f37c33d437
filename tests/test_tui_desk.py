"""The hand-off desk by its keys: who waits, who takes whom, what is answered, what goes back."""

import asyncio
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest
from taught import library, tell
from taught import say as told
from tui import SIZES, Typist, app_on, piloted, same_as_snapshot, say, stub, text_of, until

from agent.domain import Domain
from agent.schema import handoffs
from agent.settings import Settings
from agent.store import Store
from agent.surfaces.tui.handoffs import HandoffDesk, since
from agent.surfaces.tui.screens.desk import DeskScreen
from tuning.dataset import build

DOMAIN = "customer_service"


@pytest.fixture
def store(home):
    with closing(Store(Settings.load(home=home).database_url)) as made:
        made.open()
        yield made


def handed(store, asked, reason="talk_to_person", minutes=0, session=None, domain=DOMAIN, **given):
    """A turn whose conversation waits for a person since so many minutes; its id."""
    loaded = Domain.load(domain)
    turn = told(store, loaded, asked, "A person will see to it.", state="handoff", session=session, **given)
    store.hand_off(turn, "", reason)
    created = (datetime.now(UTC) - timedelta(minutes=minutes, seconds=20)).isoformat(timespec="microseconds")
    with store.writing() as at:
        at.execute(handoffs.update().where(handoffs.c.turn == turn).values(created=created))
    return turn


def status(store, turn):
    """(status, who has it) as the store has it."""
    found = [each for name in ("waiting", "taken", "answered") for each in store.handoffs(name) if each["turn"] == turn]
    return found[0]["status"], found[0]["by"]


async def at_desk(app, pilot):
    """The desk, after its first look."""
    await pilot.press("f5")
    await until(pilot, lambda: isinstance(app.screen, DeskScreen) and app.screen.desk and "Desk   " in text_of(app))
    return app.screen


def test_a_conversation_is_taken_read_answered_and_taken_back(home, store):
    told(store, Domain.load(DOMAIN), "Where is my parcel?", "It is on its way.", session="s-1")
    first = handed(store, "I want to speak to somebody.", minutes=75, session="s-1")
    second = handed(store, "This is the third time I ask!", "complaint", minutes=12)

    async def talk():
        app = app_on(home, Typist("Yes."))
        async with piloted(app) as pilot:
            desk = await at_desk(app, pilot)
            await until(pilot, lambda: "It is on its way." in text_of(app))
            shown = text_of(app)
            assert [each["turn"] for each in desk.waiting.items] == [first, second], "oldest first"
            assert "1 h" in shown and "12 min" in shown and "talk to person" in shown and "complaint" in shown
            assert "Where is my parcel?" in shown and "handed over here" in shown and "2 wait" in shown
            await pilot.press("enter")
            await until(pilot, lambda: desk.prompt.has_focus and "yours" in text_of(app))
            assert status(store, first) == ("taken", "anna")
            await pilot.press(*"It r", "escape")  # a letter is a letter here
            await until(pilot, lambda: desk.waiting.has_focus)
            assert status(store, first) == ("taken", "anna")
            await pilot.press("down", "enter")
            await until(pilot, lambda: desk.prompt.has_focus and desk.open["turn"] == second and desk.prompt.text == "")
            await pilot.press("escape", "r")
            await until(pilot, lambda: status(store, second) == ("waiting", ""))
            await pilot.press("up", "enter")
            await until(pilot, lambda: desk.prompt.has_focus and desk.prompt.text == "It r")
            desk.prompt.insert("eached you.")
            await pilot.press("enter")
            await until(pilot, lambda: "becomes a correction" in text_of(app) and len(desk.waiting.items) == 1)
            said = store.feedback_of(first)
            assert [(each["author"], each["kind"], each["value"]) for each in said] == [("anna", "reply", "It reached you.")]
            assert status(store, first) == ("answered", "anna") and not desk.prompt.display
            await pilot.press("u")
            await until(pilot, lambda: status(store, first) == ("taken", "anna") and len(desk.waiting.items) == 2)
            assert store.feedback_of(first) == []
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.chat)

    asyncio.run(talk())
    assert status(store, first) == ("waiting", ""), "what was taken goes back when the app closes"


def test_an_answer_becomes_a_correction_of_the_turn_before_the_hand_off(home, store, tmp_path):
    domain = library(tmp_path / "library")
    told(store, domain, "How long for a film?", "For 12 weeks.", session="s-1")
    handed(store, "Somebody real please", session="s-1", domain=domain.folder, prompted=False)
    settings = Settings.load(home=home)

    async def talk():
        app = app_on(home, None, domains=[str(domain.folder)],
                     load=lambda name: stub(settings, home, Typist("Yes."), domain=name))
        async with piloted(app) as pilot:
            desk = await at_desk(app, pilot)
            await until(pilot, lambda: desk.waiting.items)
            await pilot.press("enter")
            await until(pilot, lambda: desk.prompt.has_focus)
            desk.prompt.insert("For 3 weeks. Write to ann.lee@example.org.")
            await pilot.press("enter")
            await until(pilot, lambda: not desk.waiting.items)

    asyncio.run(talk())
    waiting, = build(domain, store).waiting
    row = waiting.row
    assert (row.signal, row.question, row.rejected) == ("reply", "How long for a film?", "For 12 weeks.")
    assert row.answer == "For 3 weeks. Write to [EMAIL_1]." and row.author == "anna"


def test_the_second_of_two_people_is_told_who_has_it_and_a_kept_answer_survives(home, store):
    turn = handed(store, "I want to speak to somebody.")

    async def talk():
        app = app_on(home, Typist("Yes."))
        async with piloted(app) as pilot:
            desk = await at_desk(app, pilot)
            await until(pilot, lambda: desk.waiting.items)
            store.take(turn, "bob")
            await pilot.press("enter")
            await until(pilot, lambda: "bob has taken turn" in " ".join(text_of(app).split()))
            await until(pilot, lambda: "bob has it" in text_of(app))
            assert desk.open is None and not desk.prompt.display and status(store, turn) == ("taken", "bob")
            await pilot.press("r")
            await until(pilot, lambda: "Let it wait for others?" in text_of(app))
            await pilot.press("y")
            await until(pilot, lambda: status(store, turn) == ("waiting", ""))
            await pilot.press("enter")
            await until(pilot, lambda: desk.prompt.has_focus)
            desk.prompt.insert("I am here.")
            store.release(turn)
            store.take(turn, "bob")
            await pilot.press("enter")
            await until(pilot, lambda: desk.drafts.get(turn) == "I am here.", 15)
            assert store.feedback_of(turn) == [] and status(store, turn) == ("taken", "bob") and desk.waiting.has_focus

    asyncio.run(talk())
    assert status(store, turn) == ("taken", "bob"), "closing gives back what is one's own alone"


def test_a_new_hand_off_appears_by_itself(home, store):
    async def talk():
        app = app_on(home, Typist("Yes."), intent="talk_to_person")
        async with piloted(app) as pilot:
            desk = await at_desk(app, pilot)
            await until(pilot, lambda: "nobody waits" in text_of(app) and "Nobody waits for a person" in text_of(app))
            turn = handed(store, "Is anybody there?")
            await until(pilot, lambda: desk.waiting.items, 3)
            assert "Is anybody there?" in text_of(app) and desk.waiting.shown["turn"] == turn
            await pilot.press("f6")
            message = await say(pilot, "Let me talk to a person")
            assert message.row["state"] == "handoff"
            await pilot.press("f5")
            await until(pilot, lambda: len(desk.waiting.items) == 2, 3)

    asyncio.run(talk())


def test_nothing_of_a_conversation_can_speak_to_the_terminal(home, store):
    handed(store, "\x1b[2JHello [b]there[/b] \x9b1m", reason="odd \x07 [red]reason")

    async def talk():
        app = app_on(home, Typist("Yes."))
        async with piloted(app) as pilot:
            await at_desk(app, pilot)
            await until(pilot, lambda: "Hello [b]there[/b]" in text_of(app))
            assert "odd  [red]reason" in text_of(app).replace("odd [red]", "odd  [red]")
            assert not {"\x1b", "\x07", "\x9b"} & set(text_of(app))

    asyncio.run(talk())


def test_a_conversation_is_answered_also_where_its_agent_is_not_loaded(store):
    turn = handed(store, "One?")
    desk = HandoffDesk(store, "anna")
    handoff, = desk.waiting()
    desk.take(turn)
    desk.answer(handoff, "Write to ann.lee@example.org.")
    assert [each["value"] for each in store.feedback_of(turn)] == ["Write to [EMAIL_1]."]
    assert status(store, turn) == ("answered", "anna") and not desk.held and desk.waiting() == []


def test_a_desk_gives_back_only_what_it_holds(store):
    first, second = handed(store, "One?"), handed(store, "Two?")
    desk = HandoffDesk(store, "anna")
    desk.take(first)
    desk.take(second)
    store.release(second)
    store.take(second, "bob")
    desk.close()
    assert status(store, first) == ("waiting", "") and status(store, second) == ("taken", "bob")


@pytest.mark.parametrize("ago, words", [(timedelta(seconds=59), "now"), (timedelta(minutes=59), "59 min"),
                                        (timedelta(hours=47, minutes=59), "47 h"), (timedelta(days=3), "3 d"),
                                        (timedelta(minutes=-5), "now")])
def test_waiting_is_told_in_the_largest_unit(ago, words):
    now = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert since((now - ago).isoformat(), now) == words


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_desk_looks_as_it_did(home, store, size, theme):
    domain = Domain.load(DOMAIN)
    before = told(store, domain, "Where is my parcel? I ordered a lamp and a chair two weeks ago.",
                  "It is on its way. Parcels take three to five working days.", session="s-1")
    tell(store, before, "down", author="eve")
    handed(store, "I want to speak to somebody.", minutes=75, session="s-1")
    handed(store, "This is the third time I ask!", "complaint", minutes=12)
    taken = handed(store, "My card was charged twice, please look at it at once", "payment_problem", minutes=3)
    store.take(taken, "bob")

    async def talk():
        app = app_on(home, Typist("Yes."), theme=theme)
        async with piloted(app, SIZES[size]) as pilot:
            desk = await at_desk(app, pilot)
            await until(pilot, lambda: "It is on its way." in text_of(app))
            await pilot.press("enter")
            await until(pilot, lambda: desk.prompt.has_focus and "1 yours" in text_of(app))
            desk.prompt.insert("I am sorry for that. Your parcel is at the depot.")
            await pilot.pause()
            same_as_snapshot(app, f"desk-{size}-{theme}")

    asyncio.run(talk())
