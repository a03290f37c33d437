"""The chat by its keys, on an agent whose router and generator are stubs; dialogue, guard and store are real."""

import asyncio
from contextlib import closing

from tui import Typist, app_on, piloted, say, text_of, until

from agent.settings import Settings
from agent.store import Store


def run(test) -> None:
    asyncio.run(test)


def test_a_message_is_answered_and_says_what_served_it(home):
    async def talk():
        app = app_on(home, Typist("You have 30 days to return an item."))
        async with piloted(app) as pilot:
            message = await say(pilot, "How long may I keep it?")
            assert message.reply.startswith("You have 30 days to return an item.") and message.row["state"] == "answered"
            shown = text_of(app)
            assert "How long may I keep it?" in shown and "customer_service@0001" in shown and "return policy 93%" in shown
            assert "s to the first word" in shown and "tokens" in shown
            assert app.store.turn(message.turn_id)["reply"] == message.reply.strip()

    run(talk())


def test_esc_stops_the_answer_which_is_logged_as_far_as_it_was_said(home):
    async def talk():
        app = app_on(home, Typist("You have 30 days. Then no more is said of it.", stop_after=8))
        async with piloted(app) as pilot:
            app.chat.prompt.insert("How long may I keep it?")
            await pilot.press("enter")
            await until(pilot, lambda: app.chat.messages and "30 days" in app.chat.messages[0].reply)
            await pilot.press("escape")
            await until(pilot, lambda: app.chat.free)
            message = app.chat.messages[0]
            logged = app.store.turn(message.turn_id)
            assert logged["error"] == "cancelled" and logged["reply"] == "You have 30 days."
            assert "stopped" in text_of(app) and app.chat.prompt.has_focus
            app.backstage.loaded()["customer_service"].serving.generator.stop_after = None
            assert (await say(pilot, "And again?")).row["state"] == "answered", "the next one is answered as ever"

    run(talk())


def test_an_app_that_is_closed_in_mid_answer_has_logged_what_was_said(home):
    async def talk():
        app = app_on(home, Typist("You have 30 days. Then no more is said of it.", stop_after=8))
        async with piloted(app) as pilot:
            app.chat.prompt.insert("How long may I keep it?")
            await pilot.press("enter")
            await until(pilot, lambda: app.chat.messages and "30 days" in app.chat.messages[0].reply)

    run(talk())
    with closing(Store(Settings.load(home=home).database_url)) as store:
        store.open()
        session = store.sessions()[0]["id"]
        assert store.last_turn(session)["reply"] == "You have 30 days." and store.last_turn(session)["error"] == "cancelled"


def test_a_message_sent_before_the_models_are_there_waits_and_is_answered(home):
    import threading

    gate = threading.Event()

    async def talk():
        from tui import stub

        settings = Settings.load(home=home)

        def slow(name):
            gate.wait(10)
            return stub(settings, home, Typist("You have 30 days."), domain=name)

        app = app_on(home, None, load=slow)
        async with app.run_test() as pilot:
            app.chat.prompt.insert("How long?")
            await pilot.press("enter")
            await until(pilot, lambda: app.chat.messages and "waits until" in text_of(app))
            gate.set()
            await until(pilot, lambda: app.chat.free)
            assert "30 days" in app.chat.messages[0].reply

    run(talk())
