"""Rows of the router once more with noise: slips of the keyboard, other words, paraphrases that a router still understands.

Knows texts and labels. Figures, negations and marks such as [NAME_1] stay as they are, so that a label stays true.
Give it training rows alone: held-out and test rows are never copied.
"""

import random
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from difflib import SequenceMatcher

from agent.domain import plain
from agent.errors import DataError
from agent.generators.local import LocalGenerator
from agent.spoken import NUMBER, ORDINAL
from tuning.dataset import Text
from tuning.recipe import AugmentRecipe
from tuning.synonyms import GROUPS

Paraphrase = Callable[[str], str]
Label = Callable[[Sequence[str]], Sequence[str]]
"""Texts -> the intents that a trained router gives them, `oos` where it is none."""
Neighbours = Mapping[tuple[str, str], Sequence[str]]
"""(intent, word) -> words that may stand for it there."""

LIKENESS = 0.85
"""A paraphrase whose words are more alike than this (difflib's ratio, 0 to 1) teaches nothing new."""
ASK = "You reword messages that people send to a help desk. You never answer them."
SHOWN = (("my order hasn't turned up and it's been 9 days", "It's been 9 days and I haven't received what I ordered."),
         ("Can I take this with food?", "Is it all right to eat when I take this?"),
         ("how do i close my account", "What do I have to do to have my account closed?"))
"""A small model answers a bare question; pairs show it that it is to reword one."""
_NEGATIONS = frozenset("not no never none nothing nobody nowhere neither nor cannot without hardly barely unable except but "
                       "dont doesnt didnt cant couldnt wont wouldnt isnt arent wasnt werent havent hasnt aint".split())
_NUMBER = re.compile(rf"(?:{NUMBER}|hundred|thousand|million|half|quarter|third|dozen|twice|once|double)s?")
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_KEYS = {key: "".join(near for row in _ROWS[max(0, r - 1):r + 2] for near in row[max(0, c - 1):c + 2] if near != key)
         for r, line in enumerate(_ROWS) for c, key in enumerate(line)}
_PIECES = re.compile(r"\S+")
_FORMS = {form: tuple(other for other in group if other != form) for group in GROUPS for form in group}
_ANY = "|".join(sorted(map(re.escape, _FORMS), key=len, reverse=True))
# Not inside a mark, an address or a longer word.
_SAID = re.compile(rf"(?<![\w\[\]'’@/.-])(?:{_ANY})(?![\w\[\]'’@/-]|\.\w)", re.I)
_BARE = re.compile(r"(?<!\S)[A-Za-z]+(?=[.,;:!?]*(?:\s|$))")


def augment(rows: Sequence[Text], recipe: AugmentRecipe, seed: int, paraphrase: Paraphrase | None = None,
            label: Label | None = None, held: Sequence[Text] = (), near: Neighbours | None = None) -> list[Text]:
    """The rows, followed by noisy copies of the recipe's shares of every intent's rows, out of scope too.

    A copy that says what another row or a row of `held` says is left out. `near`: from `neighbours`, beside the shipped
    synonyms. Raises DataError where the recipe asks for paraphrases and there is nobody to write or to check them.
    """
    if recipe.paraphrases and not (paraphrase and label):
        raise DataError("[augment] paraphrases needs a generator that writes them and a router that checks them; train once "
                        "without and go on from that version, or set it to 0.")
    drawn = random.Random(seed)
    made = [Text(typo(row.text, drawn), row.intent) for row in _share(rows, recipe.typos, drawn)]
    made += [Text(reword(row.text, drawn, _of(row.intent, near)), row.intent) for row in _share(rows, recipe.synonyms, drawn)]
    if paraphrase and label and recipe.paraphrases:
        made += paraphrases(_share(rows, recipe.paraphrases, drawn), paraphrase, label)
    taken = {_key(row.text) for row in (*rows, *held)}
    new: dict[str, Text] = {}
    for row in made:
        if (key := _key(row.text)) not in taken:
            new.setdefault(key, row)
    return [*rows, *new.values()]


def typo(text: str, drawn: random.Random) -> str:
    """One slip of the keyboard for every eight words: a neighbouring key, two letters swapped, one lost or one doubled.

    Only plain Latin words of four letters and more, never their first letter; without such a word the text itself.
    """
    pieces = [found for found in _PIECES.finditer(text) if _plain_word(found[0])]
    words = drawn.sample(pieces, min(len(pieces), 1 + len(text.split()) // 9))
    for found in sorted(words, key=lambda found: -found.start()):  # from the end, so that places stay right
        slipped = _slip(found[0], drawn)
        if not _held(slipped):  # "fore" must not become "four"
            text = text[:found.start()] + slipped + text[found.end():]
    return text


def reword(text: str, drawn: random.Random, near: Mapping[str, Sequence[str]] | None = None) -> str:
    """Up to two words or phrases replaced by ones that mean the same; without any that has one, the text itself."""
    near = near or {}
    places = [(found.start(), found.end(), _FORMS[found[0].lower()]) for found in _SAID.finditer(text)]
    places += [(found.start(), found.end(), near[found[0].lower()]) for found in _BARE.finditer(text)
               if found[0].lower() in near and not _held(found[0]) and not _within(found.start(), places)]
    for start, end, others in sorted(drawn.sample(places, min(2, len(places))), key=lambda place: -place[0]):
        new = drawn.choice(others)
        text = text[:start] + (new[0].upper() + new[1:] if text[start].isupper() else new) + text[end:]
    return text


def neighbours(rows: Sequence[Text], shared: int = 2) -> dict[tuple[str, str], tuple[str, ...]]:
    """Words that rows of one intent use in at least `shared` equal places: between the same word before and after.

    They need not mean the same ("my lost card", "my stolen card"), but the intent is the same with either.
    """
    places: dict[str, dict[str, set[tuple[str, str]]]] = defaultdict(lambda: defaultdict(set))
    for row in rows:
        words = ["<", *plain(row.text).split(), ">"]
        for before, word, after in zip(words, words[1:], words[2:]):
            if word.isalpha() and not _held(word) and (before, after) != ("<", ">"):
                places[row.intent][word].add((before, after))
    found = {}
    for intent, words in places.items():
        for word in sorted(words):
            if alike := tuple(other for other in sorted(words) if other != word and len(words[word] & words[other]) >= shared):
                found[intent, word] = alike
    return found


def paraphrases(rows: Sequence[Text], paraphrase: Paraphrase, label: Label) -> list[Text]:
    """One paraphrase a row, of those that differ, keep all figures, marks and negations and still have the row's intent."""
    told = [(row, " ".join(paraphrase(row.text).replace("’", "'").split()).strip(" \"'")) for row in rows]
    told = [(row, text) for row, text in told if faithful(row.text, text)]
    intents = label([text for _, text in told]) if told else []
    return [Text(text, row.intent) for (row, text), intent in zip(told, intents, strict=True) if intent == row.intent]


def faithful(text: str, other: str) -> bool:
    """Whether `other` may be a paraphrase: other words, of like length, with the same figures, marks and negations."""
    mine, theirs = plain(text).split(), plain(other).split()
    if not theirs or len(theirs) > 2 * len(mine) + 4 or 2 * len(theirs) <= len(mine) or text.isascii() > other.isascii():
        return False
    return SequenceMatcher(None, mine, theirs, autojunk=False).ratio() <= LIKENESS and _fixed(text) == _fixed(other)


def paraphraser(generator: LocalGenerator, max_tokens: int = 60) -> Paraphrase:
    """`paraphrase(text)` by a generator in this process; best by the bare base model, which has not learned to quote."""
    told = [{"role": "system", "content": ASK}]
    for text, other in SHOWN:
        told += [{"role": "user", "content": f"Reword: {text}"}, {"role": "assistant", "content": other}]
    return lambda text: generator.write([*told, {"role": "user", "content": f"Reword: {text}"}], max_tokens)


def _share(rows: Sequence[Text], share: float, drawn: random.Random) -> list[Text]:
    """That share of every intent's rows, at least one where it is not 0."""
    by_intent: dict[str, list[Text]] = defaultdict(list)
    for row in rows:
        by_intent[row.intent].append(row)
    return [row for _, same in sorted(by_intent.items()) if share
            for row in drawn.sample(same, max(1, round(share * len(same))))]


def _key(text: str) -> str:
    return plain(text) or text


def _of(intent: str, near: Neighbours | None) -> dict[str, Sequence[str]]:
    return {word: others for (place, word), others in (near or {}).items() if place == intent}


def _within(start: int, places: Sequence[tuple[int, int, Sequence[str]]]) -> bool:
    return any(begin <= start < end for begin, end, _ in places)


def _held(word: str) -> bool:
    """Whether a word is a figure or a negation, which no noise may touch."""
    word = word.lower().strip(".,;:!?()\"'’")
    return bool(_NUMBER.fullmatch(word)) or word in ORDINAL or word in _NEGATIONS or word.endswith(("n't", "n’t"))


def _plain_word(piece: str) -> bool:
    word = piece.rstrip(".,;:!?")
    return len(word) >= 4 and word.isascii() and word.isalpha() and not _held(word)


def _slip(word: str, drawn: random.Random) -> str:
    letters = len(word.rstrip(".,;:!?"))
    place = drawn.randrange(1, letters)
    kinds = ["near", "lost", "doubled"] + (["swapped"] if place + 1 < letters and word[place] != word[place + 1] else [])
    kind = drawn.choice(kinds)
    if kind == "near":
        new = drawn.choice(_KEYS[word[place].lower()])
        return word[:place] + (new.upper() if word[place].isupper() else new) + word[place + 1:]
    if kind == "swapped":
        return word[:place] + word[place + 1] + word[place] + word[place + 2:]
    return word[:place] + ("" if kind == "lost" else word[place] * 2) + word[place + 1:]


def _fixed(text: str) -> tuple[Counter[str], bool]:
    """Figures, marks and number words with their counts, and whether it negates."""
    words = [word.strip(".,;:!?()\"") for word in text.lower().replace("’", "'").split()]
    figures = re.findall(r"\[\w+\]|\d+(?:[.,:/]\d+)*", text)
    spoken = [word for word in words if _NUMBER.fullmatch(word) or word in ORDINAL]
    negations = [word for word in words if word.endswith("n't") or (word in _NEGATIONS and word not in ("but", "except"))]
    return Counter(figures + spoken), bool(negations)
