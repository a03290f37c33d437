"""A question and its answer in the chat: one at a time, from the agent's events to the message that shows them.

Knows the chat screen and its messages; a turn itself is the agent's, and runs backstage.
"""

from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from textual.worker import Worker, WorkerError

from agent.errors import RetuneError
from agent.surfaces.tui import confirming
from agent.surfaces.tui.talk import row_of
from agent.surfaces.tui.widgets.message import Said
from agent.types import Delta, Done, Routed

if TYPE_CHECKING:
    from agent.surfaces.tui.screens.chat import ChatScreen


class Asking:
    """`begin` asks, `stop` ends the answer that is being written; `served` is the turn that was answered last, as a row."""

    def __init__(self, chat: "ChatScreen") -> None:
        self.chat = chat
        self.served: dict[str, Any] = {}
        self.next = ""
        """What was sent while an answer was being written: it stays in the prompt, and goes when that is over."""
        self._worker: Worker[None] | None = None

    @property
    def free(self) -> bool:
        """No answer is being written."""
        return self._worker is None or self._worker.is_finished

    def begin(self, text: str) -> bool:
        """Begin a turn; False while another one runs."""
        if not self.free:
            return False
        self.next = ""
        self._worker = self.chat.run_worker(self._turn(text), group="turn", exit_on_error=False)
        return True

    def stop(self) -> None:
        """What was said of the answer is logged."""
        if self._worker:
            self._worker.cancel()

    async def finished(self) -> None:
        """Return when no answer is being written any more."""
        if self._worker:
            with suppress(WorkerError):
                await self._worker.wait()

    async def _turn(self, text: str) -> None:
        chat, talk, backstage = self.chat, self.chat.talk, self.chat.app.backstage
        turn_id, why, domain, journal = None, "stopped", "", chat.app.journal
        likely = talk.current or talk.wanted[0]  # until it is routed
        journal.begin(talk.session(likely), likely, text)
        message = await chat.conversation.add(Said(text))
        chat.refresh_bindings()
        try:
            message.wait("…" if set(talk.wanted) <= set(backstage.loaded()) else "waits until the models are loaded …")
            agents = {name: await backstage.agent(name) for name in talk.wanted}
            agent = await backstage.call(talk.choose, text, agents)
            domain = agent.domain.name
            async with aclosing(backstage.stream(agent, text, talk.session(domain), chat.app.author)) as events:
                async for event in events:
                    if isinstance(event, Routed):
                        turn_id = event.turn.id
                        journal.route(event.turn)
                        message.wait(f"{domain} · {(event.turn.intent or 'out of scope').replace('_', ' ')} …")
                    elif isinstance(event, Delta):
                        message.say(event.text)
                        journal.say(event.text)
                    elif isinstance(event, Done):
                        talk.current = domain
                        self.served = row_of(event.turn, event.reply)
                        await message.finish(self.served, event.turn)
                        turn_id = None
                        if event.turn.state == "confirming":
                            chat.app.run_worker(confirming.confirm(message), group="confirm")
                        return
        except RetuneError as error:
            why = str(error)
        finally:
            if message.running:
                row = await backstage.call(chat.app.store.turn, turn_id) if turn_id else None
                await message.fail(why, row)
            journal.end()
            chat.renew()
