"""The answers of a conversation, of which only those near the eye are widgets: a thousand of them scroll like ten."""

import asyncio
from itertools import takewhile

from textual._styles_cache import StylesCache
from textual.containers import VerticalScroll
from textual.geometry import Size
from textual.reactive import Reactive

from agent.surfaces.tui.widgets.message import Message, Said

SHOWN = 16
"""Messages that are widgets when a conversation is opened, and the least that stay so."""
MORE = 4
"""How many become widgets at once when their end comes nearer than a page; those two pages away go."""


class Conversation(VerticalScroll, can_focus=False):
    """`above` and `below` are what is said before and after the messages that are shown."""

    virtual_size = Reactive(Size(0, 0))  # no second layout whenever it grows; its scroll bar asks for one itself

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.above: list[Said] = []
        self.below: list[Said] = []
        self._moving = asyncio.Lock()
        self._unplaced = False  # what was mounted has no place on the screen yet
        self._pin: tuple[Message, int] | None = None
        """The first message in sight, and the lines from the top of the screen to it."""
        self._owed = 0
        """Lines that page keys asked for beyond what is mounted, down or (negative) up."""

    @property
    def messages(self) -> list[Message]:
        """Those that are widgets, oldest first."""
        return [child for child in self.children if isinstance(child, Message)]

    def on_mount(self) -> None:
        """Stay at the end until somebody scrolls up."""
        self.anchor()

    async def show(self, said: list[Said], at: int | None = None) -> Message | None:
        """Another conversation, at its end or round the message with this number, which is returned."""
        end = len(said) if at is None else min(len(said), at + SHOWN // 2)
        begin = max(0, end - SHOWN)
        self.above, self.below, self._owed = said[:begin], said[end:], 0
        async with self.batch():
            await self.remove_children()
            await self.mount_all(Message(each) for each in said[begin:end])
        if at is None:
            self.anchor()
            return None
        self.release_anchor()
        return self.messages[at - begin]

    async def go(self, at: int | None) -> None:
        """To the begin (0) or the end (None) of the conversation, nothing while an answer is being written."""
        if any(message.running for message in self.messages):
            return
        await self.show([*self.above, *(message.said for message in self.messages), *self.below], at)
        if at is not None:
            self.call_after_refresh(self.scroll_home, animate=False)

    async def add(self, said: Said) -> Message:
        """A new message at the end, which is shown."""
        if self.below:
            await self.show([*self.above, *(message.said for message in self.messages), *self.below])
        message = Message(said, running=True)
        await self.mount(message)
        self.anchor()
        await self._drop_first()
        return message

    async def beside(self, message: Message | None, by: int) -> Message | None:
        """The message above (-1) or below (1) another one; None is the place after the last."""
        messages = self.messages
        at = messages.index(message) if message in messages else len(messages)
        if at + by < 0:
            await self._mount_above()
        elif at + by >= len(messages) and message:
            await self._mount_below()
        messages = self.messages
        at = (messages.index(message) if message in messages else len(messages)) + by
        return messages[max(0, at)] if at < len(messages) else None

    def page(self, way: int) -> None:
        """A page down (1) or up (-1); what of it is no widget yet follows as soon as it is one."""
        self._owed += way * self.scrollable_content_region.height
        self._pay()

    def _pay(self, placed: bool = False) -> None:
        wanted = round(self.scroll_y) + self._owed
        reached = max(0, min(wanted, self.max_scroll_y))
        more = (self._unplaced and not placed) or (self.above if wanted < reached else self.below)
        self._owed = wanted - reached if more else 0
        if reached != round(self.scroll_y):
            self.scroll_to(y=reached, animate=False, immediate=True)
        elif self._owed:
            self._fill()

    def watch_scroll_y(self, old: float, new: float) -> None:
        """Keep widgets ahead of the eye: a page of them at least, above and below."""
        super().watch_scroll_y(old, new)
        if old != new and self.is_attached:
            self._look()
            self._fill()

    def watch_virtual_size(self) -> None:
        """Whatever comes or goes above it, what is read stays where it is on the screen."""
        if self._pin and not self._follows and self._pin[0].is_attached:
            message, offset = self._pin
            self.scroll_to(y=message.virtual_region.y - offset, animate=False, immediate=True)
        self._look()

    def _look(self) -> None:
        top = self.scroll_y
        seen = next((message for message in self.messages if message.virtual_region.bottom > top), None)
        self._pin = (seen, seen.virtual_region.y - round(top)) if seen else None

    @property
    def _follows(self) -> bool:
        """Whether it stays at its end."""
        return self._anchored and not self._anchor_released

    def _fill(self) -> None:
        page = self.size.height
        if self._moving.locked() or self._unplaced:
            return  # it looks again when that is over
        if self.above and self.scroll_y < page:
            self.call_later(self._mount_above)
        elif self.below and self.scroll_y > self.max_scroll_y - page:
            self.call_later(self._mount_below)

    def _check_anchor(self) -> None:
        """The end of what is mounted is the conversation's only where nothing is left below."""
        if not self.below:
            super()._check_anchor()

    async def _mount_above(self) -> None:
        async with self._moving:
            more, self.above = self.above[-MORE:], self.above[:-MORE]
            await self._mount(more, 0)

    async def _mount_below(self) -> None:
        async with self._moving:
            more, self.below = self.below[:MORE], self.below[MORE:]
            await self._mount(more, None)

    async def _mount(self, more: list[Said], before: int | None) -> None:
        if more:
            self._unplaced = True
            async with self.batch():
                await self.mount_all([Message(each) for each in more], before=before)
            self.call_after_refresh(self._placed)

    def _placed(self) -> None:
        self.call_later(self._tidy)

    async def _tidy(self) -> None:
        """Only now: if as many lines went as came, nobody would hear that they are others."""
        async with self._moving:
            self._pay(placed=True)
            await self._drop_first()
            await self._drop_last()
            self._unplaced = False
        StylesCache.get_inner_outer.cache_clear()  # or the pictures of a thousand widgets that are gone stay in memory
        self._pay()  # a key may have come meanwhile
        self._fill()

    async def _drop_first(self) -> None:
        """What is far above the eye."""
        far = self.scroll_y - 2 * self.size.height
        gone = list(takewhile(lambda message: message.virtual_region.bottom < far and _may_go(message), self.messages[:-SHOWN]))
        self.above += [message.said for message in gone]
        await self.remove_children(gone)

    async def _drop_last(self) -> None:
        """What is far below it."""
        far = self.scroll_y + 3 * self.size.height
        gone = list(takewhile(lambda message: message.virtual_region.y > far and _may_go(message), self.messages[:SHOWN - 1:-1]))
        self.below = [message.said for message in reversed(gone)] + self.below
        await self.remove_children(gone)


def _may_go(message: Message) -> bool:
    placed = message.virtual_region.height > 0  # or it seems to be at the very begin
    return placed and not message.running and not message.has_focus
