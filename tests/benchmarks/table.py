"""Writes the README's results from the files in results/, so that no figure is typed by hand.

Run after `retune evaluate DOMAIN --json > tests/benchmarks/results/evaluate-DOMAIN.json` and `decode.py`.
"""

import json
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
README = Path(__file__).resolve().parents[2] / "README.md"
BEGIN, END = "<!-- results: written by tests/benchmarks/table.py -->", "<!-- end of results -->"
LEARNING = "<!-- learning: written by tests/benchmarks/table.py -->", "<!-- end of learning -->"
TERMINAL = "<!-- terminal: written by tests/benchmarks/table.py -->", "<!-- end of terminal -->"
SERVED = "<!-- vllm: written by tests/benchmarks/table.py -->", "<!-- end of vllm -->"
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


def learning() -> str:
    """The Markdown of what learning reached: the wheel, the replay, the gate, training speed; those that were measured."""
    parts = {"flywheel": wheel, "teacher": wheel, "simulate": replay, "simulate_frozen": replay, "gate": gate}
    made = [part(read(name)) for name, part in parts.items() if read(name)]
    return "\n\n".join(made + [file.read_text(encoding="utf-8").strip() for file in sorted(RESULTS.glob("train-*.md"))])


def served() -> str:
    """The Markdown of every machine that vLLM was measured on, and of what its LoRA op costs."""
    files = [*sorted(RESULTS.glob("vllm*.md")), *RESULTS.glob("lora_op.md")]
    made = [file.read_text(encoding="utf-8").strip().splitlines() for file in files]
    return "\n\n".join("\n".join([f"**{lines[0].removeprefix('# ')}**", *lines[1:]]) for lines in made)


def terminal() -> str:
    """The Markdown of how the app feels."""
    told = read("tui")
    start, scroll, memory = (told.get(name, {}) for name in ("start", "scroll", "memory"))
    lines = [f"| on {told.get('device', 'nothing yet')}, a real terminal | |", "|---|---|"]
    if start:
        lines += [f"| start to a prompt that takes keys, s: median, most of {start['starts']} | {start['usable_s']['median']}, "
                  f"{start['usable_s']['most']} |", f"| models loaded behind it, s: median | {start['models_loaded_s']['median']} |"]
    keys = [("while models load", start.get("keys_meanwhile_ms"))]
    for part, words in (("answering", ""), ("retraining", ", a retraining running")):
        keys += [(f"idle{words}", told.get(part, {}).get("idle_ms")), (f"while an answer is written{words}",
                                                                      told.get(part, {}).get("answering_ms"))]
    lines += [f"| key to its letter, {words}, ms: p50, p95, p99 of {row['n']} | {row['p50']}, {row['p95']}, {row['p99']} |"
              for words, row in keys if row]
    if scroll:
        lines += [f"| {scroll['messages']} messages: a page {way}, ms: p50, p99 | {scroll[way]['p50']}, {scroll[way]['p99']} |"
                  for way in ("up", "down")]
    if memory:
        lines.append(f"| MB after {', '.join(memory['mb'])} turns | {', '.join(map(str, memory['mb'].values()))} |")
    return "\n".join(lines)


def read(name: str) -> dict:
    """A file of results, empty if there is none."""
    file = RESULTS / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def wheel(told: dict) -> str:
    """Stages with their time, and champion beside challenger."""
    lines = [f"| {told['turns']} corrected turns | s |", "|---|---|",
             *(f"| {row['stage']} | {row['s']} |" for row in told["stages"]), f"| together | {told['total_s']} |", "", f"{told['status']}: {told['words']}", "",
             "| held-out rows | n | champion | challenger | difference, 95 % interval |", "|---|---|---|---|---|"]
    lines += [f"| {row['part']} | {row['n']} | {row['champion']:.3f} | {row['challenger']:.3f} | {row['delta']:+.3f} "
              f"({row['low']:+.3f} to {row['high']:+.3f}) |" for row in told["report"]["figures"]]
    return "\n".join(lines)


def replay(told: dict) -> str:
    """The learning curves and what asking about uncertain turns is worth."""
    lines = ["| replay | turns | labels | wrong ones trained on | accuracy |", "|---|---|---|---|---|"]
    for curve in told["curves"][:2]:  # of the first replay
        lines += [f"| {curve['plan']['method']}, asked {curve['plan']['ask']} | {row['turns']} | {row['labels']} | {row['wrong']} | {row['accuracy']:.4f} |"
                  for row in curve["points"]]
    if every := told.get("everything"):
        lines.append(f"| trained on every label | | {told['rows']} | | {every['accuracy']:.4f} |")
        shares = ", ".join(f"{share:.1%} asking {ask}" for ask, share in told["of_everything"].items())
        lines += ["", f"Of the accuracy with every label: {shares}, with {told['labels_share']:.0%} of the labels."]
    if asking := told.get("asking"):
        lines += ["", f"Uncertain turns instead of random ones: {asking['difference']:+.4f} "
                  f"({asking['low']:+.4f} to {asking['high']:+.4f}, {asking['replays']} replay(s), {asking['rows']} test rows)."]
    return "\n".join(lines)


def gate(told: dict) -> str:
    """How often each decision was made, by scenario."""
    lines = ["| the gate on itself | runs | promote | refuse | abstain |", "|---|---|---|---|---|"]
    for name, row in told.items():
        if isinstance(row, dict) and "runs" in row:
            shares = " | ".join(f"{row[what]['share']:.1%}" for what in ("promote", "refuse", "abstain"))
            lines.append(f"| {name} | {row['runs']} | {shares} |")
    return "\n".join(lines)


def main() -> None:
    """Replace what stands between the markers of the README."""
    text = README.read_text(encoding="utf-8")
    for (begin, end), made in (((BEGIN, END), table()), (LEARNING, learning()), (SERVED, served()), (TERMINAL, terminal())):
        if begin not in text:
            continue
        before, _, rest = text.partition(begin)
        text = f"{before}{begin}\n{made}\n{end}{rest.partition(end)[2]}"
    README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
