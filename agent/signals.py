"""Weak signs that an answer was not what was wanted, read from the message that came after it.

Knows words alone: no model, no store. A sign is about the turn before, is kept under its own name, and never
becomes a training row by itself; it helps a reviewer to find what is worth a look.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NamedTuple

from agent.retrieve import words
from agent.types import Turn

ANSWERED = ("answered", "done")
SPOKEN = (*ANSWERED, "refused")
"""States in which a turn left a reply that one can doubt; after a question of the agent's, a "no" is an answer."""
SAME = 0.5
"""Share of the shorter message's words that must come again, with the same intent."""
LIKE = 0.75
"""The same where the router sees another intent."""


class Signal(NamedTuple):
    """One weak sign."""

    turn: str
    """Id of the turn that it is about."""
    name: str
    """reask, disputed or handoff_after_answer."""
    detail: str


_NO = r"(?:(?:no+|nope|nah|sorry|but|hm+|actually|wait|well|i think)[\s,.!:]+)*"
_END = r"(?=\s*(?:$|[.,;:!?]|and\b|but\b|i\b|answer|information|number))"
_DISPUTED = [re.compile(pattern) for pattern in (
    # English
    rf"^{_NO}(?:that|this|it|the answer|your answer)(?:'?s| is| was) (?:\w+ly |all |just |so |the )?"
    rf"(?:wrong|incorrect|false|untrue|nonsense|rubbish|not (?:right|correct|true)){_END}",
    rf"^{_NO}(?:that|this|it) (?:isn|wasn)'?t (?:right|correct|true){_END}",
    r"\b(?:not|isn'?t|wasn'?t) (?:what|the question) i (?:asked(?! for)|meant|said|was asking|wanted to know)",
    r"\bi (?:did not|didn'?t) (?:ask (?:you )?(?:that|this|about that)|mean that)\b",
    r"\byou(?:'re| are) (?:wrong|mistaken)\b|\byou (?:got|have) (?:that|it|this|me) wrong\b|^wrong answer\b",
    r"\byou (?:(?:did not|didn'?t|do not|don'?t) (?:answer(?: my| the)? question|understand)|misunderst(?:and|ood))\b",
    r"\b(?:that|this) (?:does not|doesn'?t|did not|didn'?t) answer (?:my|the) question\b",
    # German, without umlauts
    r"\b(?:das|es) stimmt (?:so |doch |aber |leider |gar |uberhaupt )*nicht\b|^(?:nein[\s,.!]+)?stimmt nicht\b",
    r"\bdas (?:ist|war) (?:so |doch |aber |leider |ganz |vollig )*"
    r"(?:falsch|verkehrt|quatsch|unsinn|nicht (?:richtig|korrekt|wahr))(?=\s*(?:$|[.,;:!?]))",
    r"\b(?:das|danach) (?:habe?|hatte|war) ich (?:\w+ )?nicht (?:gefragt|gemeint)\b|\bdas (?:war|ist) nicht meine frage\b",
    r"\b(?:du irrst dich|sie irren sich|falsche antwort)\b|\b(?:du hast|sie haben) mich (?:falsch|nicht|miss) ?verstanden\b",
    # French, without accents
    r"\bc'?est (?:\w+ment |tout a fait )?(?:faux|incorrect|inexact)(?=\s*(?:$|[.,;:!?]))",
    r"\bce n'?(?:est|etait) pas (?:vrai|juste|correct|exact|ma question|ce que j'?(?:ai|avais|ai) (?:demande|dit)\b)",
    r"\b(?:vous vous trompez|tu te trompes|mauvaise reponse)\b|\b(?:vous n'?avez|tu n'?as) pas (?:compris|repondu)\b",
    # Spanish, without accents
    r"\b(?:eso|esto) (?:no es (?:correcto|cierto|verdad|asi)|esta mal|es (?:falso|incorrecto))(?=\s*(?:$|[.,;:!?]))",
    r"\bno es lo que (?:he |te |le |les )*(?:pregunt|quise decir|queria (?:saber|decir))",
    r"\b(?:te equivocas|se equivoca|respuesta (?:incorrecta|equivocada))\b",
    r"\bno (?:me )?(?:has|ha|han) (?:entendido|respondido)\b",
    # Chinese: at the start of a clause, or said of an answer, as "尺寸不对" is about a size
    r"(?:^|[,.;!?，。；！？、\s])(?:你|这|那|这个|那个|你说的|答案|回答|你的回答|你的答案)?(?:是|都|完全|根本|说|说得|就)*"
    r"(?:不对|不對|错了|錯了|错的|不正确|不正確)(?!不|劲)(?=$|[,.;!?，。；！？、\s吧啊呀的])",
    r"不是我(?:想|要)?问的|不是我(?:想|要)?問的|我(?:问|問)的不是|不是这个意思|不是這個意思|答非所问|答非所問|你(?:理解|搞|弄)[错錯]",
)]
_AGAIN = re.compile(r"\b(?:i mean|i meant|what i (?:mean|meant|asked)|let me (?:rephrase|ask again)|in other words"
                    r"|ich mein(?:t)?e?|anders gesagt|je veux dire|autrement dit|quiero decir|quise decir|es decir)\b|我的意思是|我是说")


def weak(before: Mapping[str, Any] | None, turn: Turn, asked: bool = False) -> list[Signal]:
    """What `turn` says about the one before it, a row of the table `turns`; None: there is none.

    `asked`: the agent was waiting for a slot, a yes or a choice, so that what came was its answer.
    """
    if before is None or asked or before["state"] not in SPOKEN:
        return []
    found = []
    if detail := disputed(turn.redacted):
        found.append(Signal(before["id"], "disputed", detail))
    elif detail := reask(before["question"], turn.redacted, before["intent"] == turn.intent):
        found.append(Signal(before["id"], "reask", detail))
    if turn.state == "handoff" and before["state"] in ANSWERED and len(words(before["question"])) > 1:  # not after "hello"
        found.append(Signal(before["id"], "handoff_after_answer", turn.intent or ""))
    return found


def disputed(text: str) -> str:
    """The words that say that the answer was wrong (en, de, fr, es, zh), or an empty string; the start is read alone."""
    said = _folded(text[:300])
    return next((match.group().strip() for pattern in _DISPUTED if (match := pattern.search(said))), "")


def reask(question: str, again: str, same_intent: bool) -> str:
    """How the second message repeats the wish of the first, in words, or an empty string.

    Not when it brings a new figure, date or id: then the wish itself is new.
    """
    first, second = set(words(_folded(question))), set(words(_folded(again)))
    shared, shorter = first & second, min(len(first), len(second))
    if _figures(second) - _figures(first) or len(shared) < 2:
        return ""
    restated = bool(_AGAIN.search(_folded(again)))
    if len(shared) >= (SAME if same_intent or restated else LIKE) * shorter:
        return f"{len(shared)} of {shorter} words again" + (", restated" if restated else "")
    return ""


def _figures(found: set[str]) -> set[str]:
    return {word for word in found if any(sign.isdigit() for sign in word)}


def _folded(text: str) -> str:
    """Lower case, with one apostrophe, without accents."""
    apart = unicodedata.normalize("NFKD", text.lower().replace("’", "'").replace("ß", "ss"))
    return "".join(sign for sign in apart if not unicodedata.combining(sign))
