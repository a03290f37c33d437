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
            assert "How long may I keep it?" in shown and "return policy 93% · answered · customer_service@0001" in shown
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
        async with piloted(app, loaded=False) as pilot:
            app.chat.prompt.insert("How long?")
            await pilot.press("enter")
            await until(pilot, lambda: app.chat.messages and "waits until" in text_of(app))
            gate.set()
            await until(pilot, lambda: app.chat.free)
            assert "30 days" in app.chat.messages[0].reply

    run(talk())


def test_history_regenerate_edit_and_copy_go_by_keys(home):
    async def talk():
        app = app_on(home, Typist("You have 30 days. Print it:\n\n```sh\nprint 30\n```\n\nDone.", "You have 30 days then."))
        async with piloted(app) as pilot:
            first = await say(pilot, "How long may I keep it?")
            await pilot.press("up")
            await until(pilot, lambda: app.chat.prompt.text == "How long may I keep it?")
            await pilot.press("down")
            await until(pilot, lambda: app.chat.prompt.text == "")
            await pilot.press("ctrl+up")
            assert first.has_focus
            await pilot.press("c")
            await until(pilot, lambda: app.clipboard == "print 30\n")
            await pilot.press("y")
            await until(pilot, lambda: app.clipboard.startswith("You have 30 days. Print it:"))
            await pilot.press("r")
            await until(pilot, lambda: len(app.chat.messages) == 2 and app.chat.free)
            assert app.chat.messages[1].reply == "You have 30 days then." and app.chat.messages[1].question == first.question
            await pilot.press("e")
            await until(pilot, lambda: app.chat.prompt.has_focus and app.chat.prompt.text == "How long may I keep it?")
            await pilot.press(*" now", "shift+enter", *"please", "ctrl+j", *"!", "enter")
            await until(pilot, lambda: len(app.chat.messages) == 3 and app.chat.free)
            assert app.chat.messages[2].question == "How long may I keep it? now\nplease\n!"

    run(talk())


def test_an_enter_pressed_right_behind_the_letters_sends_them_all(home):
    async def talk():
        app = app_on(home, Typist("You have 30 days."))
        async with piloted(app) as pilot:
            from textual import events

            for key in "How?":
                app.post_message(events.Key({"?": "question_mark"}.get(key, key), key))
            app.post_message(events.Key("enter", "\r"))
            await until(pilot, lambda: app.chat.messages)
            assert app.chat.messages[0].question == "How?"

    run(talk())


def test_a_conversation_is_found_named_laid_away_and_goes_on_where_it_stopped(home):
    async def talk():
        app = app_on(home, Typist("You have 30 days to return an item."))
        async with piloted(app) as pilot:
            first = await say(pilot, "How long may I keep my sofa?")
            await pilot.press("ctrl+n")
            await until(pilot, lambda: not app.chat.messages)
            await say(pilot, "And the lamp?")
            await pilot.press("ctrl+s")
            await until(pilot, lambda: "And the lamp?" in text_of(app) and "my sofa" in text_of(app))
            await pilot.press("down", "r")
            await until(pilot, lambda: "Name of the conversation" in text_of(app))
            await pilot.press(*"Sold sofa", "enter")
            await until(pilot, lambda: "Sold sofa" in text_of(app))
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is app.chat and len(app.chat.messages) == 1)
            assert app.chat.messages[0].reply == "You have 30 days to return an item."
            second = await say(pilot, "And if it is broken?")
            assert second.row["session"] == first.row["session"] and app.store.session(second.row["session"],
                                                                                      "customer_service")["turns"] == 2
            await pilot.press("ctrl+f")
            await until(pilot, lambda: app.screen is not app.chat)
            await pilot.press(*"lamp")
            await until(pilot, lambda: "1 found" in text_of(app))
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is app.chat and app.chat.messages[0].question == "And the lamp?")
            await until(pilot, lambda: app.chat.messages[0].has_focus)
            await pilot.press("ctrl+s")
            await until(pilot, lambda: "Sold sofa" in text_of(app))
            await pilot.press("a")
            await until(pilot, lambda: "Sold sofa" not in app.screen.query_one("#list").get_option_at_index(0).prompt.plain)
            await pilot.press("t")
            await until(pilot, lambda: "Conversations laid away   1" in text_of(app) and "Sold sofa" in text_of(app))

    run(talk())


def test_a_conversation_is_written_to_a_file_of_its_own(home, tmp_path):
    async def talk():
        app = app_on(home, Typist("You have 30 days to return an item."))
        async with piloted(app) as pilot:
            await say(pilot, "How long may I keep my sofa?")
            await pilot.press("ctrl+e")
            await until(pilot, lambda: list(tmp_path.glob("retune-*.md")))
            await pilot.press("ctrl+e")
            await until(pilot, lambda: len(list(tmp_path.glob("retune-*.md"))) == 2)
            written = [file.read_text(encoding="utf-8") for file in tmp_path.glob("retune-*.md")]
            assert all("my sofa" in text and text.startswith("---") for text in written)

    run(talk())


def test_a_message_finds_its_domain_until_one_is_settled(home):
    async def talk():
        app = app_on(home, Typist("Here is an answer."), intent=None, domains=("customer_service", "finance"))
        async with piloted(app) as pilot:
            assert app.chat.talk.only is None
            await pilot.press("ctrl+o")
            await until(pilot, lambda: "each message finds its own" in text_of(app))
            await pilot.press(*"finan", "enter")
            await until(pilot, lambda: app.screen is app.chat and app.chat.talk.only == "finance")
            message = await say(pilot, "Hello?")
            assert message.row["domain"] == "finance" and message.row["session"].endswith("-finance")

    run(talk())


def test_a_thousand_messages_are_a_few_widgets_and_all_are_reached(home):
    from agent.surfaces.tui.widgets.conversation import SHOWN
    from agent.surfaces.tui.widgets.message import Said

    async def talk():
        app = app_on(home, Typist("You have 30 days."))
        async with piloted(app) as pilot:
            conversation, rows = app.chat.conversation, [Said(f"Question {n}?", error=f"number {n}") for n in range(1000)]
            most = 5 * conversation.size.height // 3 + 2  # two pages above the eye, its own, two below; three lines each

            async def walk(message, by, numbers):
                for number in numbers:
                    message = await conversation.beside(message, by)
                    message.focus()
                    await pilot.pause()
                    assert message.question == f"Question {number}?"
                await until(pilot, lambda: len(app.chat.messages) <= most)  # what is far goes a moment after what came
                shown = [int(message.question[9:-1]) for message in app.chat.messages]
                assert len(shown) >= SHOWN and shown == list(range(shown[0], shown[-1] + 1))
                assert len(conversation.above) == shown[0] and len(conversation.below) == 999 - shown[-1]
                return message

            await conversation.show(rows)
            await pilot.pause()
            assert len(app.chat.messages) == SHOWN and app.chat.messages[-1].question == "Question 999?"
            await walk(None, -1, range(999, 964, -1))
            message = await conversation.show(rows, 10)
            assert message.question == "Question 10?"
            message = await walk(message, -1, [*range(9, -1, -1), 0])
            await walk(message, 1, range(1, 31))
            await pilot.press("ctrl+up")
            await until(pilot, lambda: app.chat.focused_answer and app.chat.focused_answer.question == "Question 29?")
            message = await say(pilot, "One more?")
            assert app.chat.messages[-1] is message and app.chat.messages[-2].question == "Question 999?"

    run(talk())


def test_bound_keys_keep_their_place_among_letters_however_fast_they_come(home):
    async def talk():
        app = app_on(home, Typist("You have 30 days."))
        async with piloted(app) as pilot:
            from textual import events

            for key in ("x", "y", "backspace", "z", "ctrl+u", "H", "o", "w", "e", "backspace", "?", "left", "backspace", "w"):
                app.post_message(events.Key({"?": "question_mark"}.get(key, key), key if len(key) == 1 else None))
            app.post_message(events.Key("enter", "\r"))
            await until(pilot, lambda: app.chat.messages)
            assert app.chat.messages[0].question == "How?"

    run(talk())


def test_a_message_sent_while_an_answer_is_written_goes_when_that_is_over_unless_it_was_changed(home):
    async def talk():
        app = app_on(home, Typist("You have 30 days. Then no more is said of it.", "Yes.", stop_after=8))
        async with piloted(app) as pilot:
            app.chat.prompt.insert("How long may I keep it?")
            await pilot.press("enter")
            await until(pilot, lambda: app.chat.messages and "30 days" in app.chat.messages[0].reply)
            app.chat.prompt.insert("And used?")
            await pilot.press("enter")
            await until(pilot, lambda: "sent when this answer is written" in text_of(app))
            assert app.chat.prompt.text == "And used?" and len(app.chat.messages) == 1
            app.backstage.loaded()["customer_service"].serving.generator.stop_after = None
            await pilot.press("escape")
            await until(pilot, lambda: len(app.chat.messages) == 2 and app.chat.free)
            assert app.chat.messages[1].question == "And used?" and app.chat.prompt.text == ""
            app.backstage.loaded()["customer_service"].serving.generator.stop_after = 0
            app.chat.prompt.insert("Third")
            await pilot.press("enter")
            await until(pilot, lambda: len(app.chat.messages) == 3)
            app.chat.prompt.insert("Fourth")
            await pilot.press("enter", "!", "escape")
            await until(pilot, lambda: app.chat.free)
            assert app.chat.prompt.text == "Fourth!" and len(app.chat.messages) == 3, "it was changed, so it waits"

    run(talk())


def test_pages_of_the_conversation_turn_while_the_prompt_has_the_focus(home):
    from agent.surfaces.tui.widgets.message import Said

    async def talk():
        app = app_on(home, Typist("You have 30 days."))
        async with piloted(app) as pilot:
            await app.chat.open(app.chat.talk, ())
            await app.chat.conversation.show([Said(f"Question {n}?", error=f"number {n}") for n in range(100)])
            await until(pilot, lambda: "Question 99?" in text_of(app))
            await pilot.press("pageup")
            await until(pilot, lambda: "Question 99?" not in text_of(app))
            assert app.chat.prompt.has_focus
            await pilot.press("pagedown")
            await until(pilot, lambda: "Question 99?" in text_of(app))
            await pilot.press("ctrl+home")
            await until(pilot, lambda: "Question 0?" in text_of(app))
            await pilot.press("ctrl+end")
            await until(pilot, lambda: "Question 99?" in text_of(app))

    run(talk())


def test_paging_through_a_long_conversation_skips_nothing_and_never_gets_stuck(home):
    import re

    from agent.surfaces.tui.widgets.message import Said

    async def talk():
        app = app_on(home, Typist("You have 30 days."))
        async with piloted(app) as pilot:
            await app.chat.conversation.show([Said(f"Question {n}?", error=f"number {n}") for n in range(150)])
            await until(pilot, lambda: "Question 149?" in text_of(app))
            seen = shown = {int(n) for n in re.findall(r"Question (\d+)\?", text_of(app))}
            for key, last in (("pageup", 0), ("pagedown", 149)):
                seen = set(shown)
                for _ in range(60):
                    before = shown
                    await pilot.press(key)
                    await pilot.pause()
                    shown = {int(n) for n in re.findall(r"Question (\d+)\?", text_of(app))}
                    assert min(shown) <= max(before) + 1 and max(shown) >= min(before) - 1, (key, before, shown)
                    seen |= shown
                    if last in shown:
                        break
                assert seen == set(range(150)), f"{key} ended at {sorted(shown)}"

    run(talk())


def test_page_keys_that_come_before_their_page_is_mounted_are_not_lost(home):
    from agent.surfaces.tui.widgets.message import Said

    async def talk():
        app = app_on(home, Typist("You have 30 days."))
        async with piloted(app) as pilot:
            conversation, rows = app.chat.conversation, [Said(f"Question {n}?", error=f"number {n}") for n in range(150)]

            def line():
                return conversation.scroll_y + 3 * len(conversation.above)  # three lines each

            await conversation.show(rows)
            for at, turn, last in ((None, app.chat.action_pageup, 149), (0, app.chat.action_pagedown, 0)):
                await conversation.go(at)
                await until(pilot, lambda last=last: f"Question {last}?" in text_of(app))
                began = line()
                for _ in range(4):
                    turn()
                await until(pilot, lambda began=began: abs(line() - began) == 4 * conversation.size.height, 4)

    run(talk())
