"""The benchmark of tests/benchmarks/routers.py in small: what an arm is given, and what its scores are made into."""

import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.routers import PEERS, SETS, Data, figures, markdown, measure, read_data

from tuning.dataset import Text

DATA = Data([Text("a one", "a"), Text("a two", "a"), Text("b one", "b"), Text("b two", "b")], [],
            [Text("a x", "a"), Text("b x", "b"), Text("b y", "b"), Text("a y", "a")],
            {"near": ["a z", "c z"], "far": ["d z", "e z"]})
FIRST_WORD = """
import numpy as np
from arm import OOS, run

class FirstWord:
    packages, about, threshold, scored = ("numpy",), "first word", 0.5, 0

    def __init__(self, job):
        self.job = job

    def fit(self, rows, held, seed):
        assert seed == 3 and [row.intent for row in held] == ["a", OOS]
        self.labels = sorted({row.intent for row in rows})

    def score(self, texts):
        self.scored += any(text.endswith(("x", "y", "z")) for text in texts)
        assert self.scored <= 1, "the test texts were scored twice"
        found = np.array([[0.9 * text.startswith(label) for label in self.labels] for text in texts])
        return found, 1 - found.max(1)

run(FirstWord)
"""


def arm(folder: Path, code: str) -> Path:
    script = folder / "first_word_arm.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(PEERS)!r})\n{code}", encoding="utf-8")
    return script


def test_a_process_of_its_own_is_given_rows_and_test_texts_once_and_figures_come_back(tmp_path: Path) -> None:
    data = Data(DATA.train, [Text("a held", "a"), Text("z held", "oos")], DATA.inside, DATA.outside)
    found = measure(data, arm(tmp_path, FIRST_WORD), sys.executable, {"base": "", "seed": 3, "threads": 1})
    assert found["accuracy"] == 1.0 and found["ece"] == pytest.approx(0.1)
    assert found["oos"]["near"]["recall"] == 0.5 and found["oos"]["far"]["recall"] == 1.0
    assert found["versions"] == {"numpy": np.__version__}
    assert 0 < found["p50_ms"] <= found["p99_ms"] and found["peak_mb"] > 5


def test_an_arm_that_crashes_is_told_with_its_last_line(tmp_path: Path) -> None:
    found = measure(DATA, arm(tmp_path, FIRST_WORD), sys.executable, {"base": "", "seed": 4, "threads": 1})
    assert found == {"failed": "AssertionError"}


def test_figures_by_hand() -> None:
    probabilities = np.array([[0.8, 0.2], [0.6, 0.4], [0.1, 0.9], [0.7, 0.3], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5], [0.5, 0.5]])
    strange = np.array([0.1, 0.2, 0.3, 0.9, 0.4, 0.8, 0.95, 1.0])
    found = figures(DATA, probabilities, strange, 0.5)
    assert (found["accuracy"], found["coverage"]) == (0.75, 0.75)  # the second is taken for an a, the fourth is kept out
    assert [found["oos"][kind]["n"] for kind in ("all", "near", "far")] == [4, 2, 2]
    assert found["oos"]["all"]["recall"] == 0.75 and found["oos"]["all"]["f1"] == pytest.approx(2 * 3 / (3 + 1 + 4))
    assert found["oos"]["near"]["auroc"] == pytest.approx(6 / 8)  # of eight pairs 0.4 and 0.8 lose to 0.9
    assert found["oos"]["far"]["auroc"] == 1.0


def test_an_arm_without_a_threshold_has_no_recall_and_the_page_a_dash() -> None:
    scores = np.full((8, 2), 0.5), np.linspace(0, 1, 8)
    runs = [{"set": "small", "arm": name, "seed": 1, "about": "x", "versions": {"p": "1"}, "train_s": 2.0, "p50_ms": 1.0,
             "p99_ms": 1.5, "peak_mb": 100.0} | figures(DATA, *scores, threshold)
            for name, threshold in (("with", 0.5), ("without", None))]
    runs.append(runs[0] | {"seed": 2, "train_s": 4.0})
    page = markdown({"device": "a CPU", "encoder": "e", "threads": 1, "limit": None, "sets": {"small": {"test": 4}},
                     "runs": [*runs, {"set": "small", "arm": "broken", "seed": 1, "failed": "no such file"}]})
    lines = {line.split("|")[1].strip() + line.split("|")[2]: line for line in page.splitlines() if line.startswith("| ")}
    assert "| 3.0 ± 1.4 |" in lines["with 2 "] and "| 2.0 |" in lines["without 1 "]
    assert lines["without all (4) "].endswith("| – | – | – |") and "–" not in lines["with all (4) "]
    assert "broken 0, 1 failed " in lines and "broken: failed with seed 1: no such file" in page


def test_a_smoke_run_has_no_intent_in_held_or_test_rows_that_it_does_not_train_on(tmp_path: Path) -> None:
    for name in (SETS["clinc150"].train, SETS["clinc150"].test, *SETS["clinc150"].held, *SETS["clinc150"].oos.values()):
        file = tmp_path / f"{name}.jsonl"
        file.parent.mkdir(exist_ok=True)
        intents = ["oos"] if "oos" in name else [f"i{number}" for number in range(9)]
        file.write_text("".join(f'{{"text": "{intent} {k}", "intent": "{intent}"}}\n' for intent in intents for k in range(3)))
    small = read_data(tmp_path, SETS["clinc150"], 12)
    assert 0 < len(small.labels) < 9 and small.inside and {row.intent for row in small.held} <= {*small.labels, "oos"}
    assert {row.intent for row in small.inside} <= set(small.labels) and len(small.outside["all"]) == 3
    assert len(read_data(tmp_path, SETS["clinc150"]).labels) == 9
