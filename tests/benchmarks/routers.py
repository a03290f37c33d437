"""Intent routers side by side on the same rows and the same encoder: accuracy, calibration, out of scope, time and memory.

    python tests/benchmarks/routers.py --data FOLDER [--arms retune logreg setfit semantic-router] [--sets banking77 ...]
        [--seeds 1 2 3] [--threads N] [--setfit-steps 2000] [--peers PYTHON] [--limit N] [--resume] [--out FILE.json]

FOLDER holds the data sets as `{"text", "intent"}` lines: banking77, clinc150, banking77-oos, clinc-single-domain-oos.
SetFit and semantic-router live in an environment of their own, which `make bench-peers` makes; `--peers` names the Python of
another.

Each arm is a process of its own for each data set and seed (peers/arm.py), so that time and memory are its own. It is given the
rows to train on and those held for stopping, calibration and thresholds, and after that the test texts without their labels,
once; the figures are computed here. Few-shot sets have no held rows, since twenty an intent would be more than there are to
train on, and CLINC150's out-of-scope training rows are left out, since only Retune could train on them. What was measured is
kept after each process; `--resume` goes on from there. `--limit` is a smoke run on N rows a file.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from agent import paths
from agent.models import ensure
from agent.settings import Settings
from tuning import metrics
from tuning.bench import read_texts
from tuning.dataset import OOS, Text

RESULTS = Path(__file__).parent / "results"
PEERS = Path(__file__).parent / "peers"
ARMS = ("retune", "logreg", "setfit", "semantic-router")
OUTSIDE = ("setfit", "semantic-router")  # live in the peers' environment
QUIET = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_DATASETS_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false",
         "TRANSFORMERS_VERBOSITY": "error"}


@dataclass(frozen=True)
class Files:
    """A data set's files below the data folder, without .jsonl; `oos`: out-of-scope test rows by kind."""

    train: str
    test: str
    held: tuple[str, ...] = ()
    oos: Mapping[str, str] = field(default_factory=dict)


def single_domain(folder: str) -> Files:
    """One of CLINC150's domains alone, with near and far out-of-scope rows."""
    return Files(f"{folder}/train", f"{folder}/test", (f"{folder}/valid", f"{folder}/id-oos/valid", f"{folder}/ood-oos/valid"),
                 {"near": f"{folder}/id-oos/test", "far": f"{folder}/ood-oos/test"})


CLINC_OOS = {"all": "clinc150/oos_test"}
SETS = {
    "banking77": Files("banking77/train", "banking77/test"),
    "banking77-5": Files("banking77/fewshot/train_5", "banking77/fewshot/test"),
    "banking77-10": Files("banking77/fewshot/train_10", "banking77/fewshot/test"),
    "clinc150": Files("clinc150/train", "clinc150/test", ("clinc150/valid", "clinc150/oos_valid"), CLINC_OOS),
    "clinc150-5": Files("clinc150/fewshot/train_5", "clinc150/fewshot/test", (), CLINC_OOS),
    "clinc150-10": Files("clinc150/fewshot/train_10", "clinc150/fewshot/test", (), CLINC_OOS),
    "banking77-oos": single_domain("banking77-oos"),
    "clinc-banking-oos": single_domain("clinc-single-domain-oos/banking"),
    "clinc-credit-cards-oos": single_domain("clinc-single-domain-oos/credit_cards"),
}


@dataclass(frozen=True)
class Data:
    """The rows of a data set; `outside`: out-of-scope test texts by kind."""

    train: Sequence[Text]
    held: Sequence[Text]
    inside: Sequence[Text]
    outside: Mapping[str, Sequence[str]]

    @property
    def labels(self) -> list[str]:
        """In the order of an arm's columns."""
        return sorted({row.intent for row in self.train} - {OOS})

    @property
    def texts(self) -> list[str]:
        """To be scored: in scope, then each kind out of scope."""
        return [row.text for row in self.inside] + [text for texts in self.outside.values() for text in texts]


def read_data(folder: Path, files: Files, limit: int | None = None) -> Data:
    """A data set; `limit`: so many rows of each file, and only intents that two training rows have."""
    def rows(name: str) -> list[Text]:
        found = read_texts(folder / f"{name}.jsonl", OOS)
        return random.Random(0).sample(found, min(limit, len(found))) if limit else found

    train = rows(files.train)
    if limit:
        seen = Counter(row.intent for row in train)
        train = [row for row in train if seen[row.intent] > 1]
    known = {row.intent for row in train} | {OOS}
    held, inside = ([row for name in names for row in rows(name) if row.intent in known]
                    for names in (files.held, (files.test,)))
    return Data(train, held, inside, {kind: [row.text for row in rows(name)] for kind, name in files.oos.items()})


def measure(data: Data, script: Path, python: str, job: Mapping[str, Any]) -> dict[str, Any]:
    """One arm with one seed: its figures, or {"failed": the last line it wrote}."""
    with tempfile.TemporaryDirectory(prefix="retune-routers-") as name:
        folder = Path(name)
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        for file, rows in (("train", data.train), ("held", data.held)):
            lines = (json.dumps({"text": row.text, "intent": row.intent}) + "\n" for row in rows)
            (folder / f"{file}.jsonl").write_text("".join(lines), encoding="utf-8")
        (folder / "tests.json").write_text(json.dumps(data.texts), encoding="utf-8")
        done = subprocess.run([python, str(script), name], capture_output=True, text=True, cwd=name,
                              env=os.environ | QUIET | {"OMP_NUM_THREADS": str(job["threads"])})
        if done.returncode:
            return {"failed": (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]}
        told = json.loads((folder / "told.json").read_text(encoding="utf-8"))
        with np.load(folder / "scores.npz") as scores:
            probabilities, strange = scores["probabilities"], scores["strange"]
    assert told.pop("labels") == data.labels, f"{script.name} has other labels than the data"
    return told | figures(data, probabilities, strange, told["threshold"])


def figures(data: Data, probabilities: np.ndarray, strange: np.ndarray, threshold: float | None) -> dict[str, Any]:
    """Of the rows of `Data.texts`: accuracy without abstaining; out of scope for all kinds together and for each."""
    n = len(data.inside)
    truth, inside = [row.intent for row in data.inside], strange[:n]
    predicted = [data.labels[i] for i in probabilities[:n].argmax(1)]
    right = np.array([a == b for a, b in zip(truth, predicted)])
    found: dict[str, Any] = {
        "accuracy": float(right.mean()), "macro_f1": metrics.macro_f1(truth, predicted),
        "ece": metrics.ece(probabilities[:n].max(1), right),
        "coverage": None if threshold is None else float((inside <= threshold).mean()), "oos": {}}
    kinds, at = {}, n
    for kind, texts in data.outside.items():
        kinds[kind], at = strange[at:at + len(texts)], at + len(texts)
    if kinds:
        kinds = {"all": np.concatenate(list(kinds.values()))} | kinds
    for kind, scores in kinds.items():
        found["oos"][kind] = {"n": len(scores), "auroc": metrics.auroc(inside, scores), "fpr95": metrics.fpr95(inside, scores),
                              **told_apart(inside, scores, threshold)}
    return found


def told_apart(inside: np.ndarray, outside: np.ndarray, threshold: float | None) -> dict[str, float | None]:
    """Recall and F1 of "out of scope" at the arm's threshold."""
    if threshold is None:
        return {"recall": None, "f1": None}
    hits, alarms = int((outside > threshold).sum()), int((inside > threshold).sum())
    return {"recall": hits / len(outside), "f1": 2 * hits / (hits + alarms + len(outside))}


def spread(values: Sequence[float | None], scale: float, digits: int) -> str:
    """Mean, and with several the standard deviation, as they stand in the table."""
    known = [value * scale for value in values if value is not None]
    if not known:
        return "–"
    mean = f"{statistics.mean(known):.{digits}f}"
    return f"{mean} ± {statistics.stdev(known):.{digits}f}" if len(known) > 1 else mean


SCOPE = {"accuracy": (100, 2), "macro_f1": (100, 2), "ece": (100, 2), "train_s": (1, 1), "p50_ms": (1, 2), "p99_ms": (1, 2),
         "peak_mb": (1, 0)}
STRANGE = {"auroc": (100, 2), "fpr95": (100, 2), "recall": (100, 2), "f1": (100, 2)}


def markdown(table: dict[str, Any]) -> str:
    """The figures as a page."""
    lines = [f"# Intent routers on {table['device']}", ""]
    if table["limit"]:
        lines += [f"**A smoke run on at most {table['limit']} rows a file: no figure here means anything.**", ""]
    lines += [f"All on the encoder {table['encoder']}, with {table['threads']} thread(s), each in a process of its own. Mean "
              "± standard deviation over the seeds; shares in percent. Accuracy, macro-F1 and ECE (15 bins) are without "
              "abstaining, on the in-scope test rows. One text: batch of 1, tokenizer included, at most 300 training texts. "
              "Memory: the most of training and scoring.", ""]
    for name in dict.fromkeys(run["set"] for run in table["runs"]):
        runs = [run for run in table["runs"] if run["set"] == name]
        arms = {arm: [run for run in runs if run["arm"] == arm] for arm in dict.fromkeys(run["arm"] for run in runs)}
        lines += [f"## {name}", "", "; ".join(f"{n} {what}" for what, n in table["sets"][name].items()) + " rows.", "",
                  *in_scope(arms), "", *out_of_scope(arms), *set_up(arms), ""]
    return "\n".join(lines).rstrip()


def in_scope(arms: Mapping[str, Sequence[dict[str, Any]]]) -> list[str]:
    """A line an arm; one that failed with a seed says so."""
    lines = ["| | seeds | accuracy | macro-F1 | ECE | training, s | one text, ms: p50 | p99 | memory, MB |", "|" + "---|" * 9]
    for arm, runs in arms.items():
        fine = [run for run in runs if "failed" not in run]
        failed = f", {len(runs) - len(fine)} failed" if len(fine) < len(runs) else ""
        cells = [spread([run[key] for run in fine], *form) for key, form in SCOPE.items()]
        lines.append(f"| {arm} | {len(fine)}{failed} | " + " | ".join(cells) + " |")
    return lines


def out_of_scope(arms: Mapping[str, Sequence[dict[str, Any]]]) -> list[str]:
    """A line an arm and kind of out-of-scope rows; nothing where the set has none."""
    lines = ["| | out of scope | AUROC | FPR95 | in scope let in | recall | F1 |", "|" + "---|" * 7]
    for arm, runs in arms.items():
        fine = [run for run in runs if "failed" not in run]
        for kind in fine[0]["oos"] if fine else ():
            cells = [spread([run["oos"][kind][key] for run in fine], *form) for key, form in STRANGE.items()]
            cells.insert(2, spread([run["coverage"] for run in fine], 100, 2))
            lines.append(f"| {arm} | {kind} ({fine[0]['oos'][kind]['n']}) | " + " | ".join(cells) + " |")
    return [*lines, ""] if len(lines) > 2 else []


def set_up(arms: Mapping[str, Sequence[dict[str, Any]]]) -> list[str]:
    """How each arm was run, or why it failed."""
    lines = []
    for arm, runs in arms.items():
        failed = next((f"failed with seed {run['seed']}: {run['failed']}" for run in runs if "failed" in run), "")
        fine = next((run for run in runs if "failed" not in run), None)
        packages = ", ".join(f"{name} {version}" for name, version in fine["versions"].items()) if fine else ""
        lines.append(f"- {arm}: " + "; ".join(filter(None, [f"{fine['about']} ({packages})" if fine else "", failed])))
    return lines


def keep(table: dict[str, Any], out: Path) -> None:
    """Write both files."""
    whole = out.with_suffix(".part")
    whole.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    os.replace(whole, out)
    out.with_suffix(".md").write_text(markdown(table) + "\n", encoding="utf-8")


def main() -> None:
    """Measure what was asked for, print and keep."""
    from report import device

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=ARMS)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--threads", type=int, help="of each arm; without it those of Retune's settings")
    parser.add_argument("--setfit-steps", type=int, default=2000, help="SetFit trains at most so many")
    parser.add_argument("--peers", type=Path, help="Python of the peers' environment; without it that of `make bench-peers`")
    parser.add_argument("--limit", type=int, help="smoke run: so many rows of each file")
    parser.add_argument("--resume", action="store_true", help="what --out holds of the same settings is not measured again")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    settings = Settings.load(threads=asked.threads)
    python = asked.peers or paths.default_home() / "peers" / "env" / "bin" / "python"
    if set(asked.arms) & set(OUTSIDE) and not python.is_file():
        parser.error(f"There is no {python}; run `make bench-peers`, or name a Python with --peers.")
    out = asked.out or RESULTS / ("routers-smoke.json" if asked.limit else "routers.json")
    about = {"device": device(), "encoder": settings.encoder, "threads": settings.cores, "limit": asked.limit,
             "setfit_steps": asked.setfit_steps}
    table: dict[str, Any] = about | {"sets": {}, "runs": []}
    if asked.resume and out.is_file():
        table = json.loads(out.read_text(encoding="utf-8"))
        if differs := [name for name, value in about.items() if table[name] != value]:
            parser.error(f"{out} was measured with another {differs[0]}; name another --out, or leave out --resume.")
        table["runs"] = [run for run in table["runs"] if "failed" not in run]
    out.parent.mkdir(parents=True, exist_ok=True)
    base = ensure(settings.encoder, settings)
    job = {"base": str(base.path), "threads": settings.cores, "setfit_steps": asked.setfit_steps}
    for name in asked.sets:
        data = read_data(asked.data, SETS[name], asked.limit)
        table["sets"][name] = {"training": len(data.train), "held": len(data.held), "test": len(data.inside)} | {
            f"out-of-scope test ({kind})": len(texts) for kind, texts in data.outside.items()}
        for seed in asked.seeds:  # arms beside each other, so that a slow hour is slow for all
            for arm in asked.arms:
                this = {"set": name, "arm": arm, "seed": seed}
                if any(run.items() >= this.items() for run in table["runs"]):
                    continue
                script = PEERS / f"{arm.replace('-', '_')}_arm.py"
                found = measure(data, script, str(python) if arm in OUTSIDE else sys.executable, job | {"seed": seed})
                table["runs"].append(this | found)
                keep(table, out)
                said = found.get("failed") or f"accuracy {found['accuracy']:.4f}, training {found['train_s']:.0f} s"
                print(f"{name} {arm} seed {seed}: {said}", file=sys.stderr, flush=True)
    print(markdown(table))
    sys.exit(any("failed" in run for run in table["runs"]))


if __name__ == "__main__":
    main()
