"""What a row of evaluation is like (length, language, source, intent), and figures slice by slice. Knows texts, no model."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SHORT, MEDIUM = 6, 18  # words; in Chinese and Japanese two characters count as one word
_SCRIPTS = (("ja", "぀-ヿ"), ("zh", "㐀-鿿"), ("ko", "가-힯"), ("ru", "Ѐ-ӿ"), ("ar", "؀-ۿ"), ("el", "Ͱ-Ͽ"), ("hi", "ऀ-ॿ"))
_COMMON = {
    "en": "the and to of is my for you how what do can it in not with have i",
    "de": "der die das und ist nicht ich zu ein eine mit wie auf für mein kann was",
    "fr": "le la les et est je ne pas un une pour mon ma que vous comment des",
    "es": "el los las y es no un una para mi que cómo con por de puedo",
    "it": "il gli e è non un una per mio che come con di posso sono",
    "nl": "de het een en is niet ik mijn voor hoe kan van met wat",
    "pt": "o os as e é não um uma para meu que como com por posso do",
}
_STOPS = {language: frozenset(said.split()) for language, said in _COMMON.items()}


def traits(row: Mapping[str, Any], text: str, languages: Sequence[str] = ("en",)) -> dict[str, str]:
    """{"length", "language"} and, where the row says so, {"intent", "source"} of one row of evaluation."""
    found = {"length": length(text), "language": str(row.get("language") or language(text, languages))}
    if row.get("intent"):
        found["intent"] = str(row["intent"])
    if source := row.get("source") or row.get("kind"):
        found["source"] = str(source)
    return found


def length(text: str) -> str:
    """short (up to six words), medium or long (from nineteen words)."""
    characters = len(re.findall("[぀-ヿ㐀-鿿]", text))
    count = characters / 2 + len(re.findall(r"[^\W_぀-ヿ㐀-鿿]+", text))
    return "short" if count <= SHORT else "medium" if count <= MEDIUM else "long"


def language(text: str, languages: Sequence[str] = ("en",)) -> str:
    """A guess by script, then by common words; the first of `languages` where neither tells."""
    for name, signs in _SCRIPTS:
        if re.search(f"[{signs}]", text):
            return name
    said = re.findall(r"[^\W\d_]+", text.lower())
    votes = {name: sum(word in stops for word in said) for name, stops in _STOPS.items()}
    home = languages[0] if languages else "en"
    best = max(votes, key=lambda name: (votes[name], name == home))
    return best if votes[best] > max(1, votes.get(home, 0)) else home


def by_slice(rows: Iterable[Mapping[str, str]], values: Iterable[float], figure: str) -> dict[str, dict[str, dict[str, float]]]:
    """{"intent": {"refund": {"n": 15, figure: mean}}, ...}; `rows` are the traits of each row, `values` its outcome."""
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for named, value in zip(rows, values, strict=True):
        for kind, name in named.items():
            found[kind][name].append(float(value))
    return {kind: {name: {"n": len(said), figure: sum(said) / len(said)} for name, said in sorted(names.items())}
            for kind, names in sorted(found.items())}
