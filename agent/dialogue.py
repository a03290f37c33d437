"""Slots, confirmation, correction, follow-ups, switching topic and coming back: from one message to one move.

Pure: state in, move out; runs no tool, writes nothing, asks no model. The state is plain data and lives in the store.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Self

from agent import asides, quantities, slots
from agent.domain import Domain, Intent
from agent.types import Route

SURE = 0.6  # below it a message does not take the conversation away from a question that is open
CLARIFY_BELOW = 0.55  # above it two close intents are not asked about
MOST_OPTIONS = 3
"""Intents that are asked about at once, where the router holds so many to be likely; else the first two."""
CARRIED = ("id", "name")  # kinds whose value a follow-up may take from what went before

Read = Callable[..., dict[str, Any]]
"""(text, slots, asked=None) -> values: `slots.read` with the domain's tables and the clock."""


@dataclass(frozen=True, slots=True)
class State:
    """What is open in a conversation."""

    intent: str | None = None
    """The tool intent that is being filled or confirmed."""
    slots: dict[str, Any] = field(default_factory=dict)
    asking: str | None = None
    confirming: bool = False
    options: tuple[str, ...] = ()
    """Intents that were asked about."""
    unclear: str = ""
    """The message that was unclear, to be answered once the choice is made."""
    last_intent: str | None = None
    last_slots: dict[str, Any] = field(default_factory=dict)
    aside: bool = False
    """Whether something else was answered since the last tool ran."""
    waiting: tuple[dict[str, Any], ...] = ()
    """Interrupted wishes, newest last: {"intent", "slots"}."""

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Self:
        """From what `table()` gave."""
        known = {name: table[name] for name in cls.__slots__ if name in table}
        return cls(**known | {name: tuple(known[name]) for name in ("options", "waiting") if name in known})

    def table(self) -> dict[str, Any]:
        """As plain data for the store."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Move:
    """What to do now."""

    kind: str
    """docs, fixed, handoff, run, ask, confirm, cancelled, clarify or refuse."""
    state: State
    intent: str | None = None
    slots: dict[str, Any] = field(default_factory=dict)
    say: str = ""
    question: str = ""
    """What to look up, where it is not the message itself."""


def asks_back(domain: Domain, route: Route, text: str) -> bool:
    """Whether two intents are too close to act on either."""
    ranking = route.ranking
    close = len(ranking) > 1 and ranking[0][1] - ranking[1][1] < domain.clarify_margin
    return close and ranking[0][1] < CLARIFY_BELOW and len(text.split()) > 1


def step(domain: Domain, state: State, text: str, route: Route, read: Read, changes: Callable[[Intent], bool]) -> Move:
    """The move for `text`; `changes` says whether an intent's tool changes something and so needs a yes."""
    here = _Step(domain, text, route, read, changes)
    if state.options:  # asked last, so read first; a message that picks neither lets go of both
        if move := here.choosing(state):
            return move
        state = replace(state, options=(), unclear="")
    if state.confirming and (move := here.confirming(state)):
        return move
    if state.asking and (move := here.asking(state)):
        return move
    if slots.is_cancel(text) and not here.sure():
        return Move("cancelled", _close(state), say="All right, I have left it." if state.intent else "All right.")
    if move := here.follow_up(state):
        return move
    return here.fresh(state)


def open_question(domain: Domain, state: State) -> str:
    """How to come back to what is still open, or an empty string."""
    if state.asking and state.intent:
        return f"Back to {domain.intents[state.intent].about}: {domain.ask[state.asking]}"
    if state.confirming and state.intent:
        return f"Back to {domain.intents[state.intent].about}: shall I go ahead?"
    return ""


def resume(domain: Domain, state: State, read: Read, changes: Callable[[Intent], bool]) -> Move | None:
    """The interrupted wish, taken up again after something else was finished."""
    if state.intent or not state.waiting:
        return None
    wish = state.waiting[-1]
    here = _Step(domain, "", Route(wish["intent"], 1.0, ((wish["intent"], 1.0),), 0.0), read, changes)
    return here.fill(replace(state, waiting=state.waiting[:-1]), domain.intents[wish["intent"]], dict(wish["slots"]))


def reopened(state: State, move: Move, slot: str) -> State:
    """The wish of a move that failed for one value, asking for another one."""
    kept = {name: value for name, value in move.slots.items() if name != slot}
    return replace(state, intent=move.intent, slots=kept, asking=slot)


@dataclass(frozen=True, slots=True)
class _Step:
    domain: Domain
    text: str
    route: Route
    read: Read
    changes: Callable[[Intent], bool]

    def sure(self, other_than: str | None = None) -> bool:
        """Whether the router is sure of an intent other than the given one."""
        return bool(self.route.intent) and self.route.intent != other_than and self.route.confidence >= SURE

    def elsewhere(self, intent: Intent, found: dict[str, Any]) -> bool:
        """Whether a message that names a thing is surely a question of another kind, as "and where is LK-10555?" is."""
        names = bool(found) and all(kind.partition(":")[0] in CARRIED for name, kind in intent.slots if name in found)
        asks = asides.is_question(self.text) and not slots.is_correction(self.text)
        return self.sure(other_than=intent.name) and names and asks and not asides.says_only(self.text, found, spare=0)

    def tells(self, intent: Intent, state: State, said: dict[str, Any]) -> bool:
        """Whether a statement brings what is not known yet or sets right what is: "I was thinking four years"."""
        new = set(said) - set(state.slots) or slots.is_correction(self.text)
        return bool(new) and not asides.is_question(self.text) and asides.says_only(self.text, said, spare=3)

    def set_right(self, intent: Intent, before: Mapping[str, Any]) -> dict[str, Any]:
        """What a changed value means that names no slot: a bare value for the one it is near to, else free words."""
        asked = {name: self.read(self.text, intent.slots, asked=name).get(name) for name, _ in intent.slots}
        near = []
        for name, kind in intent.slots:
            if kind != "text" and asked[name] is not None and asides.says_only(self.text, {name: asked[name]}):
                value = quantities.on_the_scale_of(before.get(name), asked[name]) if kind == "money" else asked[name]
                near.append((quantities.times_apart(before.get(name), value), name, value))
        near.sort(key=lambda each: each[0])
        if near:
            clear = len(near) == 1 or near[0][0] * 1.5 <= near[1][0]
            return {near[0][1]: near[0][2]} if clear else {}
        free = asides.says_meant(self.text) and not asides.is_question(self.text)
        return {name: asked[name] for name, kind in intent.slots if free and kind == "text" and asked[name]}

    def confirming(self, state: State) -> Move | None:
        intent = self.domain.intents[state.intent or ""]
        if slots.is_yes(self.text):
            return Move("run", _close(state), intent.name, state.slots)
        found = self.read(self.text, intent.slots)
        if not found and slots.is_correction(self.text):
            found = self.set_right(intent, state.slots)
        changed = {name: value for name, value in found.items() if value != state.slots.get(name)}
        if changed and not self.elsewhere(intent, found):
            return self.fill(state, intent, state.slots | changed)
        if slots.is_no(self.text) or slots.is_cancel(self.text):
            return Move("cancelled", _close(state), intent.name, state.slots, "All right, nothing was changed.")
        if self.sure(other_than=intent.name) or self.route.intent is None:
            return None
        return self.fill(state, intent, state.slots)

    def asking(self, state: State) -> Move | None:
        intent, slot = self.domain.intents[state.intent or ""], state.asking or ""
        if slots.is_cancel(self.text):
            return Move("cancelled", _close(state), intent.name, state.slots, "All right, I have left it.")
        kind = dict(intent.slots)[slot]
        said = self.read(self.text, intent.slots)
        found = self.read(self.text, intent.slots, asked=slot) or said
        bare = kind != "text" and slot in found and asides.says_only(self.text, {slot: found[slot]})  # however it is routed
        if self.elsewhere(intent, said):
            return None
        if slot not in found and re.fullmatch(r"\W*\d[\d.,]*\W*", self.text):  # a mere number that this slot cannot take
            return Move("ask", state, intent.name, state.slots, f"I did not catch that. {self.domain.ask[slot]}")
        fits = slot in said or bare or self.tells(intent, state, said)
        if not fits and self.sure(other_than=intent.name) and (kind != "text" or asides.is_question(self.text)):
            return None
        if kind == "text" and asides.is_question(self.text) and self.route.intent != intent.name and slot not in said:
            return None
        if found:
            return self.fill(state, intent, state.slots | found)
        if self.route.intent is None and asides.is_question(self.text):
            return None
        return Move("ask", state, intent.name, state.slots, f"I did not catch that. {self.domain.ask[slot]}")

    def choosing(self, state: State) -> Move | None:
        """Pick one of the intents that were asked about, by place, by a yes or in words; what was unclear is read again."""
        picked, also = None, ""
        wanted = re.search(r"\b(first|1|second|2|third|3)\b", self.text.lower())
        if wanted and len(self.text.split()) <= 4:
            place = {"first": 0, "1": 0, "second": 1, "2": 1, "third": 2, "3": 2}[wanted[1]]
            picked = state.options[place] if place < len(state.options) else None
        elif slots.is_yes(self.text):
            picked = state.options[0]
        elif self.route.intent in state.options:
            if slots.is_cancel(self.text) or slots.is_no(self.text):
                return None
            picked, also = self.route.intent, self.text
        elif not self.sure():
            words = {option: asides.overlap(self.text, self.domain.intents[option].about) for option in state.options}
            best = max(words, key=lambda option: words[option])
            picked = best if words[best] else None
        if picked is None:
            return None
        again = replace(self, text=state.unclear, route=replace(self.route, intent=picked, confidence=1.0))
        question = "" if also and asides.is_question(also) else state.unclear
        return again.start(replace(state, options=(), unclear=""), self.domain.intents[picked], question, also)

    def follow_up(self, state: State) -> Move | None:
        """"and over 10 years?", "what about naproxen?": the last tool again with what changed."""
        last = self.domain.intents.get(state.last_intent or "")
        if state.intent or not last or not last.slots:
            return None
        found = self.read(self.text, last.slots)
        figures = any(kind in quantities.MEASURED for name, kind in last.slots if name in found)
        other = self.sure(other_than=last.name)
        spare = 2 if figures and not asides.is_question(self.text) else 0
        terse = not other and asides.says_only(self.text, found, spare)
        back = figures and asides.leans(self.text)
        if not (terse or back or slots.is_follow_up(self.text) or slots.is_correction(self.text)):
            return None
        if not found and len(last.slots) == 1 and last.slots[0][1] != "text":
            found = self.read(self.text, last.slots, asked=last.slots[0][0])
        found = found or self.set_right(last, state.last_slots)
        article = other and self.domain.intents[self.route.intent or ""].answer != "tool"
        apart = self.route.intent != last.name and self.route.confidence > (0.9 if figures and not article and not state.aside else SURE)
        if not found or apart and not asides.says_only(self.text, found) or self.elsewhere(last, found):
            return None
        return self.fill(replace(state, asking=None), last, state.last_slots | _paired(last, found, state.last_slots))

    def fresh(self, state: State) -> Move:
        """A wish of its own."""
        if self.route.intent is None:
            return Move("refuse", state)
        ranking = self.route.ranking
        if asks_back(self.domain, self.route, self.text):
            likely = self.route.likely
            options = likely if 2 <= len(likely) <= MOST_OPTIONS else tuple(name for name, _ in ranking[:2])
            *first, last = (self.domain.intents[option].about for option in options)
            say = f"I want to be sure I understand. Is it about {', about '.join(first)}, or about {last}?"
            return Move("clarify", replace(state, options=options, unclear=self.text), say=say)
        return self.start(state, self.domain.intents[self.route.intent])

    def start(self, state: State, intent: Intent, question: str = "", also: str = "") -> Move:
        """Answer, or begin to fill the slots of a tool; `also` was said after the text."""
        if intent.answer in ("docs", "generate"):
            return Move("docs", replace(state, aside=True), intent.name, question=question)
        if intent.answer in ("fixed", "handoff"):
            return Move(intent.answer, state, intent.name, say=intent.reply)
        if state.intent and state.intent != intent.name:  # put aside what was open
            state = replace(state, waiting=(*state.waiting, {"intent": state.intent, "slots": state.slots}))
        known = self.read(self.text, intent.slots) | self.read(also, intent.slots)
        for wish in state.waiting:  # said again: what was told before still counts, unless another thing is meant
            if wish["intent"] == intent.name and all(known.get(name, value) == value for name, value in wish["slots"].items()):
                state = replace(state, waiting=tuple(other for other in state.waiting if other is not wish))
                known = wish["slots"] | known
        carried = {}
        if asides.leans(self.text) or slots.is_follow_up(self.text):
            before = state.last_slots | state.slots
            last = self.domain.intents.get(state.last_intent or "", intent)
            alike = last is not intent and last.slots == intent.slots
            carried = {name: before[name] for name, kind in intent.slots
                       if name in before and (alike or kind.partition(":")[0] in CARRIED)}
        return self.fill(state, intent, carried | _paired(intent, known, carried))

    def fill(self, state: State, intent: Intent, values: dict[str, Any]) -> Move:
        """Ask for the first missing slot, else confirm, else run."""
        open_state = replace(state, intent=intent.name, slots=values, asking=None, confirming=False)
        for name, _ in intent.slots:
            if name not in values and name not in intent.optional:
                return Move("ask", replace(open_state, asking=name), intent.name, values, self.domain.ask[name])
        if self.changes(intent):
            told = ", ".join(f"{name} {value}" for name, value in values.items())
            say = f"Please confirm, {intent.about}: {told}. Shall I go ahead?"
            return Move("confirm", replace(open_state, confirming=True), intent.name, values, say)
        return Move("run", _close(open_state), intent.name, values)


def _close(state: State) -> State:
    """Nothing open any more; what it was stays for follow-ups."""
    return replace(state, intent=None, slots={}, asking=None, confirming=False, options=(), unclear="", aside=False,
                   last_intent=state.intent or state.last_intent, last_slots=state.slots or state.last_slots)


def _paired(intent: Intent, found: dict[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """A lone new name beside one from before takes the second of two places: "with warfarin?" after ibuprofen."""
    for (first, kind), (second, other) in pairwise(intent.slots):
        new = kind == other and kind.startswith("name:") and first in found and second not in found
        if new and found[first] != before.get(first, found[first]):
            return {name: value for name, value in found.items() if name != first} | {second: found[first]}
    return found
