"""What the words beside the values of a message do: ask, lean on what went before, say more than the values or nothing more."""

import re
from typing import Any

from agent import spoken

_MEANT = re.compile(r"(?i)\b(?:i mean[t]?|should (?:be|say|read)|make (?:it|that)|not .{1,60} but)\b")


def is_question(text: str) -> bool:
    """Whether a message asks something, with or without its sign."""
    return bool(re.search(r"[?？]", text)
                or re.match(r"(what|how|when|where|why|who|which|can|do|does|is|are|could)\b", text.lower()))


def leans(text: str) -> bool:
    """Whether the message points back by a word such as "it" or "that one"."""
    return bool(re.search(r"\b(it|its|that|this|them|their|those|the same|that one|one)\b", text.lower()))


def says_meant(text: str) -> bool:
    """Whether a message tells outright what was meant, so that even free words may take another's place."""
    return bool(_MEANT.search(text))


_LEADS = frozenset("a about actually ah also and at be but d for hmm how i if instead is it its let lets ll m make maybe mean meant "
                   "my no not of oh one oops or over please rather s same say so sorry that the then though to too try typo us "
                   "wait was we well what with would wrong year years yr yrs month months percent".split())


def says_only(text: str, values: dict[str, Any], spare: int = 1) -> bool:
    """Whether a message holds the values and hardly a word besides (`spare`), as in "and what about LK-10436?".

    A name that stands in other words, as an alias or misspelt, has one word for itself.
    """
    told = set(re.findall(r"\w+", " ".join(map(str, (*values, *values.values()))).lower()))
    words = re.findall(r"\w+", re.sub(r"^\W*(?:ok|okay)\b", "", spoken.plain(text)))
    rest = [word for word in words if word not in _LEADS | told and not any(map(str.isdigit, word))]
    renamed = sum(isinstance(value, str) and value.isalpha() and value.lower() not in words for value in values.values())
    return bool(values) and len(rest) <= spare + renamed


def overlap(text: str, about: str) -> int:
    """Longer words that two texts share."""
    return len(set(re.findall(r"\w{4,}", text.lower())) & set(re.findall(r"\w{4,}", about.lower())))
