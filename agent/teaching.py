"""What people may say about a turn: the kinds, which of them need words, which cannot stand side by side.

Knows the rules and how words are made private before they are kept; does not know what is learned from them.
"""

import hashlib
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

from agent.errors import DataError
from agent.redact import Redactor

if TYPE_CHECKING:
    from agent.redactors import Redactors
    from agent.store import Store

KINDS = ("up", "down", "correction", "intent", "none_of_these", "comment", "reply")
"""`reply`: what a person answered after the turn was handed off."""
TEXTS = ("correction", "comment", "reply")
"""Kinds whose value is somebody's own words; they are redacted."""
VALUED = (*TEXTS, "intent")
OPPOSITES = {"up": "down", "down": "up", "intent": "none_of_these", "none_of_these": "intent"}
"""What nobody can mean at once."""
RIVALS = {kind: (other,) for kind, other in OPPOSITES.items()} | {"up": ("down", "correction"), "correction": ("up",)}
"""What an author takes back by saying the other: who knows a better answer no longer calls this one good, nor the other way."""


ASKED = "asked for by a person"
"""Why a conversation is on the desk where whoever wished it gave no reason."""


def check_kind(kind: str, kinds: Collection[str] = KINDS) -> None:
    """Raise DataError unless the kind is one of `kinds`."""
    if kind not in kinds:
        raise DataError(f"There is no feedback {kind!r}; use one of {', '.join(kinds)}.")


def check(kind: str, value: str | None = None, intents: Collection[str] | None = None) -> None:
    """Raise DataError unless this can be said; `intents`: the domain's, None where the domain is not known."""
    check_kind(kind)
    if kind in VALUED and not (value and value.strip()):
        raise DataError(f"Feedback {kind!r} needs its text; give it as the value.")
    if kind not in VALUED and value:
        raise DataError(f"Feedback {kind!r} takes no text; say it as a comment or a correction.")
    if kind == "intent" and intents is not None and value not in intents:
        raise DataError(f"There is no intent {value!r}; the domain knows {', '.join(sorted(intents))}.")


def redacted(kind: str, value: str | None, turn: dict[str, Any], redactor: Redactor) -> str | None:
    """The value as it may be kept; marks that stand in the logged turn are given to no new value."""
    if kind not in TEXTS or not value:
        return value or None
    redactor.reserve(f"{turn['question']}\n{turn['reply']}")
    return redactor.redact(value.strip())


def teach(store: "Store", turn_id: str, kind: str, author: str, value: str | None = None, *, domain: str | None = None,
          intents: Collection[str] | None = None, redactors: "Redactors | None" = None) -> None:
    """Check, redact and write what `author` says about a turn.

    `domain`: the name of the only domain whose turns may be meant; `redactors`: those of the process that has held the
    conversation. Raises DataError for a turn or an intent that is not there.
    """
    teach_all(store, turn_id, {kind: value}, author, domain=domain, intents=intents, redactors=redactors)


def teach_all(store: "Store", turn_id: str, said: Mapping[str, str | None], author: str, *, domain: str | None = None,
              intents: Collection[str] | None = None, redactors: "Redactors | None" = None) -> None:
    """`teach` for several kinds with their values, as one transaction."""
    for kind, value in said.items():
        check(kind, value, intents)
    turn = turn_of(store, turn_id, domain)
    redactor = _redactor(turn, redactors)
    store.feedback_all([{"turn": turn_id, "author": author, "kind": kind, "value": redacted(kind, value, turn, redactor)}
                        for kind, value in said.items()])


def hand_off(store: "Store", turn_id: str, author: str, reason: str = "", *, domain: str | None = None,
             redactors: "Redactors | None" = None) -> None:
    """Redact the reason and put the turn's conversation on the desk; as `teach` for the rest."""
    turn = turn_of(store, turn_id, domain)
    why = redacted("comment", reason.strip(), turn, _redactor(turn, redactors))
    store.hand_off(turn_id, author, why or ASKED)


def turn_of(store: "Store", turn_id: str, domain: str | None = None) -> dict[str, Any]:
    """The turn's row; DataError if it is not there or, where a domain is named, not that domain's."""
    turn = store.turn(turn_id)
    if turn is None:
        raise DataError(unknown_turn(turn_id))
    if domain is not None and turn["domain"] != domain:
        raise DataError(f"Turn {turn_id!r} belongs to the domain {turn['domain']!r}, not to {domain!r}; name that domain.")
    return turn


def _redactor(turn: dict[str, Any], redactors: "Redactors | None") -> Redactor:
    return Redactor() if redactors is None else redactors.of(turn["session"])


def unknown_turn(turn_id: str) -> str:
    """The sentence for a turn that is not in the database."""
    return f"There is no turn {turn_id!r}; take the id from an answer or a log."


def not_handed_off(turn_id: str) -> str:
    """The sentence for a reply where nobody was asked for one."""
    return f"Turn {turn_id!r} was not handed off; say a better answer as a correction."


def forgotten_key(author: str) -> str:
    """What the table `forgotten` keeps of a name: its sha256."""
    return hashlib.sha256(author.encode("utf-8", "surrogatepass")).hexdigest()
