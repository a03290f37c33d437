"""A sum said in words, as an expression that a calculator reads."""

from __future__ import annotations

import re

_SUM_REWRITES = tuple((re.compile(said), meant) for said, meant in (
    (r"\bover (?=\d{1,3}[- ]?(?:years?|yrs?|months?)\b)", "during "),
    (r"(\d)k\b", r"\1 * 1000"), (r"\b(\d{1,6}) thirds?\b", r"\1/3"), (r"\b(\d{1,6}) (?:quarters|fourths)\b", r"\1/4"),
    (r"\ba third\b", "1/3"), (r"\b(\d{1,2}) cents?\b", lambda m: f"{int(m[1]) / 100:g}"),
    (r"(\d) (?:each|ways|people)\b", r"\1"), (r"\b(?:pct|procent)\b", "percent"),
    (r"\badd (\d[\d.,]{0,20})( ?(?:%|percent))? to ([$€£]?\d[\d.,]{0,20})", r"\3 plus \1\2"),
    (r"\b(?:take )?(\d[\d.]{0,20}) ?(?:%|percent) off (?:of )?([$€£]?\d[\d.,]{0,20}\d|\d)", r"\2 minus \1%"),
    (r"\bwhat percent(?:age)? of ([$€£]?[\d.,]*\d) is ([$€£]?[\d.,]*\d)", r"\2 / \1 * 100"),
    (r"(?<!minus )\b(\d[\d.,]{0,20}) ?(?:%|percent|procent|pct) (?:from|tip on)\b", r"\1% of"),
    (r"\bdivide (\$?[\d.,]+) by\b", r"\1 /"), (r"\bmultiply (\$?[\d.,]+) by\b", r"\1 *"),
    (r"\bsubtract (\$?[\d.,]*\d) from (\$?[\d.,]*\d)", r"\2 - \1"),
    (r"\b(?:increased by|raised by|added to)\b", "plus"), (r"\b(?:reduced by|decreased by|less|take away)\b", "minus"),
    (r"\b(?:split (?:by|between|among)|shared (?:by|between)|divide by)\b", "divided by"),
    (r"(?<=%) ?x ?(?=\d)", " times "), (r"\*\*|\^", " to the power of "), (r"\bsqrt (?=\d)", "square root of "),
    (r"\bsquare root of ?\(", "sqrt("), (r"\b(?:shares|items|units) (?:at|@)(?= )", "times"),
))
_PIECE = re.compile(r"(?P<value>[$€£]?(?!0\d)(?:\d{1,3}(?:,\d{3})+|\d{1,15})(?:\.\d{1,9})?|[$€£]?\.\d{1,9}|\bhalf\b|\ba quarter\b)"
                    r"|(?P<post>%|\bper ?cent\b|\bsquared\b|\bdollars?\b|\beuros?\b|\bpounds?\b)|(?P<open>\()|(?P<close>\))"
                    r"|(?P<pre>\bsquare root of(?= [\d.,]{1,24}(?![\d.,]| ?%| per))|\bsqrt(?= ?\()"
                    r")|(?P<sign>[-+*/]|\b(?:plus|minus|times|multiplied by|divided by|over|of|to the power of)\b"
                    r"|(?:(?<=[\d)])|(?<=[\d)] ))x(?= ?[$€£]?[\d(]))|(?P<space> +)|(?P<other>[a-z']+|.)", re.S)


def sum_of(text: str) -> str | None:
    """The longest sum in a plain text, in words that tools.calculator reads ("15% of 2300"); None without one.

    Looks at 2000 characters and passes over sums longer than the tool's 200.
    """
    text = text[:2000]
    for said, meant in _SUM_REWRITES:
        text = said.sub(meant, text)
    best, begin, depth, signs, last, whole = "", -1, 0, 0, "", (0, 0)  # whole: (end, signs) up to the last complete sum
    for piece in _PIECE.finditer(text + " ;"):  # the ";" ends a sum that ends the text
        kind = piece.lastgroup or ""
        if kind == "space":
            continue
        operand = last in ("value", "post", "close")  # what stands before can be calculated with
        fits = {"value": not operand, "open": not operand, "pre": not operand, "post": last == "value",
                "close": operand and depth > 0, "sign": operand or piece[0] == "-"}.get(kind, False)
        if begin >= 0 and not fits:
            if whole[1] and len(best) < whole[0] - begin <= 200:
                best = text[begin:whole[0]]
            begin, depth, signs, operand, last, whole = -1, 0, 0, False, "", (0, 0)
        if begin < 0:
            if kind not in ("value", "open", "pre") and piece[0] != "-":
                continue
            begin = piece.start()
        signs += kind == "pre" or piece[0] == "squared" or kind == "sign" and operand
        depth, last = depth + {"open": 1, "close": -1}.get(kind, 0), kind
        if depth == 0 and kind in ("value", "post", "close"):
            whole = (piece.end(), signs)
    return best.strip() or None
