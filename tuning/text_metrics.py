"""An answer against its reference or its facts: plain functions of strings, 0 to 1, no model and no judge.

BLEU and chrF are those of sacrebleu, over a whole set; the others are of one answer. Words of Chinese are its characters.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

from agent.guard import Guard
from agent.sentences import split_sentences
from tuning.stem import stem

_CHARACTER = "぀-ヿ㐀-鿿"
SUPPORTED = 0.5  # share of a sentence's words that its facts have to hold


def words(text: str) -> list[str]:
    """Lower-case words; each character of Chinese and Japanese is one."""
    return re.findall(rf"[{_CHARACTER}]|[^\W_{_CHARACTER}]+", text.lower())


def token_f1(answer: str, reference: str) -> float:
    """Overlap of words after the normalisation of SQuAD: case, punctuation and articles aside (Rajpurkar et al., 2016)."""
    said, wanted = _squad(answer), _squad(reference)
    if not said or not wanted:
        return float(said == wanted)
    common = sum((Counter(said) & Counter(wanted)).values())
    return 2 * common / (len(said) + len(wanted))


def meteor(answer: str, reference: str) -> float:
    """METEOR with exact and stem matches (Banerjee and Lavie, 2005): no synonyms, whose word list cannot be had everywhere.

    F = 10PR / (R + 9P), times 1 - 0.5 (chunks / matches)^3. A word that occurs twice is aligned where it goes on with
    the match before it, else with its first free place.
    """
    said, wanted = words(answer), words(reference)
    pairs = _align(said, wanted)
    if not pairs:
        return 0.0
    precision, recall = len(pairs) / len(said), len(pairs) / len(wanted)
    chunks = 1 + sum((i + 1, j + 1) != after for (i, j), after in zip(pairs, pairs[1:]))
    return 10 * precision * recall / (recall + 9 * precision) * (1 - 0.5 * (chunks / len(pairs)) ** 3)


def bleu(answers: Sequence[str], references: Sequence[str], language: str = "en") -> tuple[float, str]:
    """(BLEU of the set, 0 to 1; sacrebleu's signature)."""
    from sacrebleu.metrics import BLEU

    scorer = BLEU(tokenize="zh" if language.startswith("zh") else "13a")
    return min(1.0, scorer.corpus_score(list(answers), [list(references)]).score / 100), str(scorer.get_signature())


def chrf(answers: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """(chrF of the set, 0 to 1; sacrebleu's signature)."""
    from sacrebleu.metrics import CHRF

    scorer = CHRF()
    return min(1.0, scorer.corpus_score(list(answers), [list(references)]).score / 100), str(scorer.get_signature())


def grounded(answer: str, sources: Sequence[str]) -> float | None:
    """Share of sentences that the sources hold: half of the words at least, and every figure. None without a sentence."""
    held = set(words(" ".join(sources)))
    guard = Guard(sources, numbers_need_source=True, unknown="")
    sentences = [sentence for sentence in split_sentences(answer) if words(sentence)]
    if not sentences:
        return None
    return sum(_holds(sentence, held) and guard.check(sentence).ok for sentence in sentences) / len(sentences)


def _holds(sentence: str, held: set[str]) -> bool:
    said = words(sentence)
    return sum(word in held for word in said) / len(said) >= SUPPORTED


def _squad(text: str) -> list[str]:
    """As the evaluation script of SQuAD has it; characters of Chinese and Japanese by themselves."""
    plain = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return re.sub(rf"([{_CHARACTER}])", r" \1 ", re.sub(r"\b(a|an|the)\b", " ", plain)).split()


def _align(said: list[str], wanted: list[str]) -> list[tuple[int, int]]:
    """Pairs of places, in the order of `said`: exact matches first, then by stem; each place once."""
    pairs: dict[int, int] = {}
    for form in (lambda word: word, stem):
        there = [form(word) for word in wanted]
        free = set(range(len(wanted))) - set(pairs.values())
        for i, word in enumerate(said):
            options = [j for j in sorted(free) if there[j] == form(word)] if i not in pairs else []
            if options:
                after = pairs.get(i - 1, -2) + 1
                pairs[i] = after if after in options else options[0]
                free.discard(pairs[i])
    return sorted(pairs.items())
