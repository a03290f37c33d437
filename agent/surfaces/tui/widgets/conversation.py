"""The answers of a conversation, of which only those near the eye are widgets: a thousand of them scroll like ten."""

from itertools import takewhile

from textual.containers import VerticalScroll

from agent.surfaces.tui.widgets.message import Message, Said

SHOWN = 24
"""Messages that are widgets when a conversation is opened: more than fit any screen."""
MORE = 8
"""How many become widgets at once when their end comes near; as many go at the other end."""


class Conversation(VerticalScroll, can_focus=False):
    """`above` and `below` are what is said before and after the messages that are shown."""

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.above: list[Said] = []
        self.below: list[Said] = []
        self._moving = False

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
        self.above, self.below = said[:begin], said[end:]
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
        if len(self.messages) > SHOWN + MORE:
            await self._drop_first()
        return message

    async def beside(self, message: Message | None, by: int) -> Message | None:
        """The message above (-1) or below (1) another one; None is the place after the last."""
        messages = self.messages
        at = messages.index(message) if message in messages else len(messages)
        if at + by < 0 and self.above:
            await self._mount_above()
        elif at + by >= len(messages) and self.below and message:
            await self._mount_below()
        messages = self.messages
        at = (messages.index(message) if message in messages else len(messages)) + by
        return messages[max(0, at)] if at < len(messages) else None

    def watch_scroll_y(self, old: float, new: float) -> None:
        """Keep widgets ahead of the eye, a page of them at least."""
        super().watch_scroll_y(old, new)
        if old != new and self.is_attached:
            self._fill(new < old)

    def _fill(self, up: bool) -> None:
        near = self.size.height
        if self._moving:
            return
        if up and self.scroll_y < near and self.above:
            self._moving = True
            self.run_worker(self._mount_above(), group="window")
        elif not up and self.scroll_y > self.max_scroll_y - near and self.below:
            self._moving = True
            self.run_worker(self._mount_below(), group="window")

    def _check_anchor(self) -> None:
        """The end of what is mounted is the conversation's only where nothing is left below."""
        if not self.below:
            super()._check_anchor()

    async def _mount_above(self) -> None:
        self._moving = True
        try:
            first, top = self.messages[0], self.messages[0].virtual_region.y
            more, self.above = self.above[-MORE:], self.above[:-MORE]
            async with self.batch():
                await self.mount_all([Message(each) for each in more], before=0)
                if len(self.messages) > SHOWN + MORE:
                    await self._drop_last()
            self.call_after_refresh(self._keep, first, top)
            self.call_after_refresh(self._fill, True)
        finally:
            self._moving = False

    async def _mount_below(self) -> None:
        self._moving = True
        try:
            more, self.below = self.below[:MORE], self.below[MORE:]
            async with self.batch():
                await self.mount_all([Message(each) for each in more])
                if len(self.messages) > SHOWN + MORE:
                    await self._drop_first()
            self.call_after_refresh(self._fill, False)
        finally:
            self._moving = False

    def _keep(self, message: Message, was: int) -> None:
        """What was read stays where it was on the screen."""
        self.scroll_to(y=self.scroll_y + message.virtual_region.y - was, animate=False, immediate=True)

    async def _drop_first(self) -> None:
        """Those that were read long ago; what is read now stays where it is on the screen."""
        gone = list(takewhile(lambda message: not message.running and not message.has_focus, self.messages[:MORE]))
        if not gone:
            return
        height = self.messages[len(gone)].virtual_region.y - gone[0].virtual_region.y
        follows = self._anchored and not self._anchor_released
        self.above += [message.said for message in gone]
        await self.remove_children(gone)
        if not follows:
            self.scroll_to(y=max(0, self.scroll_y - height), animate=False, immediate=True)

    async def _drop_last(self) -> None:
        gone = self.messages[-MORE:]
        if any(message.running or message.has_focus for message in gone):
            return
        self.below = [message.said for message in gone] + self.below
        await self.remove_children(gone)
