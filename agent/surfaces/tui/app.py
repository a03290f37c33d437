"""The app: loads agents behind a usable prompt, owns the store, and switches between its screens."""

import signal
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events
from textual.app import App, SystemCommand
from textual.screen import ModalScreen, Screen

from agent import paths
from agent.errors import RetuneError
from agent.surfaces.tui import actions, answers, teaching, themes
from agent.surfaces.tui.backstage import Backstage
from agent.surfaces.tui.garbage import Garbage
from agent.surfaces.tui.journal import Journal, recover
from agent.surfaces.tui.screens.chat import ChatScreen
from agent.surfaces.tui.talk import Talk
from agent.surfaces.tui.widgets.message import Message
from agent.surfaces.tui.widgets.prompt import Prompt
from agent.surfaces.tui.widgets.why import DEEDS as READING

if TYPE_CHECKING:
    from agent.agent import Agent
    from agent.settings import Settings
    from agent.store import Store

answers.DEEDS |= teaching.DEEDS | READING
ROOMS = {  # a screen a line: mode -> module and class below agent.surfaces.tui.screens; its key is the action `app.MODE`
    "review": "review:ReviewScreen",
    "desk": "desk:DeskScreen",
    "models": "models:ModelsScreen",
}


class RetuneApp(App[None]):
    """`load` gives an agent by its domain's name and is called in a thread; `author` is the person who chats."""

    TITLE = "Retune"
    CSS_PATH = "retune.tcss"
    BINDINGS: ClassVar[list[Any]] = actions.bindings("app", priority=True)
    COMMAND_PALETTE_BINDING = "f24"  # Ctrl+P is an action like the others

    def __init__(self, load: "Callable[[str], Agent]", domains: Sequence[str], settings: "Settings", author: str = "") -> None:
        super().__init__()
        self.settings, self.author, self.domains = settings, author, list(domains)
        self.backstage = Backstage(load)
        self.garbage = Garbage()
        self.journal = Journal(paths.unfinished(settings.home))
        self.remapped, self.complaints = actions.remapped(getattr(settings, "keys", {}))
        self.failed: set[str] = set()
        """Domains that could not be loaded."""
        self.greeted = False
        """Whether it is known if this is the first start."""
        self._store: Store | None = None
        self.chat = ChatScreen(Talk(self.domains, only=self.domains[0] if len(self.domains) == 1 else None))

    @property
    def store(self) -> "Store":
        """Opened when it is first needed, which takes a moment: call it in a thread."""
        if self._store is None:
            from agent.store import Store

            made = Store(self.settings.database_url)
            made.open()
            self._store = made
        return self._store

    def on_mount(self) -> None:
        """Themes and keys as they are set, then the chat; agents load behind it."""
        themes.use(self, getattr(self.settings, "theme", "dark"))
        self.set_keymap(self.remapped)
        self.add_mode("chat", lambda: self.chat)
        for mode, place in ROOMS.items():
            self.add_mode(mode, lambda place=place: _screen(place))
        self.switch_mode("chat")
        for sentence in self.complaints:
            self.notify(sentence, severity="warning", timeout=12, markup=False)
        self.call_after_refresh(self._begin)
        self._listen()

    def _begin(self) -> None:
        """What takes longer than the screen, once that is painted."""
        self.load_agents()
        self.run_worker(self._greet(), group="greet", exit_on_error=False)
        if not self.is_headless:
            self.garbage.take_over()
            self.set_interval(1, lambda: self.garbage.sweep(self.chat.free))

    async def on_event(self, event: events.Event) -> None:
        """As every app; and somebody is there."""
        self.garbage.hear(event)
        await super().on_event(event)

    def load_agents(self) -> None:
        """Those that the conversation wants, in the background; nothing for those that are there."""
        self.run_worker(self._load(), group="load", exit_on_error=False)

    async def _greet(self) -> None:
        """Who starts for the first time is told how it works, unless they write already."""
        try:
            if cut := await self.backstage.call(lambda: recover(self.journal.folder, self.store)):
                self.notify(f"Retune was cut off in {cut} answer{'s' if cut > 1 else ''}. What was said is kept: "
                            f"{actions.shown(self.remapped.get('chat.sessions', 'ctrl+s'))} opens it.", timeout=15, markup=False)
            begun = await self.backstage.call(lambda: self.store.sessions(limit=1, archived=True))
            if not (begun or self.chat.prompt.text or self.chat.messages) and self.screen is self.chat:
                self.action_welcome()
        except RetuneError as error:
            self.notify(str(error), title="Conversations cannot be kept", severity="error", timeout=30, markup=False)
        finally:
            self.greeted = True

    async def _load(self) -> None:
        for name in self.chat.talk.wanted:
            try:
                await self.backstage.agent(name)
                self.failed.discard(name)
            except RetuneError as error:
                self.failed.add(name)
                self.notify(str(error), title=f"{name} cannot be loaded", severity="error", timeout=30, markup=False)
            self.chat.renew()
        if not self.is_headless:
            await self.backstage.call(self.garbage.keep)

    def told(self, sentence: str) -> None:
        """A sentence from an agent's own thread, such as that another bundle serves now."""
        self.call_later(lambda: (self.notify(sentence, markup=False), self.chat.renew()))

    def progress(self, sentence: str) -> None:
        """What is being fetched or loaded, from any thread; empty when it is done."""
        def show() -> None:
            self.chat.progress = sentence
            self.chat.renew()

        self.call_later(show)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """A mode that nobody built has no key; over a dialog only leaving is left."""
        if action in _MODES and action != "chat":
            return action in ROOMS and not isinstance(self.screen, ModalScreen)
        if action in _PLAIN:
            return not isinstance(self.screen, ModalScreen)
        return True

    def there(self, id: str) -> bool:
        """Whether anything here does this action."""
        action = actions.of(id)
        if action.part == "answer":
            return action.name in answers.DEEDS
        if action.part == "app":
            return action.name not in _MODES or action.name in ROOMS or action.name == "chat"
        owner = {"chat": ChatScreen, "prompt": Prompt}.get(action.part, type(self.screen))
        return hasattr(owner, f"action_{action.name}")

    def perform(self, id: str) -> None:
        """Do an action by its id, wherever the focus is: on the focused or newest answer, the prompt, the screen."""
        action = actions.of(id)
        if action.part == "answer":
            if isinstance(self.screen, ChatScreen) and self.screen.answer:
                answers.do(action.name, self.screen.answer)
            return
        node = {"app": self, "prompt": self.chat.prompt}.get(action.part, self.screen)
        self.call_later(self.run_action, action.name, node)

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """Every action of the app, of the screen and of its focused answer."""
        parts = {"app", getattr(screen, "part", "chat")}
        parts |= {"answer", "prompt"} if isinstance(screen, ChatScreen) else set()
        for action in actions.ACTIONS:
            if action.part in parts and action.id != "app.palette" and self.there(action.id):
                keys = actions.shown(self.remapped.get(action.id, action.keys))
                title = f"{action.title}   {keys}" if keys else action.title
                yield SystemCommand(title, action.help, lambda id=action.id: self.perform(id))

    def action_welcome(self) -> None:
        """How Retune works."""
        from agent.surfaces.tui.screens.welcome import WelcomeScreen

        self.push_screen(WelcomeScreen())

    def action_help(self) -> None:
        """F1."""
        from agent.surfaces.tui.screens.help import HelpScreen

        self.push_screen(HelpScreen(self.screen))

    def action_palette(self) -> None:
        """Ctrl+P."""
        self.action_command_palette()

    def action_chat(self) -> None:
        """Back to the conversation."""
        self.switch_mode("chat")

    def action_review(self) -> None:
        """The review screen."""
        self.switch_mode("review")

    def action_models(self) -> None:
        """The models screen."""
        self.switch_mode("models")

    def action_desk(self) -> None:
        """The hand-off desk."""
        self.switch_mode("desk")

    def action_theme(self) -> None:
        """The next theme."""
        themes.turn(self)

    async def action_quit(self) -> None:
        """Leave; asks while an answer is being written."""
        if self.chat.free:
            self.exit()
        else:
            self._ask_to_leave("An answer is being written. Leave? What was said is kept.")

    def action_leave(self) -> None:
        """Copy the selection, else ask whether to leave."""
        if text := self.screen.get_selected_text() or getattr(self.focused, "selected_text", ""):
            self.copy_to_clipboard(text)
            self.notify("Copied.")
        else:
            self._ask_to_leave("Leave Retune? What was said is kept.")

    def _ask_to_leave(self, question: str) -> None:
        from agent.surfaces.tui.screens.dialogs import Ask

        self.push_screen(Ask(question, {"leave": "y", "stay": "n"}), lambda word: self.exit() if word == "leave" else None)

    def _listen(self) -> None:
        """A lost terminal, or a polite end, leaves nothing that was said unlogged.

        Not by the event loop, which may be waiting for a terminal that takes no more.
        """
        if self.is_headless or threading.current_thread() is not threading.main_thread():
            return
        import asyncio

        loop = asyncio.get_running_loop()
        for name in ("SIGHUP", "SIGTERM"):
            if sign := getattr(signal, name, None):
                signal.signal(sign, lambda *_: threading.Thread(target=self._lost, args=(loop,), daemon=True).start())

    def _lost(self, loop: Any) -> None:
        import os

        try:
            self.backstage.stop()
            with suppress(RuntimeError):  # it is closed: the app has ended meanwhile
                loop.call_soon_threadsafe(self.exit)
            time.sleep(3)
        finally:
            os._exit(1)  # a terminal that is gone may never let go

    async def on_unmount(self) -> None:
        """Running turns are logged before the app is gone."""
        await self.backstage.call(self.close)

    def close(self) -> None:
        """Stop turns, close agents and store; a second time is nothing."""
        self.backstage.close()
        self.journal.close()
        if self._store is not None:
            self._store.close()


_MODES = ("chat", "review", "models", "desk")
_PLAIN = ("help", "palette", "welcome", "theme", "chat")


def _screen(place: str) -> Screen[Any]:
    module, _, name = place.partition(":")
    return getattr(import_module(f"agent.surfaces.tui.screens.{module}"), name)()


__all__ = ["ROOMS", "Message", "RetuneApp"]
