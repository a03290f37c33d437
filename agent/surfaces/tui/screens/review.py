"""The review: rows that wait before they teach anything, the most informative first, each settled by one key.

Shows; what waits is `tui.reviewing` and what a key does is `tui.deciding`. A decision is on disk before the next row is
shown, so leaving loses nothing and coming back goes on.
"""

from typing import TYPE_CHECKING, Any

from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.screen import Screen
from textual.widgets import Static

from agent.errors import RetuneError
from agent.signs import harmless
from agent.surfaces.tui import actions
from agent.surfaces.tui.deciding import DEEDS
from agent.surfaces.tui.reviewing import Gathered, Reviewing, Stopped
from agent.surfaces.tui.widgets import row as drawn
from agent.surfaces.tui.widgets.keyline import KeyLine
from agent.surfaces.tui.widgets.rowlist import RowList, key

if TYPE_CHECKING:
    from agent.surfaces.tui.app import RetuneApp
    from tuning.quarantine import Embed

TURNING = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
ASIDE: list[Binding] = actions.bindings("review", only=("next", "before"), priority=True)  # a list would scroll sideways


class ReviewScreen(Screen[None]):
    """One domain at a time; the keys decide about `shown`. `embed` replaces the plain encoder."""

    app: "RetuneApp"
    part = "review"
    AUTO_FOCUS = "#list"
    BINDINGS = [each for each in actions.bindings("review") if each.id not in {one.id for one in ASIDE}] + ASIDE

    def __init__(self, embed: "Embed | None" = None) -> None:
        super().__init__()
        self._embed = embed
        self.reviewing: Reviewing | None = None
        self.domains: list[str] = []
        self.at = 0
        self.gathered: dict[str, Gathered] = {}
        self.problem = ""
        self.gathering = ""
        """The domain whose rows are gathered just now."""
        self.deciding = self.looking = False
        self._ticks = 0

    def compose(self) -> ComposeResult:
        """Domains, counts, the list and beside it the row, keys."""
        yield Static("Review", id="head", markup=False)
        yield Static("", id="counts", markup=False)
        with Horizontal(id="body"):
            yield RowList(id="list")
            with VerticalScroll(id="row"):
                yield Static("", markup=False)
        yield KeyLine(id="keys")

    def on_mount(self) -> None:
        """The spinner turns while rows are gathered."""
        self.set_interval(0.1, self._turn)

    def on_screen_resume(self) -> None:
        """Other people decide too, and new feedback comes: gather again."""
        if not self.deciding:  # else a dialog was left
            self.domains = list(self.app.domains)
            self.gather()

    def on_unmount(self) -> None:
        """What is being gathered need not be finished."""
        if self.reviewing:
            self.reviewing.stop()

    @property
    def rows(self) -> RowList:
        """What waits in the domain that is looked at."""
        return self.query_one(RowList)

    @property
    def name_now(self) -> str:
        """The domain that is looked at, by the name it loads by."""
        return self.domains[self.at % len(self.domains)]

    @property
    def here(self) -> Gathered | None:
        """What was found in it."""
        return self.gathered.get(self.name_now)

    @property
    def quiet(self) -> bool:
        """Nothing is being gathered, looked for or written."""
        return not (self.gathering or self.deciding or self.looking)

    # What waits

    @work(group="gather", exclusive=True)
    async def gather(self, anew: bool = True, wanted: str | None = None) -> None:
        """Read the domain that is looked at again, then those that nobody looked at yet; `wanted` as in `fill`."""
        first = self.name_now
        rest = [name for name in self.domains if name != first and name not in self.gathered]
        for name in (first, *rest):
            self.gathering, problem = name, ""
            try:
                self.gathered[name] = await self.app.backstage.call(self._gather, name, anew)
            except Stopped:
                return
            except RetuneError as error:
                problem = harmless(str(error))
            finally:
                self.gathering = ""
            self.problem = problem if name == first else self.problem
            if name == first:
                self.fill(wanted)
            self.head()

    def _gather(self, name: str, anew: bool) -> Gathered:
        if self.reviewing is None:
            self.reviewing = Reviewing(self.app.store, self.app.settings, self.app.author, self._embed)
        return self.reviewing.gather(name, anew)

    def fill(self, wanted: str | None = None) -> None:
        """Show what was gathered; `wanted`: the key of what is to be looked at."""
        here = self.here
        self.rows.fill([*here.rows, *here.proposals] if here else [], wanted)
        self.head()
        self.look()

    def head(self) -> None:
        """Domains with what waits in them, and counts by signal."""
        found = [(name, self.gathered.get(name)) for name in self.domains]
        names = [Content.assemble((drawn.short(name), "bold $accent" if name == self.name_now else ""),
                                  f" {len(one.rows) + len(one.proposals)}" if one else "") for name, one in found]
        self.query_one("#head", Static).update(Content.assemble("Review   ", Content("   ").join(names)))
        self.query_one("#counts", Static).update(self._said())
        self.refresh_bindings()

    def _said(self) -> str:
        if self.gathering and (self.here is None or self.gathering == self.name_now):
            return f"{TURNING[self._ticks % len(TURNING)]} gathering what waits in {drawn.short(self.gathering)} …"
        return self.problem or (drawn.counted(self.here) if self.here else "")

    def _turn(self) -> None:
        if self.gathering and self.is_current:
            self._ticks += 1
            self.query_one("#counts", Static).update(self._said())

    # The row

    @on(RowList.OptionHighlighted)
    def moved(self) -> None:
        """Another row is looked at."""
        self.look()

    @work(group="look", exclusive=True)
    async def look(self) -> None:
        """Show all of the row; its turn and its neighbours as soon as they are found."""
        each, here, text = self.rows.shown, self.here, self.query_one("#row Static", Static)
        self.query_one("#row").scroll_home(animate=False)
        self.refresh_bindings()
        if each is None or here is None:
            text.update(drawn.nobody(here, self.gathered) if here else "")
            return
        if not hasattr(each, "row"):
            text.update(drawn.proposed(each))
            return
        text.update(drawn.described(each, here.domain, None))
        self.looking = True
        try:
            around = await self.app.backstage.call(self.reviewing.surroundings, here.domain, each)
            text.update(drawn.described(each, here.domain, around))
        except Stopped:
            return
        except RetuneError as error:
            self.notify(harmless(str(error)), severity="error", markup=False)
        finally:
            self.looking = False

    # Keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """What a proposed intent has no use for, and what a single domain has none for."""
        if action in ("next", "before"):
            return len(self.domains) > 1
        shown = self.rows.shown if self.query("#list") else None
        if action in ("accept", "skip"):
            return shown is not None
        if action in ("edit", "relabel", "reject", "trust"):
            return hasattr(shown, "row")
        if action == "undo":
            return bool(self.reviewing and self.reviewing.done)
        return hasattr(shown, "examples") if action == "name" else True

    def action_accept(self) -> None:
        """The row teaches as it is; a proposed intent is added."""
        self._settle("accept")

    def action_edit(self) -> None:
        """The better answer."""
        self._settle("edit")

    def action_relabel(self) -> None:
        """The right intent."""
        self._settle("relabel")

    def action_reject(self) -> None:
        """Never train on it."""
        self._settle("reject")

    def action_trust(self) -> None:
        """The author's other rows too."""
        self._settle("trust")

    def action_name(self) -> None:
        """A proposed intent under another name."""
        self._settle("name")

    def action_skip(self) -> None:
        """The next one."""
        if not self.rows.skip():
            self.notify("All that is left was skipped; it waits until somebody decides.")

    def action_undo(self) -> None:
        """The last decision of this visit."""
        if not self.deciding and self.reviewing:
            self.deciding = True
            self._undo()

    def action_read(self) -> None:
        """A page further down the row."""
        self.query_one("#row", VerticalScroll).scroll_page_down(animate=False)

    def action_next(self) -> None:
        """The next domain."""
        self._go(1)

    def action_before(self) -> None:
        """The domain before."""
        self._go(-1)

    def action_back(self) -> None:
        """The chat."""
        self.app.action_chat()

    def _go(self, by: int) -> None:
        if not self.deciding:
            self.at = (self.at + by) % len(self.domains)
            self.rows.highlighted = None
            self.fill("")
            self.gather()

    def _settle(self, name: str) -> None:
        """Do it unless another decision is being written: a key counts only for a row that was seen."""
        if (each := self.rows.shown) is not None and not self.deciding and self.reviewing:
            self.deciding = True
            self._settled(name, each)

    @work(group="decide")
    async def _settled(self, name: str, each: Any) -> None:
        try:
            if said := await DEEDS[name](self, each):
                self.notify(harmless(said), timeout=3, markup=False)
                self.rows.drop(each)
                self.gather(False, "" if name == "trust" else None)
        except RetuneError as error:
            self.notify(harmless(str(error)), severity="warning", timeout=10, markup=False)
        finally:
            self.deciding = False

    @work(group="decide")
    async def _undo(self) -> None:
        try:
            waiting, said = await self.app.backstage.call(self.reviewing.undo)
            self.notify(harmless(said), timeout=3, markup=False)
            self.gather(False, key(waiting) if waiting else None)
        except RetuneError as error:
            self.notify(harmless(str(error)), severity="warning", timeout=10, markup=False)
        finally:
            self.deciding = False
