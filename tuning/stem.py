"""English words without their endings: the algorithm of Porter (1980), "An algorithm for suffix stripping". Knows no texts."""

import re

_STEP_2 = {"ational": "ate", "tional": "tion", "enci": "ence", "anci": "ance", "izer": "ize", "abli": "able", "alli": "al",
           "entli": "ent", "eli": "e", "ousli": "ous", "ization": "ize", "ation": "ate", "ator": "ate", "alism": "al",
           "iveness": "ive", "fulness": "ful", "ousness": "ous", "aliti": "al", "iviti": "ive", "biliti": "ble"}
_STEP_3 = {"icate": "ic", "ative": "", "alize": "al", "iciti": "ic", "ical": "ic", "ful": "", "ness": ""}
_STEP_4 = ("ement", "ance", "ence", "able", "ible", "ment", "ant", "ent", "ism", "ate", "iti", "ous", "ive", "ize", "ion",
           "al", "er", "ic", "ou")


def stem(word: str) -> str:
    """The stem of a lower-case word; words of one or two letters and of other scripts stay as they are."""
    if len(word) < 3 or not re.fullmatch("[a-z]+", word):
        return word
    word = _past(_plural(word))
    if word.endswith("y") and _has_vowel(word[:-1]):
        word = word[:-1] + "i"
    for table in (_STEP_2, _STEP_3):
        ending = next((end for end in sorted(table, key=len, reverse=True) if word.endswith(end)), None)
        if ending and _measure(word[:-len(ending)]) > 0:
            word = word[:-len(ending)] + table[ending]
    return _last_e(_plain(word))


def _plural(word: str) -> str:
    if word.endswith(("sses", "ies")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _past(word: str) -> str:
    if word.endswith("eed"):
        return word[:-1] if _measure(word[:-3]) > 0 else word
    ending = next((end for end in ("ed", "ing") if word.endswith(end)), None)
    if ending is None or not _has_vowel(word[:-len(ending)]):
        return word
    word = word[:-len(ending)]
    if word.endswith(("at", "bl", "iz")):
        return word + "e"
    if len(word) > 1 and word[-1] == word[-2] and _consonant(word, len(word) - 1):
        return word if word[-1] in "lsz" else word[:-1]
    return word + "e" if _measure(word) == 1 and _short(word) else word


def _plain(word: str) -> str:
    """Step 4: endings that go where enough of the word is left."""
    ending = next((end for end in _STEP_4 if word.endswith(end)), None)
    if ending is None:
        return word
    rest = word[:-len(ending)]
    return rest if _measure(rest) > 1 and (ending != "ion" or rest.endswith(("s", "t"))) else word


def _last_e(word: str) -> str:
    if word.endswith("e") and (_measure(word[:-1]) > 1 or (_measure(word[:-1]) == 1 and not _short(word[:-1]))):
        word = word[:-1]
    return word[:-1] if word.endswith("ll") and _measure(word[:-1]) > 1 else word


def _consonant(word: str, at: int) -> bool:
    """y is a consonant at the start and after a vowel."""
    return word[at] not in "aeiou" and (word[at] != "y" or at == 0 or not _consonant(word, at - 1))


def _kinds(word: str) -> str:
    return "".join("c" if _consonant(word, i) else "v" for i in range(len(word)))


def _measure(word: str) -> int:
    """Porter's m: how often vowels are followed by consonants."""
    return len(re.findall("v+c+", _kinds(word)))


def _has_vowel(word: str) -> bool:
    return "v" in _kinds(word)


def _short(word: str) -> bool:
    """Ends consonant, vowel, consonant, the last none of w, x, y."""
    return _kinds(word)[-3:] == "cvc" and word[-1] not in "wxy"
