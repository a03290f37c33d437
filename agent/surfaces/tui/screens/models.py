"""The models screen: each domain's bundles and what the gate said, promote and roll back, a retraining and its progress."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar

from textual import on, work
from textual.app import ComposeResult
from textual.containers import Container, Vertical
from textual.content import Content
from textual.screen import Screen
from textual.widgets import OptionList, Static

from agent.errors import RetuneError
from agent.signs import harmless
from agent.surfaces.tui import actions
from agent.surfaces.tui.retraining import Progress
from agent.surfaces.tui.screens import changes
from agent.surfaces.tui.shelf import Shelf, Version, words
from agent.surfaces.tui.stock import Stock
from agent.surfaces.tui.widgets.detail import Detail
from agent.surfaces.tui.widgets.keyline import KeyLine
from agent.surfaces.tui.widgets.training import Training
from agent.surfaces.tui.widgets.versions import Versions

if TYPE_CHECKING:
    from agent.surfaces.tui.app import RetuneApp

EVERY_S = 0.5  # between two looks at a retraining


class ModelsScreen(Screen[None]):
    """Nothing here blocks: registry, files and processes are the stock's, which is called in threads."""

    app: "RetuneApp"
    part = "models"
    BINDINGS = actions.bindings("models", priority=True)
    HORIZONTAL_BREAKPOINTS: ClassVar[list[tuple[int, str]]] = [(0, "-narrow"), (110, "-wide")]

    def __init__(self) -> None:
        super().__init__()
        self.at = 0
        self.shelf: Shelf | None = None
        self.stock = Stock(self.app.settings, lambda: self.app.store, self.app.author)
        self.seen: set[str] = set()
        """Domains whose retraining ran while the app did."""
        self.known: dict[str, Progress] = {}
        """What was seen of each at the last look."""
        self.alone = asyncio.Lock()

    def compose(self) -> ComposeResult:
        """Domains, bundles, what is known of the marked one, keys."""
        yield Static("Models", id="head")
        with Container(id="models"):
            with Vertical(id="bundles"):
                yield Versions(id="versions")
                yield Static("", id="runs")
            yield Detail(id="detail")
        yield KeyLine(id="keys")

    def on_mount(self) -> None:
        """Follow what runs."""
        self.query_one(Versions).focus()
        self.follow()

    def on_screen_resume(self) -> None:
        """Others may have changed something meanwhile."""
        self.read()

    @property
    def table(self) -> str:
        """The domain that is shown, as it is loaded."""
        return self.app.domains[self.at]

    @property
    def marked(self) -> Version | None:
        """The bundle under the cursor."""
        return self.query_one(Versions).marked if self.shelf else None

    @property
    def running(self) -> bool:
        """Whether the domain that is shown is being retrained."""
        return self.stock.progress(self.table).running

    @work(exclusive=True, group="read")
    async def read(self) -> None:
        """The domain's bundles anew, from disk."""
        try:
            self.shelf = await self.app.backstage.call(self.stock.read, self.table)
        except (RetuneError, OSError) as error:
            self.shelf = None
            self.query_one(Detail).clear(str(error))
        else:
            self.query_one(Versions).show(self.shelf)
            self.describe()
        self._renew()

    @on(OptionList.OptionHighlighted)
    def moved(self) -> None:
        """Another bundle is under the cursor."""
        self.describe()

    @work(exclusive=True, group="describe")
    async def describe(self) -> None:
        """What is known of the marked bundle."""
        version, seen = self.marked, self.shelf
        if seen is None or version is None:
            self.query_one(Detail).clear(f"No bundle yet; make one with `retune train {self.table}`." if seen else "")
            return
        told = await self.app.backstage.call(self.stock.report, self.table, version)
        if version == self.marked:
            self.query_one(Detail).show(version, seen, told)

    @work(group="follow")
    async def follow(self) -> None:
        """Look at every retraining for as long as the app runs, and at the registry while it is on the screen."""
        before: Any = None
        while True:
            with suppress(OSError):  # a file that is gone or closed to us just now may be there at the next look
                for table in list(self.stock.trainings):
                    await self._look(table)
                if self.is_current and self.shelf:
                    table = self.table
                    now = table, await self.app.backstage.call(self.stock.stamp, table)
                    if before and now[0] == before[0] and now != before:
                        self.read()
                    before = now
            await asyncio.sleep(EVERY_S)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Only what makes sense; p and b stay, and say why they cannot."""
        if action in ("next", "before"):
            return len(self.app.domains) > 1
        if action in ("retrain", "stop"):
            return self.shelf is not None and (action == "stop") == self.running
        return self.shelf is not None or action not in ("promote", "rollback")

    def action_next(self) -> None:
        """The next domain."""
        self._turn(1)

    def action_before(self) -> None:
        """The domain before."""
        self._turn(-1)

    def action_further(self) -> None:
        """Scroll down in what is known of the bundle."""
        self.query_one(Detail).scroll_page_down(animate=False)

    def action_above(self) -> None:
        """Scroll up in it."""
        self.query_one(Detail).scroll_page_up(animate=False)

    def action_back(self) -> None:
        """Back to the chat; a retraining goes on."""
        self.app.action_chat()

    @work(group="change")
    async def action_promote(self) -> None:
        """Ask, then make the marked bundle the champion, unless somebody else changed the champion meanwhile."""
        version, seen, table = self.marked, self.shelf, self.table
        if seen is None or version is None:
            self.notify("There is no bundle to promote; t retrains, `retune train` makes a first one.", markup=False)
        elif version.damage:
            self._refused(version.damage)
        elif version.number == seen.champion:
            self.notify(f"{version.name} is the champion already; mark another bundle with ↑ and ↓.", markup=False)
        elif await self.app.push_screen_wait(changes.promotion(seen, version)) == changes.DO:
            await self._change(f"{version.name} is the champion; b takes it back.",
                               lambda: self.stock.promote(table, version, seen.champion))

    @work(group="change")
    async def action_rollback(self) -> None:
        """Ask, then make the champion before the champion again."""
        seen, table = self.shelf, self.table
        if seen is None or seen.previous is None:
            self.notify(f"{self.stock.name(table)} has no champion before this one; p promotes the bundle that is marked.",
                        markup=False)
        elif await self.app.push_screen_wait(changes.rollback(seen)) == changes.DO:
            await self._change(f"{changes.name_of(seen, seen.previous)} is the champion again.",
                               lambda: self.stock.rollback(table, seen.champion))

    @work(group="change")
    async def action_retrain(self) -> None:
        """Ask, then begin."""
        seen, table = self.shelf, self.table
        if seen and await self.app.push_screen_wait(changes.retraining(seen)) == changes.DO:
            await self._train(self.stock.begin, table)

    @work(group="change")
    async def action_stop(self) -> None:
        """Ask, then stop."""
        seen, table = self.shelf, self.table
        if seen and await self.app.push_screen_wait(changes.stopping(seen)) == changes.DO:
            await self._train(self.stock.stop, table)

    async def _train(self, change: Callable[[str], None], table: str) -> None:
        try:
            async with self.alone:
                await self.app.backstage.call(change, table)
        except (RetuneError, OSError) as error:
            self._refused(str(error))
        else:
            await self._look(table)

    async def _change(self, done: str, change: Callable[[], None]) -> None:
        try:
            await self.app.backstage.call(change)
        except (RetuneError, OSError) as error:
            self._refused(str(error))
        else:
            self.notify(done, markup=False)
        self.read()

    def _refused(self, why: str) -> None:
        self.notify(harmless(why), title="Nothing was changed", severity="error", timeout=15, markup=False)

    async def _look(self, table: str) -> None:
        """How far that retraining is; says so when it ended."""
        async with self.alone:
            told = self.known.get(table)
            self.known[table] = now = await self.app.backstage.call(self.stock.look, table)
        if now == told:
            return
        if now.running:
            self.seen.add(table)
        elif table in self.seen and (told is None or told.status != now.status):
            said = f"{now.bundle}. {now.words}" if now.bundle else now.words
            self.app.notify(harmless(f"Retraining {self.stock.name(table)}: {now.status}. {said}"), timeout=10, markup=False)
            self.read()
        if table == self.table:
            self._renew()

    def _turn(self, by: int) -> None:
        self.at, self.shelf = (self.at + by) % len(self.app.domains), None
        self.read()

    def _renew(self) -> None:
        """Everything but the bundles."""
        pieces = [("Models  ", "bold")]
        for number, table in enumerate(self.app.domains):
            busy = " …" if self.stock.progress(table).running else ""
            pieces.append((f" {harmless(self.stock.name(table))}{busy} ",
                           "bold $accent on $panel" if number == self.at else "$foreground 60%"))
        self.query_one("#head", Static).update(Content.assemble(*pieces))
        panel, progress = self.query_one(Training), self.stock.progress(self.table)
        panel.show(self.stock.name(self.table), progress)
        panel.display = self.table in self.seen
        self.query_one("#runs", Static).update(self._runs() if self.shelf else "")
        self.refresh_bindings()

    def _runs(self) -> Content:
        """What is wrong, what is next, what was."""
        seen, last = self.shelf, self.stock.progress(self.table)
        assert seen is not None
        lines = [Content.styled(harmless(seen.problem), "$error")] if seen.problem else []
        lines.append(Content.assemble(("next run  ", "$foreground 60%"), harmless(seen.next)))
        done = list(zip((run.created for run in seen.runs), words(seen.runs), strict=True))
        if last.status and last.began:
            done.append((last.began, f"{last.began[:16].replace('T', ' ')} {last.status}, by hand  {last.words}"))
        past = [Content.styled(harmless(said), "$foreground 60%") for _, said in sorted(done, reverse=True)]
        return Content("\n").join([*lines, *past])
