"""Pilots of the terminal UI: an app on agents that need no model, keys, screens as text and as SVG."""

import asyncio
import os
import re
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from articles import Articles
from textual.pilot import Pilot

from agent.agent import Agent
from agent.domain import Domain
from agent.registry import Bundle
from agent.serving import Serving
from agent.settings import Settings
from agent.store import Store
from agent.surfaces.tui.app import RetuneApp
from agent.surfaces.tui.screens.chat import ChatScreen
from agent.surfaces.tui.widgets.message import Message
from agent.types import Made, Passage, Route

SNAPSHOTS = Path(__file__).parent / "snapshots"
SIZES = {"80x24": (80, 24), "140x45": (140, 45)}
_DIFFERS = {r"terminal-\d+": "terminal", r"\b[0-9a-f]{32}\b": "0" * 32, r"20\d\d-\d\d-\d\d": "2026-01-01",
            r"2026-01-01(&#160;|T)\d\d:\d\d": r"2026-01-01\g<1>12:00", r"\d\.\d\d(?=&#160;s&#160;to)": "0.01"}
"""What one run of a screen has and the next has not: ids, dates, and how long things took."""
ARTICLE = Passage("returns#1", "Returns", "How long", "You have 30 days to return an item.", "Returns policy, section 2",
                  frozenset({"return_policy"}))


class Typist:
    """A generator that says its answers word by word, and waits for `go` after so many of them."""

    def __init__(self, *answers: str, stop_after: int | None = None) -> None:
        self.answers, self.stop_after = list(answers), stop_after
        self.seen: list[Sequence[Any]] = []

    async def stream(self, messages: Sequence[Any], max_tokens: int, *, session: str = "",
                     made: Made | None = None) -> AsyncIterator[str]:
        """Words; the last answer again when there are no more."""
        self.seen.append(messages)
        if made is not None:
            made.engine, made.prompt_tokens = "typist", 12
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        for number, word in enumerate(answer.split(" ")):
            if number == self.stop_after:
                await asyncio.Event().wait()  # for ever: only a stop ends it
            if made is not None:
                made.tokens += 1
            yield f" {word}" if number else word
            await asyncio.sleep(0)


class Routes:
    """A router that is sure of one intent for all messages, or of those of a table {word in the message: intent}."""

    def __init__(self, intent: str | None | dict[str, str]) -> None:
        self.intent = intent

    def route(self, texts: list[str]) -> list[Route]:
        """The same for the same text."""
        return [self._one(text) for text in texts]

    def _one(self, text: str) -> Route:
        if isinstance(self.intent, dict):
            intent = next((intent for word, intent in self.intent.items() if word in text.lower()), None)
        else:
            intent = self.intent
        if intent is None:
            return Route(None, 0.9, (("thanks", 0.05),), 0.9)
        return Route(intent, 0.93, ((intent, 0.93), ("thanks", 0.04)), 0.02)


def stub(settings: Settings, folder: Path, generator: Any, intent: Any = "return_policy",
         domain: str = "customer_service") -> Agent:
    """An agent of a shipped domain on stubs; its store and dialogue are real."""
    loaded = Domain.load(domain)
    bundle = Bundle(loaded.name, 1, folder, {"files": {}})
    store = Store(settings.database_url)
    store.open()
    return Agent(loaded, settings, Serving(bundle, Routes(intent), generator, Articles([ARTICLE])), store, None, {},
                 lambda: datetime.now(UTC), {}, folder / "tools")


def app_on(home: Path, generator: Any, intent: Any = "return_policy", domains: Sequence[str] = ("customer_service",),
           load: Callable[[str], Agent] | None = None, **given: Any) -> RetuneApp:
    """The app with an agent of each domain."""
    settings = Settings.load(home=home, **given)
    return RetuneApp(load or (lambda name: stub(settings, home, generator, intent, name)), domains, settings, "anna")


@asynccontextmanager
async def piloted(app: RetuneApp, size: tuple[int, int] = (100, 30), loaded: bool = True,
                  greeted: bool = True) -> AsyncIterator[Pilot[None]]:
    """Run the app until the block ends; with its agents loaded, and past its first screen, unless told otherwise."""
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(pilot, lambda: app.chat.is_mounted)
        app.chat.prompt.cursor_blink = False  # or two pictures of one screen differ
        await until(pilot, lambda: app.greeted)
        if greeted and not isinstance(app.screen, ChatScreen):
            await pilot.press("escape")
        if loaded:
            await until(pilot, lambda: len(app.backstage.loaded()) == len(app.chat.talk.wanted))
        yield pilot


async def until(pilot: Pilot[None], true: Callable[[], Any], seconds: float = 10) -> None:
    """Let the app work until something is true."""
    for _ in range(int(seconds * 50)):
        if true():
            await pilot.pause()
            return
        await pilot.pause(0.02)
    raise AssertionError(f"it never came true; the screen says:\n{text_of(pilot.app)}")


async def say(pilot: Pilot[None], text: str) -> Message:
    """Type a message, send it, wait for its answer."""
    app = pilot.app
    before = app.chat.messages[-1:]
    app.chat.prompt.focus()
    app.chat.prompt.insert(text)
    await pilot.press("enter")
    await until(pilot, lambda: app.chat.messages[-1:] != before and app.chat.free)
    return app.chat.messages[-1]


def text_of(app: Any) -> str:
    """What the screen shows, as lines."""
    lines = app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in line).rstrip() for line in lines)


def svg_of(app: Any) -> str:
    """The screen as SVG, without what differs between two runs of the same screen."""
    for field in app.screen.query("TextArea, Input"):
        field._pause_blink(visible=field.has_focus)
    drawn = app.export_screenshot(title="Retune", simplify=True)
    for differs, always in _DIFFERS.items():
        drawn = re.sub(differs, always, drawn)
    return drawn


def same_as_snapshot(app: Any, name: str) -> None:
    """Compare with tests/snapshots/NAME.svg; RETUNE_SNAPSHOTS=write makes it anew. A missing one fails."""
    file, drawn = SNAPSHOTS / f"{name}.svg", svg_of(app)
    if os.environ.get("RETUNE_SNAPSHOTS") == "write":
        SNAPSHOTS.mkdir(exist_ok=True)
        file.write_text(drawn, encoding="utf-8")
    assert file.is_file(), f"there is no {file.name}; look at the screen, then run with RETUNE_SNAPSHOTS=write"
    if drawn != file.read_text(encoding="utf-8"):
        seen = file.with_suffix(".seen.svg")
        seen.write_text(drawn, encoding="utf-8")
        raise AssertionError(f"{file.name} looks different now: compare it with {seen.name}\n{text_of(app)}")
