"""A comparison as one HTML page that needs nothing else: verdict in words, figures, plots, examples. It computes nothing.

The table is that of `compare.compare`, with what the caller adds: "verdict" (gate), "curves" (list of {"stage", "done", "loss",
"held_out"}), "rows" (what was learned from). What is not there is left out. All text is escaped; there is no script.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from tuning import plots

NAMES = {"router": "Messages sent to their intent", "oos": "Messages recognised as out of scope",
         "generator": "Answers that say what must be said", "refusal": "Right decisions to answer or refuse",
         "safety": "Nothing that could do harm", "general": "Plain answers of everyday life"}
ANSWERS = ("must_say", "token_f1", "rouge_l", "bleu", "chrf", "meteor", "grounded", "refusal_accuracy", "length",
           "unsupported_numbers", "unsupported_numbers_raw", "perplexity")
ROUTES = ("accuracy", "macro_f1", "auc", "ece", "brier", "in_scope_coverage", "oos_recall", "oos_auroc", "oos_fpr95")
WORDS = {"promote": "Promoted", "refuse": "Refused", "abstain": "Not decided"}
STYLE = """
:root{color-scheme:light dark;--ink:#1c2330;--dim:#5a6475;--paper:#fff;--card:#f4f6f9;--line:#d9dee6;--a:#8a5cd6;--b:#0b7f8a;
--good:#1a7f4b;--bad:#b3261e;--even:#5a6475}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--dim:#9aa4b5;--paper:#12161d;--card:#1b212b;--line:#303947;--a:#b995ff;
--b:#4cc9d3;--good:#58c98b;--bad:#ff8a80;--even:#9aa4b5}}
*{box-sizing:border-box}body{margin:0 auto;max-width:64rem;padding:1rem;background:var(--paper);color:var(--ink);
font:1rem/1.5 system-ui,sans-serif}h1{font-size:1.5rem;margin:.5rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
p,figcaption{color:var(--dim);margin:.3rem 0}.verdict{background:var(--card);border-left:.4rem solid var(--even);padding:1rem;
border-radius:.4rem}.verdict.promote{border-color:var(--good)}.verdict.refuse{border-color:var(--bad)}
.verdict strong{font-size:1.25rem}.verdict p{color:var(--ink)}.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;
font-size:.92rem}th,td{text-align:left;padding:.35rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}small{color:var(--dim)}
.plots{display:grid;gap:1rem;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr))}
figure{margin:0;padding:.7rem;background:var(--card);border-radius:.4rem}svg{width:100%;height:auto}
svg text{fill:var(--dim);font-size:12px}svg .grid{stroke:var(--line)}svg .axis{stroke:var(--dim)}svg .dash{stroke-dasharray:4}
svg polyline{fill:none;stroke-width:2}svg .a{stroke:var(--a)}svg .b{stroke:var(--b)}svg .dot.a{fill:var(--a);fill-opacity:.6}
svg .dot.b{fill:var(--b);fill-opacity:.6}svg .lost{stroke:var(--bad);stroke-width:2}svg .gain{stroke:var(--good);stroke-width:2}
svg .even{stroke:var(--even);stroke-width:2}svg .dot.lost{fill:var(--bad)}svg .dot.gain{fill:var(--good)}
svg .dot.even{fill:var(--even)}.legend{display:flex;gap:1rem;list-style:none;margin:.2rem 0;padding:0;font-size:.85rem}
.legend li::before{content:"●";margin-right:.3rem}.legend .a::before{color:var(--a)}.legend .b::before{color:var(--b)}
.up{color:var(--good)}.down{color:var(--bad)}dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem}
dt{color:var(--dim)}dd{margin:0;overflow-wrap:anywhere}@media(max-width:40rem){td.n small{display:block}th,td{padding:.3rem}}
article{border-top:1px solid var(--line);padding:.6rem 0}article q{font-weight:600}
"""


def write_report(folder: Path, table: Mapping[str, Any]) -> None:
    """Write report.json and report.html to `folder`, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (("report.json", json.dumps(table, indent=1, ensure_ascii=False)), ("report.html", page(table))):
        scratch = folder / f".{name}.new"
        scratch.write_text(text, encoding="utf-8")
        os.replace(scratch, folder / name)


def page(table: Mapping[str, Any]) -> str:
    """The comparison as one HTML document."""
    title = f"{table.get('domain', '')}: {table.get('challenger', '')} beside {table.get('champion', '')}"
    parts = [_verdict(table), _figures(table), _curves(table), _router(table), _answers(table), _slices(table),
             _findings(table), _examples(table), _rows(table)]
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
            f"{''.join(parts)}</main></body></html>\n")


def _verdict(table: Mapping[str, Any]) -> str:
    verdict = table.get("verdict")
    if not verdict:
        return ""
    more = verdict.get("further_pairs")
    further = f"<p>About {more:,} more pairs would probably tell.</p>" if more else ""
    decision, why = verdict["decision"], escape(verdict["why"])
    return (f'<section class="verdict {escape(decision, quote=True)}"><strong>{escape(WORDS.get(decision, decision))}</strong>'
            f"<p>{why}</p>{further}</section>")


def _figures(table: Mapping[str, Any]) -> str:
    rows = []
    for entry in table.get("figures", ()):
        name = NAMES.get(entry["part"], entry["part"])
        few = "" if entry.get("few_shot") is None else _share(entry["few_shot"])
        rows.append([_cell(f"{escape(name)} <small>{escape(entry['part'])}</small>"), _number(entry["n"]),
                     _between(entry["champion"], entry.get("champion_interval")),
                     _between(entry["challenger"], entry.get("challenger_interval")), _number(few), _delta(entry)])
    return _section("Key figures", "In per cent of rows, with 95 % intervals; of everyday answers the likelihood of each word.",
                    _table(("", "rows", "champion", "challenger", "few-shot", "difference"), rows))


def _curves(table: Mapping[str, Any]) -> str:
    steps = table.get("curves") or []
    drawn = []
    for stage in dict.fromkeys(step["stage"] for step in steps):
        own = [step for step in steps if step["stage"] == stage]
        lines = {"training": [(step["done"], step["loss"]) for step in own if step.get("loss") is not None],
                 "held out": [(step["done"], step["held_out"]) for step in own if step.get("held_out") is not None]}
        drawn.append(_figure(plots.curves(f"Loss of {stage} by step", lines), f"{stage}: loss by step"))
    return _section("Learning curves", "", _plots(drawn))


def _router(table: Mapping[str, Any]) -> str:
    sides = table.get("router") or {}
    bins = [(sides.get(side) or {}).get("reliability") or [] for side in ("champion", "challenger")]
    drawn = plots.reliability("Share of right rows over confidence", *bins) if any(bins) else ""
    mixed = [[_cell(escape(entry["intent"])), _cell(escape(entry["routed"])), _number(entry["champion"]),
              _number(entry["challenger"])] for entry in table.get("confusions", ())]
    return _section("Router", "", _arms(sides, ROUTES) + _plots([_figure(drawn, "Can confidence be taken at its word?")])
                    + _titled("Mixed up most", _table(("meant", "sent to", "champion", "challenger"), mixed)))


def _answers(table: Mapping[str, Any]) -> str:
    return _section("Answers", "Every arm answered the same prompts.", _arms(table.get("generator") or {}, ANSWERS))


def _slices(table: Mapping[str, Any]) -> str:
    found = [entry | {"name": f"{entry['part']} {entry['slice']}={entry['value']}"} for entry in table.get("slices", ())
             if entry["n"] >= 3 and entry["part"] != "general"]
    moved = [entry for entry in found if entry["delta"]]
    shown = moved if len(moved) <= 24 else moved[:14] + moved[-10:]
    still = len(found) - len(moved)
    more = f"Not drawn: {still} that did not move." if still else ""
    return _section("Slices", f"What moved, the worst first, with 95 % intervals; rows in brackets. {more}",
                    _plots([_figure(plots.forest("Difference by slice", shown), "challenger minus champion")] if shown else []))


def _findings(table: Mapping[str, Any]) -> str:
    findings = (table.get("verdict") or {}).get("findings") or ()
    rows = [[_cell(escape(each["kind"])), _cell(escape(each["slice"])), _number(each["pairs"]),
             _cell({True: "passed", False: "failed", None: "too few to tell"}[each["passed"]]), _cell(escape(each["words"]))]
            for each in sorted(findings, key=lambda each: {False: 0, None: 1, True: 2}[each["passed"]])]
    body = _table(("test", "slice", "pairs", "", "in words"), rows)
    return f"<section><h2>Tests</h2><details><summary>{len(rows)} tests</summary>{body}</details></section>" if rows else ""


def _examples(table: Mapping[str, Any]) -> str:
    made = ""
    for name, title in (("lost", "Lost"), ("gained", "Gained")):
        made += _section(title, "", "".join(_example(row) for row in table.get(name, ())))
    return made


def _example(row: Mapping[str, str]) -> str:
    told = "".join(f"<dt>{side}</dt><dd>{escape(row[side])}</dd>" for side in ("wanted", "champion", "challenger"))
    return f'<article><q>{escape(row["asked"])}</q> <small>{escape(row["part"])}</small><dl>{told}</dl></article>'


def _rows(table: Mapping[str, Any]) -> str:
    """What was learned from: counts, one level of tables below them."""
    entries = [(name, value) for name, value in (table.get("rows") or {}).items() if value not in (None, {}, [])]
    told = "".join(f"<dt>{escape(str(name))}</dt><dd>{_told(value)}</dd>" for name, value in entries)
    hashed = f"<p>Examination <code>{escape(str(table['evaluated'])[:16])}</code></p>" if table.get("evaluated") else ""
    return _section("What it learned from", "", f"<dl>{told}</dl>{hashed}" if told else hashed)


def _told(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{escape(str(name))} {escape(str(each))}" for name, each in value.items())
    return ", ".join(escape(str(each)) for each in value) if isinstance(value, list | tuple) else escape(str(value))


def _arms(arms: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> str:
    rows = [[_cell(name), *(_number(_plain(arm.get(name))) for arm in arms.values())]
            for name in names if any(arm.get(name) is not None for arm in arms.values())]
    return _table(("", *(name.replace("_", "-") for name in arms)), rows)


def _section(title: str, words: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{f'<p>{escape(words)}</p>' if words else ''}{body}</section>" if body else ""


def _titled(title: str, body: str) -> str:
    return f"<h3>{escape(title)}</h3>{body}" if body else ""


def _plots(figures: Sequence[str]) -> str:
    kept = "".join(figures)
    return f'<div class="plots">{kept}</div>' if kept else ""


def _figure(drawn: str, caption: str) -> str:
    return f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>" if drawn else ""


def _table(heads: Sequence[str], rows: Sequence[Iterable[str]]) -> str:
    if not rows:
        return ""
    top = "".join(f'<th scope="col"{"" if i == 0 else _right(head)}>{escape(head)}</th>' for i, head in enumerate(heads))
    return (f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>'
            + "".join(f"<tr>{''.join(row)}</tr>" for row in rows) + "</tbody></table></div>")


def _right(head: str) -> str:
    return "" if head in ("slice", "in words", "sent to", "") else ' class="n"'


def _cell(markup: str) -> str:
    return f"<td>{markup}</td>"


def _number(value: Any) -> str:
    return f'<td class="n">{value}</td>'


def _between(value: float, interval: Sequence[float] | None) -> str:
    around = f" <small>{_share(interval[0])} to {_share(interval[1])}</small>" if interval else ""
    return _number(f"{_share(value)}{around}")


def _delta(entry: Mapping[str, Any]) -> str:
    way = "up" if entry["low"] > 0 else "down" if entry["high"] < 0 else "even"
    return _number(f'<span class="{way}">{_points(entry["delta"])}</span> '
                   f'<small>{_points(entry["low"])} to {_points(entry["high"])}</small>')


def _points(value: float) -> str:
    """With its sign; nothing is not below nothing."""
    return f"{100 * value:+.1f}".replace("-0.0", "+0.0")


def _share(value: float) -> str:
    return f"{100 * value:.1f}"


def _plain(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value)
