"""What the gate said about a bundle: verdict and figures as text. Computes nothing."""

from textual.content import Content

from agent.signs import harmless
from agent.surfaces.tui.shelf import Moved, Report, Shelf, Version
from agent.surfaces.tui.widgets.bars import interval
from agent.surfaces.tui.widgets.versions import COLOURS

HEADS = ("in per cent", "rows", "champion", "challenger", "difference", "95 % interval")


def about(version: Version, shelf: Shelf) -> Content:
    """Name, aliases, where it comes from, what is on trial, and the verdict."""
    lines = [Content.assemble((version.name, "bold"), (f"   {', '.join(version.labels)}", "bold $accent"))]
    if version.damage:
        return Content("\n").join([*lines, Content.styled(harmless(version.damage), "$error")])
    told = [("made", version.made[:16].replace("T", " ")), ("from", version.parent), ("recipe", version.recipe)]
    lines.append(Content.styled("   ".join(f"{what} {harmless(value)}" for what, value in told if value), "$foreground 60%"))
    if shelf.canary and shelf.canary.version == version.number:
        how = "watches, answering nobody," if shelf.canary.shadow else "answers"
        lines.append(Content.styled(f"On trial: it {how} in {shelf.canary.share:.0%} of the sessions.", "$warning"))
    if version.decision:
        lines.append(Content.assemble(("The gate says ", "$foreground 60%"),
                                      (harmless(version.decision), f"bold {COLOURS.get(version.decision, '$foreground')}"),
                                      (". ", "$foreground 60%"), harmless(version.why)))
    else:
        came = "It came with the domain and was" if version.number == 1 else "It was"
        lines.append(Content.styled(f"{came} never compared with a champion.", "$foreground 60%"))
    return Content("\n").join(lines)


def figures(report: Report) -> Content:
    """The parts: champion beside challenger, with difference and interval."""
    lines = [Content.styled(harmless(report.problem), "$error")] if report.problem else []
    if not report.figures:
        return Content("\n").join(lines)
    few = any(each.few_shot is not None for each in report.figures)
    heads = f"{HEADS[0]:<12}{HEADS[1]:>5}{HEADS[2]:>10}{HEADS[3]:>12}" + (f"{'few-shot':>10}" if few else "")
    lines += [Content.styled(f"{heads}{HEADS[4]:>12}  {HEADS[5]}", "bold")]
    lines += [_figure(each, few) for each in report.figures]
    notes = [f"held against {harmless(report.champion)}"] if report.champion else []
    if report.further_pairs:
        notes.append(f"about {report.further_pairs} more pairs would probably tell")
    lines += [Content.styled("; ".join(notes), "$foreground 60%")] if notes else []
    lines += [Content.styled(harmless(words), "$error") for words in report.blocked]
    return Content("\n").join(lines)


def _figure(moved: Moved, few: bool) -> Content:
    colour = "bold $success" if moved.low > 0 else "bold $error" if moved.high < 0 else "$foreground"
    said = "" if moved.few_shot is None else f"{100 * moved.few_shot:.1f}"
    shares = f"{100 * moved.champion:>10.1f}{100 * moved.challenger:>12.1f}" + (f"{said:>10}" if few else "")
    return Content.assemble(f"{harmless(moved.name):<12}{moved.n:>5}{shares}", (f"{100 * moved.delta:>+12.1f}", colour),
                            (f"  {interval(moved)}", "$foreground 60%"))
