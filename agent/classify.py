"""Many messages through a router: lines in, rows out, in their order, with memory that does not grow with them.

Knows lines, redaction and a router; does not know where lines come from.
"""

import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any

from agent.redact import Redactor
from agent.router import Router
from agent.signs import tidy, unreadable
from agent.types import Route

EACH = 128
"""Lines of one thread's share; so many for each thread are held at once."""


def classify(lines: Iterable[str], router: Router, longest: int, threads: int = 1) -> Iterator[dict[str, Any]]:
    """{"text", "intent", "confidence", "oos", "ranking", "likely"} for each line that is not empty; {"line", "error"} for one that no
    message is made of.

    A line is a JSON object with a "text", or else a message as it stands. `intent` is None where none fits; `text` is without
    private values, as a turn's is. longest: characters of a message. One error costs no other row.
    """
    told = ((number, line.strip()) for number, line in enumerate(lines, start=1) if line.strip())
    with ThreadPoolExecutor(threads) as pool:
        while window := list(islice(told, EACH * threads)):
            shares = [window[at:at + EACH] for at in range(0, len(window), EACH)]
            for rows in pool.map(lambda share: _rows(share, router, longest), shares):
                yield from rows


def _rows(share: list[tuple[int, str]], router: Router, longest: int) -> list[dict[str, Any]]:
    read = [_read(number, line, longest) for number, line in share]
    routes = iter(router.route([row["text"] for row in read if "error" not in row]))
    return [row if "error" in row else row | _told(next(routes)) for row in read]


def _told(route: Route) -> dict[str, Any]:
    return {"intent": route.intent, "confidence": round(route.confidence, 4), "oos": round(route.oos, 4),
            "ranking": [[name, round(share, 4)] for name, share in route.ranking], "likely": list(route.likely)}


def _read(number: int, line: str, longest: int) -> dict[str, Any]:
    text: Any = line
    if line.startswith("{"):
        try:
            text = json.loads(line).get("text")
        except json.JSONDecodeError as error:
            return {"line": number, "error": f"not valid JSON ({error.msg}); correct that line."}
        if not isinstance(text, str):
            return {"line": number, "error": "the object has no text; add \"text\"."}
    if problem := unreadable(text, longest):
        return {"line": number, "error": problem}
    return {"text": Redactor().redact(tidy(text))}
