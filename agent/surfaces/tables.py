"""An evaluation report as tables on the terminal. Prints; computes nothing."""

from typing import Any

SHOWN = ("n", "accuracy", "macro_f1", "ece", "in_scope_coverage", "oos_recall", "oos_recall_near", "oos_recall_at_95", "oos_auroc",
         "must_say", "rouge_l", "refusal_accuracy", "unsupported_numbers", "unsupported_numbers_raw", "recall_at_1",
         "recall_at_3", "end_state_right", "recall", "right_flag", "false_alarms_in_scope", "false_alarms_near")


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


def _number(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
