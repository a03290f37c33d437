"""Writes the README's results from the files in results/, so that no figure is typed by hand.

Run after `retune evaluate DOMAIN --json > tests/benchmarks/results/evaluate-DOMAIN.json` and `decode.py`.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- results: written by tests/benchmarks/table.py -->", "<!-- end of results -->"
DOMAINS = ("customer_service", "medical", "finance")
ROWS = [("router accuracy", "router", "accuracy"), ("router ECE", "router", "ece"),
        ("out-of-scope recall", "router", "oos_recall"), ("in-scope coverage at that threshold", "router", "in_scope_coverage"),
        ("out-of-scope recall at coverage 0.95", "router", "oos_recall_at_95"), ("out-of-scope AUROC", "router", "oos_auroc"),
        ("evidence is the first passage", "retrieval", "recall_at_1"),
        ("evidence among the first 3 passages", "retrieval", "recall_at_3"),
        ("conversations that end as expected", "conversations", "end_state_right"),
        ("red flags recalled, of the list", "red_flags", "recall"), ("red flags: false alarms in scope", "red_flags", "false_alarms_in_scope")]
ARMS = ("base", "few_shot", "tuned")
FIGURES = ("n", "must_say", "rouge_l", "refusal_accuracy", "unsupported_numbers")


def figure(value: object) -> str:
    """Three decimals, or a dash where nothing was measured."""
    return "-" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)


def table() -> str:
    """The Markdown of the results."""
    found = {name: json.loads(file.read_text(encoding="utf-8"))
             for name in DOMAINS if (file := RESULTS / f"evaluate-{name}.json").is_file()}
    lines = ["| held-out rows | " + " | ".join(found) + " |", "|---" * (len(found) + 1) + "|"]
    for title, part, key in ROWS:
        lines.append(f"| {title} | " + " | ".join(figure(report.get(part, {}).get(key)) for report in found.values()) + " |")
    lines += ["", "| generator | " + " | ".join(FIGURES) + " |", "|---" * (len(FIGURES) + 1) + "|"]
    for name, report in found.items():
        arms = {arm: report.get("generator", {}).get(arm, {}) for arm in ARMS}
        for arm, figures in (arms | {"tuned, with its own routing and retrieval": report.get("end_to_end", {})}).items():
            lines.append(f"| {name}, {arm} | " + " | ".join(figure(figures.get(key)) for key in FIGURES) + " |")
    decode = RESULTS / "decode.md"
    if decode.is_file():
        lines += ["", *decode.read_text(encoding="utf-8").splitlines()[2:]]
    return "\n".join(lines)


def main() -> None:
    """Replace what stands between the markers of the README."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}", encoding="utf-8")


if __name__ == "__main__":
    main()
