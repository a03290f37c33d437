"""The wheel turned once, and timed: chat turns in, corrections given, retrained, promoted, served, taken back.

A young domain is cut from a shipped one: its articles, tools and held-out rows whole, but six examples an intent and no
tuned generator. A chat process answers a pipe from the first line to the last; people's corrections go in as its commands.
`retrain` and `rollback` run as processes of their own, and the chat has to follow them.

    python tests/benchmarks/flywheel.py --questions 80 --wishes 120 --out results/flywheel.json
"""

import argparse
import getpass
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from agent import paths
from agent.domain import Domain

HERE = Path(__file__).resolve().parent
FOOT = re.compile(r"^  \[.* · (desk@\d{4}) · .*\]$")


def main() -> None:
    """Turn the wheel in an empty home that borrows the base models; write the table."""
    told = arguments()
    rows: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as place:
        home, desk = Path(place) / "home", Path(place) / "desk"
        home.mkdir()
        for name in ("models", "index"):
            (paths.default_home() / name).mkdir(parents=True, exist_ok=True)
            os.symlink(paths.default_home() / name, home / name, target_is_directory=True)
        traffic = make_desk(Domain.load(told.domain), desk, told.shots, told.questions, told.wishes, told.seed)
        env = os.environ | {"RETUNE_HOME": str(home)}

        def timed(stage: str, *command: str, ok: tuple[int, ...] = (0,)) -> str:
            started = time.perf_counter()
            ended = subprocess.run([sys.executable, "-m", "agent.surfaces.cli", *command], env=env, stdout=subprocess.PIPE,
                                   text=True)
            assert ended.returncode in ok, f"{command} ended with {ended.returncode}: {ended.stdout}"
            rows.append((stage, time.perf_counter() - started))
            print(f"{stage}: {rows[-1][1]:.1f} s", file=sys.stderr, flush=True)
            return ended.stdout

        timed("the young domain's first router", "train", str(desk), "--part", "router", "--recipe", told.recipe, "--champion")
        started = time.perf_counter()
        chat = Chat(desk, env)
        first = chat.ask(traffic[0][0])
        rows.append(("chat starts and answers", time.perf_counter() - started))
        started = time.perf_counter()
        for question, lessons in traffic:
            chat.say("/new")  # a wish that waits for a figure would take the next message for its answer
            chat.ask(question)
            for lesson in lessons:
                chat.say(lesson)
        rows.append((f"{len(traffic)} turns answered and corrected", time.perf_counter() - started))
        print(f"{rows[-1][0]}: {rows[-1][1]:.1f} s", file=sys.stderr, flush=True)
        timed("the author is trusted", "review", str(desk), "--trust", getpass.getuser(), "--json")
        report = json.loads(timed("retrain: tune, compare, judge, promote", "retrain", str(desk), "--recipe", told.recipe,
                                  "--limit", str(told.limit), "--json", ok=(0, 1)))
        started = time.perf_counter()
        second = chat.until(report["bundle"]) if report["status"] == "promoted" else chat.ask(traffic[0][0])
        rows.append(("the chat serves the new bundle", time.perf_counter() - started))
        if report["status"] == "promoted":
            timed("rollback", "rollback", str(desk), "--json")
            started = time.perf_counter()
            third = chat.until(first)
            rows.append(("the chat serves the old bundle again", time.perf_counter() - started))
            assert (first, second, third) == (first, report["bundle"], first)
        chat.close()
    table = {"turns": len(traffic), "stages": [{"stage": stage, "s": round(spent, 1)} for stage, spent in rows],
             "total_s": round(sum(spent for _, spent in rows), 1), "status": report["status"], "words": report["words"],
             "report": {key: report[key] for key in ("figures", "verdict", "rows", "generator") if key in report}}
    told.out.parent.mkdir(parents=True, exist_ok=True)
    told.out.write_text(json.dumps(table, indent=1), encoding="utf-8")
    print("\n".join(f"| {stage} | {spent:.1f} |" for stage, spent in rows) + f"\n| together | {table['total_s']} |")
    print(f"{report['status']}: {report['words']}")


class Chat:
    """A running `retune chat` on a pipe."""

    def __init__(self, desk: Path, env: dict[str, str]) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "agent.surfaces.cli", "chat", str(desk)], env=env, text=True,
                                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1)

    def ask(self, question: str) -> str:
        """The bundle that answered."""
        self.say(question)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if foot := FOOT.match(line.rstrip("\n")):
                return foot[1]
        raise AssertionError(f"the chat ended at {question!r}")

    def say(self, line: str) -> None:
        """A command, whose answer is read with the next turn's."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def until(self, bundle: str, limit_s: float = 30) -> str:
        """Ask until this bundle answers."""
        deadline = time.monotonic() + limit_s
        while (found := self.ask("What can you help me with?")) != bundle:
            assert time.monotonic() < deadline, f"{found} still answers, not {bundle}"
        return found

    def close(self) -> None:
        """End of input ends the chat."""
        self._process.communicate()


def make_desk(source: Domain, folder: Path, shots: int, questions: int, wishes: int, seed: int) -> list[tuple[str, list[str]]]:
    """Write the young domain; returns its traffic as (message, what the person then teaches), in a drawn order."""
    shutil.copytree(source.folder, folder, ignore=shutil.ignore_patterns("models", "__pycache__", "__init__.py"))
    (folder / "questions.jsonl").unlink()
    (folder / "eval" / "safety.jsonl").unlink()  # written for a grown router; what a young one gets right of it is luck
    settings = (folder / "domain.toml").read_text(encoding="utf-8")
    (folder / "domain.toml").write_text(re.sub(r'(?m)^name = ".*"', 'name = "desk"', settings, count=1), encoding="utf-8")
    drawn = random.Random(seed)
    by_intent: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in source.rows("intents.jsonl"):
        by_intent[row["intent"]].append(row)
    kept, waiting = [], []
    for intent in sorted(by_intent):
        drawn.shuffle(by_intent[intent])
        kept += by_intent[intent][:shots]
        waiting += by_intent[intent][shots:]
    outside = source.rows("oos.jsonl")
    drawn.shuffle(outside)
    write(folder / "intents.jsonl", kept)
    write(folder / "oos.jsonl", outside[:4 * shots])
    dialogues = source.rows("dialogues.jsonl")
    write(folder / "dialogues.jsonl", [row for row in dialogues if row.get("evidence")][:8]
          + [row for row in dialogues if not row.get("answerable")][:4])
    known = {passage.id: passage for passage in source.passages}
    asked = [row for row in source.rows("questions.jsonl") if not row.get("history")]
    drawn.shuffle(asked)
    none = [row for row in asked if not row["evidence"]]
    asked = [row for row in asked if row["evidence"]][:round(0.9 * questions)]
    asked += none[:max(0, min(questions, len(none) + len(asked)) - len(asked))]
    drawn.shuffle(asked)
    drawn.shuffle(waiting)
    found = []
    for row in asked:
        passages = [known[key] for key in row["evidence"]]
        intents = sorted(name for passage in passages for name in passage.intents if source.intents[name].answer == "docs")
        found.append((row["question"], [f"/correct {' '.join(passage.text for passage in passages) or source.unknown}",
                                        *(f"/intent {name}" for name in intents[:1])]))
    found += [(row["text"], [f"/intent {row['intent']}"]) for row in waiting[:round(0.8 * wishes)]]
    found += [(row["text"], ["/none"]) for row in outside[4 * shots:][:wishes - round(0.8 * wishes)]]
    drawn.shuffle(found)
    return found


def write(file: Path, rows: list[dict[str, Any]]) -> None:
    """JSON lines."""
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def arguments() -> argparse.Namespace:
    """What can be said on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--domain", default="finance")
    parser.add_argument("--questions", type=int, default=80)
    parser.add_argument("--wishes", type=int, default=120)
    parser.add_argument("--shots", type=int, default=6)
    parser.add_argument("--limit", type=int, default=48, help="held-out questions")
    parser.add_argument("--recipe", default="young")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "flywheel.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
