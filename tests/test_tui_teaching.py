"""Teaching by keys: what each key keeps in the store, what it says that it teaches, how it is taken back; and a tool's yes."""

import asyncio
from contextlib import closing

import pytest
from tui import SIZES, Typist, app_on, piloted, same_as_snapshot, say, stub, text_of, until

from agent.settings import Settings
from agent.store import Store
from agent.surfaces.tui import marks
from agent.surfaces.tui.screens.confirm import Confirm
from agent.surfaces.tui.teaching import Better, heard
from tuning.harvest import harvest

ANSWER = "You have 30 days to return an item."


def run(test) -> None:
    asyncio.run(test)


def kept(app, message) -> dict[str, str | None]:
    """What anna says about the answer, by the store."""
    return {each["kind"]: each["value"] for each in app.store.feedback_of(message.turn_id) if each["author"] == "anna"}


def still(app, message) -> None:
    """Times that are the same in every run."""
    times = {"redact": 1, "route": 13, "retrieve": 20, "first_token": 120, "first_word": 180, "generate": 400, "total": 405}
    message.row["timings_ms"] = {stage: spent for stage, spent in times.items() if stage in message.row["timings_ms"]}
    app.chat.served = message.row
    app.chat.renew()


def test_thumbs_are_kept_say_what_they_teach_and_are_taken_back(home):
    async def talk():
        app = app_on(home, Typist(ANSWER))
        async with piloted(app) as pilot:
            message = await say(pilot, "How long may I keep my sofa?")
            await pilot.press("ctrl+up", "plus")
            await until(pilot, lambda: "✓ Good. Once reviewed, this answer is trained on." in text_of(app))
            assert kept(app, message) == {"up": None}
            await pilot.press("minus")
            await until(pilot, lambda: isinstance(app.screen, Better))
            assert kept(app, message) == {"down": None}, "the other one is taken back, the better answer may be skipped"
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.chat and "✓ Bad." in text_of(app) and "✓ Good" not in text_of(app))
            await pilot.press("u")
            await until(pilot, lambda: "Taken back: bad" in text_of(app) and "✓ Good" in text_of(app))
            assert kept(app, message) == {"up": None}, "undo brings back what the last deed had replaced"
            await pilot.press("u")
            await until(pilot, lambda: "✓" not in text_of(app))
            assert kept(app, message) == {}
            await pilot.press("minus")
            await until(pilot, lambda: isinstance(app.screen, Better))
            await pilot.press(*"Call me at anna@example.org", "ctrl+s")
            await until(pilot, lambda: app.screen is app.chat and "✓ Better" in text_of(app))
            said = kept(app, message)
            assert set(said) == {"down", "correction"} and "anna@" not in said["correction"], "private values stay out"

    run(talk())


def test_a_better_answer_is_written_from_the_one_there_is_and_a_draft_is_not_lost(home):
    async def talk():
        app = app_on(home, Typist(ANSWER))
        async with piloted(app) as pilot:
            message = await say(pilot, "How long may I keep my sofa?")
            await pilot.press("ctrl+up", "equals_sign")
            await until(pilot, lambda: isinstance(app.screen, Better))
            await pilot.press("ctrl+s")
            await until(pilot, lambda: "as it was" in text_of(app))
            assert kept(app, message) == {}
            await pilot.press("equals_sign")
            await until(pilot, lambda: isinstance(app.screen, Better))
            await pilot.press(*" Or 60", "escape")
            await until(pilot, lambda: app.screen is app.chat)
            assert kept(app, message) == {}
            await pilot.press("equals_sign")
            await until(pilot, lambda: isinstance(app.screen, Better) and "Or 60" in text_of(app))
            await pilot.press(*" days.", "ctrl+s")
            await until(pilot, lambda: "✓ Better" in text_of(app))
            assert kept(app, message) == {"correction": f"{ANSWER} Or 60 days."}
            await pilot.press("equals_sign")
            await until(pilot, lambda: isinstance(app.screen, Better) and "Or 60 days." in text_of(app))
            await pilot.press(*"!", "ctrl+s")
            await until(pilot, lambda: kept(app, message)["correction"].endswith("days.!"))
            await until(pilot, lambda: app.screen is app.chat and message.has_focus and not message.deeds.locked())
            await pilot.press("u")
            await until(pilot, lambda: kept(app, message) == {"correction": f"{ANSWER} Or 60 days."})

    run(talk())


def test_an_intent_is_found_by_a_few_letters_and_none_of_these_takes_its_place(home):
    async def talk():
        app = app_on(home, Typist(ANSWER))
        async with piloted(app) as pilot:
            message = await say(pilot, "How long may I keep my sofa?")
            await pilot.press("ctrl+up", "i")
            await until(pilot, lambda: "the rules for returns" in text_of(app))
            await pilot.press(*"gift card", "enter")
            await until(pilot, lambda: "✓ About discounts. Once reviewed, the router learns it." in text_of(app))
            assert kept(app, message) == {"intent": "discounts"}
            await pilot.press("0")
            await until(pilot, lambda: "✓ None of these" in text_of(app))
            assert kept(app, message) == {"none_of_these": None} and "✓ About" not in text_of(app)

    run(talk())


def test_a_conversation_is_handed_off_with_a_reason_and_fetched_back_until_it_is_taken(home):
    async def talk():
        app = app_on(home, Typist(ANSWER))
        async with piloted(app) as pilot:
            message = await say(pilot, "How long may I keep my sofa?")
            await pilot.press("ctrl+up", "h")
            await until(pilot, lambda: "Why should a person" in text_of(app))
            await pilot.press(*"too dear", "enter")
            await until(pilot, lambda: "✓ Handed off: the conversation waits" in text_of(app))
            assert [(each["author"], each["reason"]) for each in app.store.handoffs()] == [("anna", "too dear")]
            assert "handoff" not in {id.partition(".")[2] for id in shown_keys(app)}, "twice makes no sense"
            await pilot.press("u")
            await until(pilot, lambda: not app.store.handoffs() and "✓" not in text_of(app))
            await pilot.press("h", "enter")
            await until(pilot, lambda: app.store.handoffs())
            await until(pilot, lambda: app.screen is app.chat and "✓ Handed off" in text_of(app))
            app.store.take(message.turn_id, "ben")
            await pilot.press("u")
            await until(pilot, lambda: "has taken the conversation" in text_of(app))
            assert app.store.handoffs("taken")[0]["by"] == "ben"

    run(talk())


def shown_keys(app) -> dict[str, str]:
    from agent.surfaces.tui import actions

    return actions.keys_now(app.screen)


def test_marks_are_read_back_after_a_restart_and_undo_takes_the_newest(home):
    async def first():
        app = app_on(home, Typist(ANSWER))
        async with piloted(app) as pilot:
            message = await say(pilot, "How long may I keep my sofa?")
            await pilot.press("ctrl+up", "plus", "0")
            await until(pilot, lambda: "✓ None of these" in text_of(app))
            app.store.hand_off(message.turn_id, "anna", "please")
            app.store.take(message.turn_id, "ben")
            app.store.answer_handoff(message.turn_id, "ben", "You may keep it.")

    async def second():
        app = app_on(home, Typist(ANSWER))
        async with piloted(app) as pilot:
            await pilot.press("ctrl+s")
            await until(pilot, lambda: "sofa" in text_of(app))
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is app.chat and app.chat.messages)
            await until(pilot, lambda: all(said in text_of(app) for said in (
                "✓ Good.", "✓ None of these", "✓ Handed off, and answered.", "ben answered: You may keep it.")))
            app.store.retract(app.chat.messages[0].turn_id, "ben", "reply")
            await pilot.press("ctrl+up", "minus")
            await until(pilot, lambda: isinstance(app.screen, Better))
            await pilot.press("escape", "u")
            await until(pilot, lambda: "✓ Good." in text_of(app) and "ben has taken" in text_of(app))

    run(first())
    run(second())


def test_what_the_screen_says_is_taught_is_what_training_makes_of_it(home):
    """The sentences of `marks.missed` against `tuning.harvest`, for each kind and state of a turn."""
    store = Store(Settings.load(home=home).database_url)

    async def talk():
        for intent, question, answer in (
            ("return_policy", "How long may I keep it?", ANSWER), ("greeting", "Hello there", ANSWER), (None, "Mars?", ANSWER),
            ("return_policy", "May I keep it 99 days?", "You have 77 days."),
            ("return_policy", "And the moon, is it far?", agent.domain.unknown),
        ):
            agent.serving.router.intent = intent
            agent.serving.generator.answers = [answer]
            done = await agent.ask(question, f"s{question}")
            for author, kind, value in (("a", "up", None), ("b", "down", None), ("c", "correction", "Ask us."),
                                        ("d", "intent", "discounts"), ("e", "none_of_these", None)):
                agent.feedback(done.turn.id, kind, author, value)

    agent = stub(Settings.load(home=home), home, Typist(ANSWER))
    with closing(agent), closing(store):
        store.open()
        run(talk())
        rows, _ = harvest(store, agent.domain)
        learned = {(row.turn, row.signal) for row in rows}
        turns = [row for session in store.sessions() for row in heard(store, store.conversation(session["id"]))]
        says = {(row["id"], kind) for row in turns for kind in ("up", "down", "correction", "intent", "none_of_these")
                if not marks.missed(row, kind)}
        assert len(turns) == 5 and says == learned and len({kind for _, kind in says}) == 5
        assert any(marks.missed(row, "down") and not marks.missed(row, "up") for row in turns)


@pytest.mark.parametrize(("choice", "state"), [("once", "done"), ("no", "cancelled"), ("own words", "cancelled")])
def test_a_tool_that_changes_something_waits_for_a_yes_or_no(home, choice, state):
    async def talk():
        app = app_on(home, Typist(ANSWER), {"cancel": "cancel_order", "yes": "thanks", "no": "thanks"})
        async with piloted(app) as pilot:
            await say(pilot, "cancel LK-10482")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            assert "Shall I go ahead?" in text_of(app) and "tools.orders:cancel_order" in text_of(app)
            await pilot.press("enter")
            assert isinstance(app.screen, Confirm), "an Enter meant for the prompt says yes to nothing"
            if choice == "own words":
                await pilot.press(*"no, leave it", "enter")
            else:
                await pilot.press(*["down"] * (1 if choice == "once" else 3), "enter")
            await until(pilot, lambda: len(app.chat.messages) == 2 and app.chat.free)
            answer = app.chat.messages[1]
            assert answer.question == {"once": "Yes", "no": "No"}.get(choice, "no, leave it") and not app.chat.allowed
            assert bool(app.store.turn(answer.turn_id)["tool_result"]) == (choice == "once"), answer.reply
            assert choice == "once" or answer.row["state"] == state

    run(talk())


def test_always_goes_on_without_asking_says_so_and_ends_with_the_conversation(home):
    async def talk():
        app = app_on(home, Typist(ANSWER), {"cancel": "cancel_order"})
        async with piloted(app, (100, 40)) as pilot:
            await say(pilot, "cancel LK-10482")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            await pilot.press("down", "down", "enter")
            await until(pilot, lambda: len(app.chat.messages) == 2 and app.chat.free)
            assert "for the rest of this conversation" in text_of(app)
            await say(pilot, "cancel LK-10483 too")
            await until(pilot, lambda: len(app.chat.messages) == 4 and app.chat.free)
            assert app.screen is app.chat and app.chat.messages[3].question == "Yes"
            assert "Answered yes for you" in app.chat.messages[2].noted and app.chat.messages[3].row["tool_result"]
            await pilot.press("ctrl+n")
            await until(pilot, lambda: not app.chat.messages)
            await say(pilot, "cancel LK-10484")
            await until(pilot, lambda: isinstance(app.screen, Confirm))

    run(talk())


def test_who_types_already_is_not_interrupted(home):
    async def talk():
        app = app_on(home, Typist(ANSWER), {"cancel": "cancel_order"})
        async with piloted(app) as pilot:
            app.chat.prompt.insert("cancel LK-10482")
            await pilot.press("enter", *"no")
            await until(pilot, lambda: app.chat.messages and app.chat.free and app.chat.messages[0].row)
            await pilot.pause(0.05)
            assert app.screen is app.chat and app.chat.prompt.text == "no" and "Shall I go ahead?" in text_of(app)

    run(talk())


async def both_themes(app, pilot, name) -> None:
    """The screen in its dark and its light theme."""
    for theme in ("dark", "light"):
        app.theme = theme
        await pilot.pause()
        same_as_snapshot(app, f"{name}-{theme}")


@pytest.mark.parametrize("size", SIZES)
def test_marks_editor_picker_and_confirmation_look_as_they_did(home, size):
    async def talk():
        app = app_on(home, Typist(ANSWER), {"keep": "return_policy", "cancel": "cancel_order"})
        async with piloted(app, SIZES[size]) as pilot:
            app.chat.prompt.cursor_blink = False
            message = await say(pilot, "How long may I keep my sofa?")
            still(app, message)
            await pilot.press("ctrl+up", "plus")
            await until(pilot, lambda: "✓ Good" in text_of(app))
            await pilot.press("i")
            await until(pilot, lambda: "the rules for returns" in text_of(app))
            await both_themes(app, pilot, f"teaching-intent-{size}")
            await pilot.press(*"gift", "enter")
            await until(pilot, lambda: "✓ About" in text_of(app))
            await pilot.press("equals_sign")
            await until(pilot, lambda: isinstance(app.screen, Better))
            await both_themes(app, pilot, f"teaching-editor-{size}")
            await pilot.press(*" Or 60.", "ctrl+s")
            await until(pilot, lambda: "✓ Better" in text_of(app))
            await both_themes(app, pilot, f"teaching-marks-{size}")
            asked = await say(pilot, "cancel LK-10482")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            still(app, asked)
            await pilot.pause()
            await both_themes(app, pilot, f"teaching-confirm-{size}")

    run(talk())
