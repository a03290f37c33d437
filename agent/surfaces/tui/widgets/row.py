"""A row that waits for review, and a proposed intent, as text: a line or two in the list, all of it beside the list.

Knows how they look; what is decided about them is elsewhere. Every text goes through `harmless`.
"""

from typing import TYPE_CHECKING

from textual.content import Content

from agent.signs import harmless
from agent.surfaces.tui.reviewing import WORDS, Gathered, Surroundings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agent.domain import Domain
    from tuning.proposals import Proposal
    from tuning.rows import Row, Waiting

NONE = "oos"


def line(each: "Waiting", skipped: bool = False) -> Content:
    """Two lines of the list: signal and question, why it waits."""
    why = ("skipped: " if skipped else "") + "; ".join(each.reasons)
    return Content.assemble((WORDS.get(each.row.signal, each.row.signal), "$primary"), "  ", _one(each.row.question), "\n",
                            (f"  {_one(why)}", "$foreground 60%"))


def proposal_line(each: "Proposal", skipped: bool = False) -> Content:
    """Two lines of the list."""
    asked = f"{'skipped: ' if skipped else ''}asked {len(each.turns)} times in {each.sessions} conversations"
    return Content.assemble(("new intent", "$accent"), "  ", each.name, "\n", (f"  {asked}", "$foreground 60%"))


def counted(here: Gathered) -> str:
    """What waits by signal, and what waits for nobody."""
    counts = [f"{WORDS.get(signal, signal)} {count}" for signal, count in here.signals.items()]
    counts += [f"new intent {len(here.proposals)}"] if here.proposals else []
    asked = "" if here.neighbours_asked else " · no neighbour was asked: the base models are not here yet"
    ready = f"{here.taught} {'row is' if here.taught == 1 else 'rows are'} ready to train on"
    return f"{' · '.join(counts) or 'nothing waits'}   {ready}{asked}"


def nobody(here: Gathered, everywhere: "Mapping[str, Gathered]") -> str:
    """Where nothing waits: what became of the rest, and where something waits still."""
    lines = [f"Nothing waits for you in {here.domain.title}.", "",
             f"{here.taught} {'row' if here.taught == 1 else 'rows'} of feedback will be trained on."]
    lines += [f"{count} {'teaches' if count == 1 else 'teach'} nothing: {reason}." for reason, count in here.dropped]
    others = [short(name) for name, found in everywhere.items() if found is not here and (found.rows or found.proposals)]
    return harmless("\n".join(lines + (["", f"Something waits in {', '.join(others)}: → goes there."] if others else [])))


def short(name: str) -> str:
    """A domain's name; of a folder its last part."""
    return harmless(str(name).rstrip("/").rpartition("/")[2])


def described(each: "Waiting", domain: "Domain", around: Surroundings | None) -> Content:
    """All of a row: what it teaches, why it waits, its turn, its neighbours; without `around` those are still looked for."""
    row = each.row
    who = f"{row.author or 'somebody without a name'} · {row.created[:16].replace('T', ' ')}"
    parts = [Content.assemble((WORDS.get(row.signal, row.signal), "bold $primary"), (f"  by {_one(who)}\n", "$foreground 60%")),
             _part("Question", row.question)]
    parts += [_label(row, domain)] if row.part == "router" else _answer(row)
    parts.append(_part("Waits because", "\n".join(each.reasons)))
    if around is None:
        return _joined([*parts, Content.styled("looking for its turn and its neighbours …", "$foreground 60%")])
    if around.turns:
        parts += _turn(around, row)
    if around.neighbours:
        head = "Nearest that are learned from"
        width = max(len(_about(label, row)) for _, _, label in around.neighbours)
        found = [Content.assemble((f"{near:.2f} ", "$foreground 60%"), (f"{_about(label, row):<{width}}  ", "$primary"),
                                  _one(text)[:90]) for near, text, label in around.neighbours]
        parts.append(Content.assemble((head, "$primary"), "\n", Content("\n").join(found)))
    return _joined(parts)


def proposed(each: "Proposal") -> Content:
    """All of a proposal, and what adding it does."""
    asked = f"asked {len(each.turns)} times in {each.sessions} conversations · cohesion {each.cohesion:.2f}"
    head = Content.assemble(("new intent  ", "bold $accent"), (each.name, "bold"), (f"\n{asked}", "$foreground 60%"))
    why = ("No intent fits these messages. Adding it writes them and your reply into the domain's files; "
           "the next retrain teaches it.")
    asked = _part("Asked", "\n".join(_one(text) for text in each.examples[:12]))
    return Content("\n\n").join([head, asked, Content(why)])


def _label(row: "Row", domain: "Domain") -> Content:
    named = domain.intents.get(row.intent or "")
    about = named.about if named else "nothing that this agent knows" if row.intent == NONE else ""
    return Content.assemble(_part("Teaches the router", _about(row.intent or "", row), "bold"),
                            (f"  {_one(about)}", "$foreground 60%"))


def _answer(row: "Row") -> list[Content]:
    if row.signal == "down":
        return [_part("Teaches not to say", row.answer or "", "bold"), *_facts(row)]
    parts = [_part("Teaches to say", row.answer or "", "bold")]
    return parts + ([_part("Instead of", row.rejected)] if row.rejected else []) + _facts(row)


def _facts(row: "Row") -> list[Content]:
    return [_part("Facts that were shown", "\n".join(f"· {fact}" for fact in row.facts))] if row.facts else []


def _turn(around: Surroundings, row: "Row") -> list[Content]:
    own = around.turns[-1]
    before = [_part("Said before", "\n".join(f"{turn['question']}\n→ {turn['reply']}" for turn in around.turns[:-1]))]
    routed = ", ".join(f"{name.replace('_', ' ')} {share:.0%}" for name, share in (own["ranking"] or [])[:3])
    parts = own["bundle"], own["state"], f"router: {routed}" if routed else "", *own["flags"]
    served = " · ".join(part for part in parts if part)
    said = [f"{one['author'] or 'somebody'}: {WORDS.get(one['kind'], one['kind'])} {one['value'] or ''}".rstrip()
            for one in own["feedback"]]
    replied = Content.assemble(_part("The agent replied", own["reply"]), (f"\n{_one(served)}", "$foreground 60%"))
    parts = (before if around.turns[:-1] else []) + [replied]
    return parts + ([_part("What people said about it", "\n".join(said))] if len(said) > 1 else [])


def _about(label: str, row: "Row") -> str:
    if row.part != "router":
        return _one(label)[:32]
    return "none of these" if label == NONE else _one(label).replace("_", " ")


def _part(head: str, text: str, style: str = "") -> Content:
    return Content.assemble((head, "$primary"), "\n", (harmless(text), style))


def _one(text: str) -> str:
    return " ".join(harmless(text).split())


def _joined(parts: list[Content]) -> Content:
    return Content("\n").join(parts)
