"""What a turn was made from, as headed lines: intent, slots, tool, rules, what served it, times. Words alone, no widget."""

from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from textual.content import Content

from agent.signs import harmless

if TYPE_CHECKING:
    from agent.domain import Domain

BAR = 12
"""Columns of a full bar."""
NAMES = 22
"""Columns of a name beside a bar; longer ones are cut."""
Line = Content
RULES = {  # flag of a turn -> what fired
    "unsupported_number": "A figure that no passage holds was taken out of the answer.",
    "forbidden": "Words that the domain forbids were taken out of the answer.",
    "unreadable": "The message was empty or too long, and was not read.",
    "fallback": "The server failed; the model in this process answered.",
    "error": "The engine failed, or the answer was stopped.",
}
STAGES = {"redact": "private values out", "route": "intent", "retrieve": "search", "first_token": "first token",
          "first_word": "first words, checked", "generate": "rest of the answer", "tool": "tool", "total": "to the end"}
WAITS = {"confirming": "waits for a yes", "asking": "waits for what is missing"}


def drawn(lines: list[Line]) -> Content:
    """All of them, one below the other."""
    return Content("\n").join(lines)


def heading(text: str) -> Line:
    """An empty line, then the name of what follows."""
    return Content.assemble("\n", (text, "bold $accent"))


def intent(row: Mapping[str, Any]) -> list[Line]:
    """The intent with its confidence, the runner-up, and how likely the message was out of scope."""
    ranking, lines = list(row["ranking"] or ()), [Content.styled("Intent", "bold $accent")]
    if row["confidence"] is None:
        return [*lines, _muted("A rule answered before any model.")]
    routed = ranking[0][0] if ranking and ranking[0][1] > row["oos"] else None
    if row["intent"] and row["intent"] != routed:
        lines.append(Content.assemble((_name(row["intent"]), "bold"), ("  as the conversation went on", "$foreground 60%")))
    scores = [(name, share) for name, share in ranking[:2]] + [("out of scope", row["oos"])]
    best = max(share for _, share in scores)
    return [*lines, *(_bar(name, share, share == best) for name, share in scores)]


def slots(row: Mapping[str, Any], domain: "Domain | None") -> list[Line]:
    """What was filled, and what the intent still needs."""
    wanted = domain.intents.get(row["intent"] or "") if domain else None
    names = [name for name, _ in wanted.slots if name not in wanted.optional] if wanted else []
    filled = dict(row["slots"] or {})
    lines = [Content.assemble(f"{_name(name)}  ", (harmless(str(value)), "bold")) for name, value in filled.items()]
    lines += [Content.assemble(f"{_name(name)}  ", ("missing", "$warning")) for name in names if name not in filled]
    return [heading("Slots"), *lines] if lines else []


def tool(row: Mapping[str, Any]) -> list[Line]:
    """The tool with its arguments and what it gave."""
    if not row["tool"]:
        return []
    lines = [heading("Tool"), Content.styled(harmless(row["tool"]), "bold")]
    lines += [Content.assemble((f"{name} = ", "$foreground 60%"), harmless(str(value)))
              for name, value in (row["tool_arguments"] or {}).items()]
    return [*lines, Content(f"→ {harmless(row['tool_result'])}") if row["tool_result"]
            else _muted(WAITS.get(row["state"], "was not called"))]


def rules(row: Mapping[str, Any]) -> list[Line]:
    """Rules that fired, flags among them."""
    flags = row["flags"] or ()
    said = [f"Red flag {_name(flag.partition(':')[2])}: it was escalated." if flag.startswith("red_flag:")
            else RULES.get(flag, flag) for flag in flags]
    return [heading("Rules"), *([Content(harmless(each)) for each in said] or [_muted("None fired.")])]


def served(row: Mapping[str, Any]) -> list[Line]:
    """Bundle, engine, tokens, how it ended."""
    said = [("bundle", row["bundle"]), ("engine", row["engine"] or "none; no model wrote it"),
            ("tokens", f"{row['prompt_tokens']} read, {row['tokens']} written" if row["engine"] else ""),
            ("state", row["state"] + (", said that it does not know" if row["abstained"] else "")), ("turn", row["id"])]
    return [heading("Served by"), *(_pair(name, value) for name, value in said if value)]


def times(row: Mapping[str, Any]) -> list[Line]:
    """Time to the first word, then each stage's own."""
    marks = sorted((row["timings_ms"] or {}).items(), key=lambda each: each[1])
    if not marks:
        return []
    first = row["timings_ms"].get("first_word", row["timings_ms"].get("total", 0))
    lines = [Content.assemble((f"{'first word':<20} ", ""), (f"{first:>9,.0f} ms", "bold"))]
    for (_, began), (stage, ended) in pairwise([("", 0.0), *marks]):
        lines.append(_muted(f"{STAGES.get(stage, stage):<20} {ended - began:>9,.0f} ms"))
    return [heading("Time"), *lines]


def _bar(name: str, share: float, best: bool) -> Line:
    full = round(max(0.0, min(1.0, share)) * BAR)
    name, style = _name(name)[:NAMES], "$accent" if best else "$foreground 60%"
    return Content.assemble((f"{name:<{NAMES}} ", "bold" if best else "$foreground 60%"), ("━" * full, style),
                            ("─" * (BAR - full), "$foreground 20%"), (f" {share:>4.0%}", "bold" if best else "$foreground 60%"))


def _pair(name: str, value: str) -> Line:
    return Content.assemble((f"{name:<8} ", "$foreground 60%"), harmless(value))


def _muted(text: str) -> Line:
    return Content.styled(text, "$foreground 60%")


def _name(name: str) -> str:
    return harmless(name.replace("_", " "))
