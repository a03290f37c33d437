"""Evaluations and comparisons as tables on the terminal. Prints; computes nothing."""

from collections.abc import Mapping
from typing import Any

SHOWN = ("n", "accuracy", "macro_f1", "auc", "ece", "brier", "in_scope_coverage", "oos_recall", "oos_recall_near",
         "oos_recall_at_95", "oos_auroc", "must_say", "token_f1", "rouge_l", "bleu", "chrf", "meteor", "grounded",
         "refusal_accuracy", "length", "perplexity", "unsupported_numbers", "unsupported_numbers_raw", "recall_at_1",
         "recall_at_3", "end_state_right", "recall", "right_flag", "false_alarms_in_scope", "false_alarms_near")
MOVED = 6  # slices of a comparison that are shown
COLOURS = {"promote": "green", "refuse": "red", "abstain": "yellow"}
DECIDED = {"promote": "promoted", "refuse": "refused", "abstain": "not decided"}


def print_report(table: dict[str, Any]) -> None:
    """One table a part; the generator's arms side by side."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    for part, figures in table.items():
        if not isinstance(figures, dict):
            continue
        arms = figures if part == "generator" else {"": figures}
        shown = Table(title=f"{part} ({table['bundle']})", title_justify="left")
        shown.add_column("figure")
        for arm in arms:
            shown.add_column(arm or "value", justify="right")
        for name in SHOWN:
            if any(name in values for values in arms.values()):
                shown.add_row(name, *(_number(values.get(name)) for values in arms.values()))
        console.print(shown)


def print_comparison(table: Mapping[str, Any]) -> None:
    """Champion and challenger on one screen: key figures, what moved most, and the verdict last, where the eye is."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    shown = Table(title=f"{escape(table['challenger'])} beside {escape(table['champion'])}", title_justify="left")
    shown.add_column("in per cent of rows")
    for name in ("rows", "champion", "challenger", "few-shot", "difference", "95 % interval"):
        shown.add_column(name, justify="right")
    for entry in table["figures"]:
        shown.add_row(entry["part"], str(entry["n"]), _share(entry["champion"]), _share(entry["challenger"]),
                      _share(entry.get("few_shot")), *_difference(entry))
    moved = [entry for entry in table["slices"] if entry["delta"] and entry["n"] >= 3 and entry["part"] != "general"]
    if moved:
        shown.add_section()
    for entry in moved if len(moved) <= MOVED else moved[:MOVED // 2] + moved[-(MOVED // 2):]:
        shown.add_row(escape(f"{entry['part']} {entry['slice']}={entry['value']}"), str(entry["n"]), _share(entry["champion"]),
                      _share(entry["challenger"]), "", *_difference(entry))
    console.print(shown)
    if verdict := table.get("verdict"):
        more = f" About {verdict['further_pairs']} more pairs would probably tell." if verdict.get("further_pairs") else ""
        decision = verdict["decision"]
        console.print(f"[bold {COLOURS.get(decision, 'white')}]{DECIDED.get(decision, decision).capitalize()}.[/] "
                      f"{escape(verdict['why'])}{more}", highlight=False)


def _difference(entry: Mapping[str, Any]) -> tuple[str, str]:
    colour = "green" if entry["low"] > 0 else "red" if entry["high"] < 0 else "default"
    return (f"[{colour}]{100 * entry['delta']:+.1f}[/]", f"{100 * entry['low']:+.1f} to {100 * entry['high']:+.1f}")


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
