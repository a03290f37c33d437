"""The why panel: what it tells about answers of each kind, how it follows the focus, how an article is opened."""

import asyncio
from dataclasses import replace

import pytest
from tui import ARTICLE, SIZES, Typist, app_on, piloted, same_as_snapshot, say, text_of, until

from agent.domain import Domain
from agent.surfaces.tui import reasons
from agent.surfaces.tui.screens.article import ArticleScreen
from agent.surfaces.tui.screens.article import text_of as article_of
from agent.surfaces.tui.screens.why import WhyScreen
from agent.surfaces.tui.widgets.why import Source, Why

ANSWER = "You have 30 days to return an item."


def run(test) -> None:
    asyncio.run(test)


def panel(app) -> str:
    """What the panel says, scrolled out of sight or not."""
    said = [static.content for static in app.screen.query_one(Why).query("Static")]
    return "\n".join(getattr(each, "plain", str(each)) for each in said)


def still(app, message) -> None:
    """Times and an id that are the same in every run, in a row that the panel has not seen."""
    times = {"redact": 1, "route": 13, "retrieve": 20, "first_token": 120, "first_word": 180, "generate": 400, "total": 405}
    message.row = message.row | {"id": "0" * 32, "timings_ms": {stage: times[stage] for stage in message.row["timings_ms"]}}
    app.chat.served = message.row
    app.chat.renew()


def test_the_panel_tells_what_an_answer_was_made_from_and_follows_the_focus(home):
    async def talk():
        app = app_on(home, Typist(ANSWER), {"keep": "return_policy", "cancel": "cancel_order", "where": "order_status"})
        async with piloted(app, (140, 45)) as pilot:
            await pilot.press("f2")
            await until(pilot, lambda: "once it is there" in text_of(app))
            kept = await say(pilot, "How long may I keep my sofa?")
            await until(pilot, lambda: "12 read, 8 written" in panel(app))
            told = panel(app)
            for said in ("return policy", "93%", "thanks", "4%", "out of scope", "2%", "Returns › How long",
                         "Returns policy, section 2", "None fired.", "customer_service@0001", "typist", "first word",
                         "rest of the answer", kept.turn_id):
                assert said in told, said
            assert "━━━━━━━━━━━─" in told, "93 of 100 is eleven of twelve"
            asks = await say(pilot, "where is it?")
            await until(pilot, lambda: "missing" in panel(app))
            assert "order  missing" in panel(app) and "waits for what is missing" in panel(app) and "Passages" not in panel(app)
            done = await say(pilot, "LK-10482")
            await until(pilot, lambda: "order = LK-10482" in panel(app))
            told = panel(app)
            assert "tools.orders:order_status" in told and f"→ {done.row['tool_result']}" in told and "LK-10482" in told
            await pilot.press("ctrl+up", "ctrl+up")
            await until(pilot, lambda: asks.has_focus and "order  missing" in panel(app))
            await pilot.press("ctrl+up")
            await until(pilot, lambda: "Returns › How long" in panel(app))
            await pilot.press("f2")
            await until(pilot, lambda: not app.screen.query_one(Why).display)
            await pilot.press("w")
            await until(pilot, lambda: app.screen.query_one(Why).display)
            await pilot.resize_terminal(90, 30)
            await until(pilot, lambda: not app.screen.query_one(Why).display)
            await pilot.resize_terminal(120, 30)
            await until(pilot, lambda: app.screen.query_one(Why).display)

    run(talk())


def test_rules_that_fired_and_an_answer_without_a_model_are_told(home):
    async def talk():
        app = app_on(home, Typist("You have 77 days. Anything else?"), {"keep": "return_policy"})
        async with piloted(app, (140, 45)) as pilot:
            await pilot.press("f2")
            await say(pilot, "How long may I keep it?")
            await until(pilot, lambda: "A figure that no passage holds" in panel(app))
            await say(pilot, "What is the weather on Mars?")
            await until(pilot, lambda: "none; no model wrote it" in panel(app))
            assert "90%" in panel(app) and "refused, said that it does not know" in panel(app)
            app.backstage.loaded()["customer_service"].flags = flags = Flags()
            await say(pilot, "There is smoke")
            await until(pilot, lambda: "Red flag fire: it was escalated." in panel(app))
            assert "A rule answered before any model." in panel(app) and flags.seen

    run(talk())


class Flags:
    """Red flags of one word."""

    seen = False

    def check(self, text):
        """Smoke is one."""
        from agent.redflags import RedFlag

        self.seen = True
        return RedFlag("fire", "Leave the house.") if "smoke" in text.lower() else None


def test_an_article_opens_from_the_answer_and_from_a_passage_at_its_heading(home):
    whole = next(each for each in Domain.load("customer_service").passages if each.id == "return-rules#2")

    async def talk():
        app = app_on(home, Typist(ANSWER))
        async with piloted(app, (140, 45)) as pilot:
            index = app.backstage.loaded()["customer_service"].serving.index
            index.search = lambda text, n, vector=None: [whole, ARTICLE]
            await say(pilot, "How long may I keep my sofa?")
            await pilot.press("ctrl+up", "o")
            await until(pilot, lambda: "Sending something back ›" in text_of(app) and "Returns › How long" in text_of(app))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, ArticleScreen) and "unused, complete" in text_of(app))
            await until(pilot, lambda: app.screen.query(".found"))
            assert "section 3 (Returns)" in text_of(app)
            await pilot.press("escape", "f2")
            await until(pilot, lambda: len(app.screen.query(Source)) == 2)
            app.screen.query(Source).last().focus()
            await pilot.press("o")
            await until(pilot, lambda: isinstance(app.screen, ArticleScreen) and ARTICLE.text in text_of(app))
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is app.chat)
            assert "Returns › How long" in panel(app), "the panel keeps its answer while it has the focus"
            await pilot.press("escape")
            await until(pilot, lambda: app.chat.prompt.has_focus)

    run(talk())


def test_after_a_restart_the_passages_are_those_of_the_articles(home):
    whole = next(each for each in Domain.load("customer_service").passages if each.id == "return-rules#1")

    async def first():
        app = app_on(home, Typist(ANSWER))
        async with piloted(app) as pilot:
            app.backstage.loaded()["customer_service"].serving.index.search = lambda text, n, vector=None: [whole, ARTICLE]
            await say(pilot, "How long may I keep my sofa?")

    async def second():
        app = app_on(home, Typist(ANSWER))
        async with piloted(app, (140, 45)) as pilot:
            await pilot.press("ctrl+s")
            await until(pilot, lambda: "sofa" in text_of(app))
            await pilot.press("enter")
            await until(pilot, lambda: app.screen is app.chat and app.chat.messages)
            await pilot.press("ctrl+up", "w")
            await until(pilot, lambda: "Sending something back ›" in panel(app))
            assert "returns#1\nis among the articles no longer" in panel(app) and "93%" in panel(app)
            await pilot.press("o")
            await until(pilot, lambda: isinstance(app.screen, ArticleScreen) and "You do not need to give" in text_of(app))

    run(first())
    run(second())


def test_an_intent_that_the_conversation_decided_is_told_apart_from_the_router():
    row = {"intent": "cancel_order", "confidence": 0.9, "oos": 0.1, "ranking": [["thanks", 0.6], ["greeting", 0.3]]}
    said = reasons.drawn(reasons.intent(row)).plain.split("\n")
    assert said[1] == "cancel order  as the conversation went on" and said[2].startswith("thanks")
    assert "━━━━━━━─────  60%" in said[2], "seven of twelve"
    agreed = reasons.drawn(reasons.intent(row | {"intent": "thanks"})).plain
    assert "as the conversation went on" not in agreed and "out of scope" in agreed


def test_an_article_that_was_changed_since_shows_the_passage_as_it_was():
    domain = Domain.load("customer_service")
    now = next(each for each in domain.passages if each.id == "return-rules#1")
    then = replace(now, text="You have 14 days.")
    assert "How to start a return" in article_of(now, domain.folder) and "title:" not in article_of(now, domain.folder)
    assert article_of(then, domain.folder, domain.passages) == f"## {now.heading}\n\nYou have 14 days."
    assert article_of(replace(now, id="../domain#1"), domain.folder) == f"## {now.heading}\n\n{now.text}"


async def both_themes(app, pilot, name) -> None:
    """The screen in its dark and its light theme."""
    for theme in ("dark", "light"):
        app.theme = theme
        await pilot.pause()
        same_as_snapshot(app, f"{name}-{theme}")


@pytest.mark.parametrize("size", SIZES)
def test_the_panel_and_an_article_look_as_they_did(home, size):
    whole = next(each for each in Domain.load("customer_service").passages if each.id == "return-rules#1")

    async def talk():
        app = app_on(home, Typist(ANSWER), {"keep": "return_policy", "where": "order_status"})
        async with piloted(app, SIZES[size]) as pilot:
            app.chat.prompt.cursor_blink = False
            app.backstage.loaded()["customer_service"].serving.index.search = lambda text, n, vector=None: [whole, ARTICLE]
            message = await say(pilot, "How long may I keep my sofa?")
            still(app, message)
            await pilot.press("ctrl+up", "w")
            await until(pilot, lambda: (isinstance(app.screen, WhyScreen) or size == "140x45") and app.screen.query(Source))
            await both_themes(app, pilot, f"why-{size}")
            app.screen.query(Source).first().focus()
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, ArticleScreen) and app.screen.query(".found"))
            await both_themes(app, pilot, f"article-{size}")

    run(talk())
