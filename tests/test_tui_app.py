"""The app around the chat: help, palette, keys of one's own, themes, the first start, leaving, and harmless text."""

import asyncio
import re

import pytest
from textual.widgets import Markdown
from tui import SIZES, Typist, app_on, piloted, same_as_snapshot, say, text_of, until

from agent.surfaces.tui import actions
from agent.surfaces.tui.screens.welcome import STEPS, WelcomeScreen

LONG = ("You have 30 days to return an item.",
        "You have 30 days. The steps:\n\n1. Pack it.\n2. Print the label.\n\n```python\nprint('30')\n```\n\nIt is `free`.",
        "| Size | Days |\n| --- | --- |\n| small | 30 |\n| large | 30 |\n\nAs you see it is the same.")


def run(test) -> None:
    asyncio.run(test)


def test_every_action_has_one_row_and_the_table_holds_them_all():
    ids = [action.id for action in actions.ACTIONS]
    assert len(set(ids)) == len(ids) and all(action.help and action.title for action in actions.ACTIONS)
    assert all(f"`{id}`" in actions.table() for id in ids)
    assert all(actions.of(id) for foot in actions.FOOT.values() for id in foot)
    assert {id for _, id, _ in STEPS} <= set(ids)


@pytest.mark.parametrize(("keys", "shown"), [("ctrl+j", "Ctrl+J"), ("plus", "+"), ("ctrl+up,alt+up", "Ctrl+↑ Alt+↑"),
                                             ("f1", "F1"), ("i", "i"), ("escape", "Esc")])
def test_keys_are_shown_as_people_write_them(keys, shown):
    assert actions.shown(keys) == shown


def test_the_first_start_explains_every_step_with_its_key_and_later_ones_do_not(home):
    async def first():
        app = app_on(home, Typist(*LONG))
        async with piloted(app, SIZES["80x24"], greeted=False) as pilot:
            assert isinstance(app.screen, WelcomeScreen)
            shown = text_of(app)
            for word in ("Chat", "Feedback", "Correct", "Review", "Retrain", "Promote", "Roll back", "F1", "F3", "F4"):
                assert word in shown, word
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is app.chat)
            await say(pilot, "How long?")

    async def second():
        app = app_on(home, Typist(*LONG))
        async with piloted(app, greeted=False):
            assert app.screen is app.chat

    run(first())
    run(second())


def test_f1_tells_what_can_be_done_in_the_part_that_has_the_focus(home):
    async def talk():
        app = app_on(home, Typist(*LONG))
        async with piloted(app) as pilot:
            await pilot.press("f1")
            await until(pilot, lambda: "In the prompt" in text_of(app))
            assert text_of(app).index("In the prompt") < text_of(app).index("In the chat") and "Ctrl+J" in text_of(app)
            await pilot.press("escape")
            await say(pilot, "How long?")
            await pilot.press("ctrl+up", "f1")
            await until(pilot, lambda: "On the focused answer" in text_of(app))
            assert re.search(r"\+ +Good", text_of(app))
            await pilot.press("f1")
            await until(pilot, lambda: app.screen is app.chat)

    run(talk())


def test_the_palette_does_every_action_that_is_there_by_its_name(home):
    async def talk():
        app = app_on(home, Typist(*LONG))
        async with piloted(app) as pilot:
            await say(pilot, "How long?")
            titles = [command.title for command in app.get_system_commands(app.screen)]
            parts = ("app", "chat", "prompt", "answer")
            wanted = [each for each in actions.ACTIONS if each.part in parts and app.there(each.id)]
            wanted.remove(actions.of("app.palette"))
            assert len(titles) == len(wanted) and all(any(action.title in title for title in titles) for action in wanted)
            await pilot.press("ctrl+p")
            await until(pilot, lambda: app.screen is not app.chat)
            await pilot.press(*"again")
            await until(pilot, lambda: "Ask the same question again" in text_of(app))
            await pilot.press("down", "enter")
            await until(pilot, lambda: len(app.chat.messages) == 2 and app.chat.free)

    run(talk())


def test_keys_of_retune_toml_replace_the_default_ones_and_an_unknown_action_gets_one_sentence(home):
    keys = '[keys]\n"chat.new" = "ctrl+g"\n"answer.copy" = "k,f8"\n"answer.fly" = "f"\n'
    (home / "retune.toml").write_text(keys, encoding="utf-8")

    async def talk():
        app = app_on(home, Typist(*LONG))
        async with piloted(app) as pilot:
            await until(pilot, lambda: "answer.fly" in text_of(app))
            await say(pilot, "How long?")
            await pilot.press("ctrl+up", "y")
            await pilot.pause()
            assert app.clipboard == ""
            await pilot.press("k")
            await until(pilot, lambda: app.clipboard.startswith("You have 30 days"))
            assert actions.keys_now(app.screen)["answer.copy"] == "k,f8"
            await pilot.press("escape", "ctrl+n")
            await pilot.pause()
            assert len(app.chat.messages) == 1
            await pilot.press("ctrl+g")
            await until(pilot, lambda: not app.chat.messages)

    run(talk())


def test_the_theme_is_the_one_that_is_set_and_turns_by_its_key(home):
    async def talk():
        app = app_on(home, Typist(*LONG), theme="light")
        async with piloted(app) as pilot:
            seen = [app.theme]
            for _ in range(3):
                await pilot.press("ctrl+t")
                await pilot.pause()
                seen.append(app.theme)
            assert seen == ["light", "contrast", "dark", "light"]

    run(talk())


def test_leaving_asks_while_an_answer_is_written_and_ctrl_c_copies_or_asks(home):
    async def talk():
        app = app_on(home, Typist("You have 30 days. Then no more is said of it.", stop_after=8))
        async with piloted(app) as pilot:
            app.chat.prompt.insert("copy me")
            app.chat.prompt.select_all()
            await pilot.press("ctrl+c")
            await until(pilot, lambda: app.clipboard == "copy me")
            app.chat.prompt.clear()
            await pilot.press("ctrl+c")
            await until(pilot, lambda: "Leave Retune?" in text_of(app))
            await pilot.press("n")
            await until(pilot, lambda: app.screen is app.chat)
            app.chat.prompt.insert("How long?")
            await pilot.press("enter")
            await until(pilot, lambda: app.chat.messages and "30 days" in app.chat.messages[0].reply)
            await pilot.press("ctrl+q")
            await until(pilot, lambda: "An answer is being written" in text_of(app))
            await pilot.press("y")
            await until(pilot, lambda: not app.is_running or app._exit)

    run(talk())


CONTROL = "\x1b]0;evil\x07\x1b[2J\x9b31m\u202e\x00"


def test_control_characters_of_people_models_and_the_store_are_harmless_and_links_do_not_open(home):
    async def talk():
        app = app_on(home, Typist(f"You have 30 days{CONTROL}, see [the page](https://example.org/{CONTROL})."))
        opened = []
        app.open_url = lambda url, new_tab=True: opened.append(url)
        async with piloted(app) as pilot:
            message = await say(pilot, f"How [red]long[/red]{CONTROL}?")
            app.store.rename(message.row["session"], f"My{CONTROL} sofa")
            shown = message.query_one(Markdown)
            shown.post_message(Markdown.LinkClicked(shown, "https://example.org"))
            await until(pilot, lambda: "This link leads to" in text_of(app))
            drawn = text_of(app)
            assert "How [red]long[/red]]0;evil" in drawn
            await pilot.press("ctrl+s")
            await until(pilot, lambda: "sofa" in text_of(app))
            drawn += text_of(app)
            assert not [sign for sign in drawn if not sign.isprintable() and sign != "\n"]
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is app.chat and app.chat.messages)
            assert "the page (https://example.org/" in text_of(app).replace("\n", "") and opened == []

    run(talk())


def test_a_domain_that_cannot_be_loaded_is_told_and_the_prompt_stays(home):
    from agent.errors import ModelError

    def load(name):
        raise ModelError("The base model is not there; run `retune models`.")

    async def talk():
        app = app_on(home, None, load=load)
        async with piloted(app, loaded=False) as pilot:
            await until(pilot, lambda: "cannot be loaded" in text_of(app))
            app.chat.prompt.insert("How long?")
            await pilot.press("enter")
            await until(pilot, lambda: app.chat.messages and app.chat.free)
            assert "No answer: The base model is not there" in text_of(app)

    run(talk())


@pytest.mark.parametrize("theme", ["dark", "light"])
@pytest.mark.parametrize("size", list(SIZES))
def test_the_screens_look_as_they_did(home, size, theme):
    async def talk():
        app = app_on(home, Typist(*LONG), theme=theme)
        async with piloted(app, SIZES[size], greeted=False) as pilot:
            await until(pilot, lambda: "ready:" in text_of(app))
            same_as_snapshot(app, f"welcome-{size}-{theme}")
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is app.chat)
            for question in ("How long may I keep it?", "And then?", "And by size?"):
                await say(pilot, question)
            await pilot.press("ctrl+up")
            await until(pilot, lambda: app.chat.focused_answer)
            same_as_snapshot(app, f"chat-{size}-{theme}")
            await pilot.press("f1")
            await until(pilot, lambda: "Esc close" in text_of(app))
            same_as_snapshot(app, f"help-{size}-{theme}")
            await pilot.press("escape", "ctrl+s")
            await until(pilot, lambda: "Conversations   1" in text_of(app))
            same_as_snapshot(app, f"sessions-{size}-{theme}")
            await pilot.press("escape", "ctrl+f")
            await until(pilot, lambda: "Search in all" in text_of(app))
            await pilot.press(*"days")
            await until(pilot, lambda: "3 found" in text_of(app))
            same_as_snapshot(app, f"search-{size}-{theme}")

    run(talk())
