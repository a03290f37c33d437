"""The terminal UI as a person feels it, on a real terminal: start, keys, scrolling, memory. Linux; prints JSON.

    python tests/benchmarks/tui.py --only start,answering --out results/tui.json

Keys are timed from the write to the terminal until the key's letter comes back from the app: while the models load, idle, while
the embedded model writes an answer (from Enter to the answer's last line), while a retraining runs that was begun on the models
screen, and both at once.
"""

import argparse
import getpass
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from report import device
from terminal import LETTERS, Terminal

from agent import paths
from agent.domain import Domain
from agent.settings import Settings
from agent.store import Store

TESTS = Path(__file__).resolve().parents[1]
CHAT = ("-m", "agent.surfaces.cli", "chat")
F4, F6 = "\x1bOS", "\x1b[17~"
READY, PROMPT = "ready: ", "sk something"
"""What the screen says when the models are loaded, and in an empty prompt (the cursor stands on its A)."""
CODE = """
import sys
from pathlib import Path
from tui import Typist, app_on
said = "You have **30 days** to return it.\\n\\n- by post\\n- in a shop\\n\\nKeep the receipt. "
app = app_on(Path(sys.argv[1]), Typist(said * 3))
try:
    app.run()
finally:
    app.close()
"""


def main() -> None:
    """Measure what is asked for; write the table."""
    told = arguments()
    wanted = told.only.split(",")
    table: dict[str, Any] = {"device": device(), "load": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as place:
        home = Path(place)
        for name in ("models", "index"):
            (told.home / name).mkdir(parents=True, exist_ok=True)
            os.symlink(told.home / name, home / name, target_is_directory=True)
        with closing(Store(Settings.load(home=home).database_url)) as store:
            store.open()
            store.session("before", "customer_service")  # so that it is not the first start
        for part in wanted:
            say(f"{part} ...")
            table[part] = PARTS[part](home, told)
            say(f"{part}: {table[part]}")
    if told.out:
        before = json.loads(told.out.read_text(encoding="utf-8")) if told.out.is_file() else {}
        told.out.write_text(json.dumps(before | table, indent=1) + "\n", encoding="utf-8")
    else:
        print(json.dumps(table, indent=1))


def start(home: Path, told: argparse.Namespace) -> dict[str, Any]:
    """Seconds from exec to the first key that came back, models loading behind it; and the keys until they are loaded."""
    plain, usable, ready, keys = [], [], [], []
    for _ in range(told.starts):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "pass"], check=True)
        plain.append(time.perf_counter() - began)
        with app(CHAT, home, ready=False) as terminal:
            terminal.shows(PROMPT)
            terminal.key(LETTERS[-1])
            usable.append(time.perf_counter() - terminal.began)
            keys += typed(terminal, lambda: READY.encode() in terminal.seen)
            ready.append(time.perf_counter() - terminal.began)
    return {"starts": told.starts, "python_pass_s": spread(plain), "usable_s": spread(usable), "models_loaded_s": spread(ready),
            "keys_meanwhile_ms": milliseconds(keys)}


def answering(home: Path, told: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds from a key to its letter on the screen, idle and while the embedded model answers."""
    questions = asked()
    with app(CHAT, home) as terminal:
        answer(terminal, next(questions))
        terminal.rest(1)
        return {"idle_ms": milliseconds(typed(terminal, lambda: False, most=told.keys)),
                "answering_ms": milliseconds(while_answering(terminal, questions, told.keys))}


def retraining(home: Path, told: argparse.Namespace) -> dict[str, Any]:
    """The same while a retraining runs that was begun by keys on the models screen; the router's, on a few labels."""
    questions = asked()
    with app((*CHAT, "customer_service"), home) as terminal:
        teach(home, terminal, questions)
        terminal.type(F4)
        terminal.shows("next run")
        terminal.type("t")
        terminal.shows("Retrain customer_service?")
        at = terminal.type("y")
        terminal.shows("step", 300, at)
        terminal.type(F6)
        terminal.rest(1)
        found = {"idle_ms": milliseconds(typed(terminal, lambda: False, most=told.keys)),
                 "answering_ms": milliseconds(while_answering(terminal, questions, told.keys))}
        terminal.type("\x15" + F4)
        terminal.rest(1)
        at = terminal.type("x")
        terminal.shows("Stop retraining", since=at)  # which says that it ran until now
        at = terminal.type("y")
        terminal.shows("stopped", since=at)
        terminal.type(F6)
        terminal.rest(0.5)
        return found


def scroll(home: Path, told: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds from a page key to the page in a conversation of 1,000 messages, up to its begin and down again."""
    from agent.types import Turn

    session, count = "long", 1000
    with closing(Store(Settings.load(home=home).database_url)) as store:
        store.open()
        store.session(session, "customer_service")
        for number in range(count):
            text = f"Answer {number}. You have **30 days** to return it.\n\n- by post\n- in a shop\n\nKeep the receipt."
            store.log(Turn(id=f"{number:032}", session=session, domain="customer_service", bundle="customer_service@0001",
                           question="", redacted=f"Question N{number:04}?", state="answered", reply=text), {})
    found: dict[str, list[float]] = {"up": [], "down": []}
    with app(CHAT, home) as terminal:
        terminal.type("\x13")  # Ctrl+S
        terminal.shows("N0000")
        at, began = terminal.type("\r"), time.perf_counter()
        terminal.shows("N0999", since=at)
        opened = time.perf_counter() - began
        terminal.rest(1)
        for way, key in (("up", "\x1b[5~"), ("down", "\x1b[6~")):
            for _ in range(told.pages):
                at, began = terminal.type(key), time.perf_counter()
                while not re.search(rb"N\d{4}", terminal.seen[at:]):
                    assert time.perf_counter() - began < 10, (way, len(found[way]), terminal.seen[-2000:])
                    terminal.read(1)
                found[way].append(time.perf_counter() - began)
                terminal.rest(0.05)
                if (b"N0000" if way == "up" else b"N0999") in terminal.seen[at:]:
                    break
    return {"messages": count, "opened_s": round(opened, 2)} | {way: milliseconds(took) for way, took in found.items()}


def memory(home: Path, told: argparse.Namespace) -> dict[str, Any]:
    """MB of the app after so many turns of one conversation, with a scripted generator."""
    found, turns = {}, 500
    places = os.pathsep.join((str(TESTS), str(TESTS.parent)))
    with app(("-c", CODE, str(home)), home, {"PYTHONPATH": places}) as terminal:
        began = time.perf_counter()
        for number in range(1, turns + 1):
            at = terminal.type(f"How long may I keep number {number}?\r")
            at = terminal.shows("· answered ·", since=terminal.shows(f"keep number {number}?", since=at))
            if number in (1, 50) or number % 100 == 0:
                found[str(number)] = round(terminal.memory(), 1)
        spent = time.perf_counter() - began
    return {"turns": turns, "s": round(spent, 1), "mb": found}


@contextmanager
def app(arguments: Sequence[str], home: Path, environment: dict[str, str] | None = None,
        ready: bool = True) -> Iterator[Terminal]:
    """An app on a terminal, with its models loaded; left by Ctrl+Q."""
    terminal = Terminal(arguments, home, environment=environment)
    if ready:
        terminal.shows(READY, 600)
        terminal.rest(0.5)
    yield terminal
    terminal.type("\x15")
    terminal.rest(0.3)
    terminal.type("\x11")
    terminal.rest(0.3)
    terminal.type("y")  # an answer may be being written
    terminal.end()


def asked() -> Iterator[str]:
    """Questions of the shipped domains that the generator answers from articles, in a fixed order."""
    rows = [row["question"] for name in ("customer_service", "finance", "medical")
            for row in Domain.load(name).rows("dialogues.jsonl") if row.get("evidence")]
    random.Random(5).shuffle(rows)
    while True:
        yield from rows


def answer(terminal: Terminal, question: str) -> None:
    """Ask, and read until the answer has ended."""
    at, until = terminal.type(f"{question}\r"), time.monotonic() + 120
    while not answered(terminal, at):
        assert time.monotonic() < until, terminal.seen[-2000:]
        terminal.read(1)


def answered(terminal: Terminal, since: int) -> bool:
    """Whether what was asked there has its answer: the key line offered to stop it, and does so no longer."""
    send = terminal.seen.rfind(b" Send")
    return terminal.seen.find(b" Stop", since) >= 0 and b" Stop" not in terminal.seen[max(since, send - 200):send]


def typed(terminal: Terminal, done: Any, most: int = 10_000) -> list[float]:
    """Press a letter some 60 ms after the one before came, until it is done; seconds that each took."""
    took: list[float] = []
    rhythm, until = random.Random(3), time.monotonic() + 120
    while not done() and len(took) < most:
        assert time.monotonic() < until, terminal.seen[-2000:]
        if len(took) % len(LETTERS[:-1]) == 0:
            terminal.type("\x15")  # Ctrl+U empties the line
            terminal.rest(0.1)
        took.append(terminal.key(LETTERS[len(took) % len(LETTERS[:-1])]))
        terminal.rest(rhythm.uniform(0.03, 0.09))
    return took


def while_answering(terminal: Terminal, questions: Iterator[str], count: int) -> list[float]:
    """So many keys, each pressed while an answer was being made."""
    took: list[float] = []
    while len(took) < count:
        terminal.type("\x15")
        terminal.rest(0.2)
        at = terminal.type(f"{next(questions)}\r")
        terminal.rest(0.05)
        took += typed(terminal, lambda at=at: answered(terminal, at))
        terminal.rest(0.2)
    return took


def teach(home: Path, terminal: Terminal, questions: Iterator[str]) -> None:
    """Some rows to train on: labels of a trusted person."""
    environment = os.environ | {"RETUNE_HOME": str(home)}
    for _ in range(2):
        answer(terminal, next(questions))
    with closing(Store(Settings.load(home=home).database_url)) as store:
        store.open()
        for row in store.sessions():
            if row["domain"] == "customer_service" and row["turns"] and (turn := store.last_turn(row["id"])) and turn["intent"]:
                store.feedback(turn["id"], getpass.getuser(), "intent", turn["intent"])
    subprocess.run([sys.executable, "-m", "agent.surfaces.cli", "review", "customer_service", "--trust", getpass.getuser(),
                    "--json"], env=environment, check=True, capture_output=True)


def milliseconds(took: Sequence[float]) -> dict[str, float]:
    """What a person feels of so many keys."""
    ms = sorted(1000 * each for each in took)
    at = statistics.quantiles(ms, n=100, method="inclusive")
    return {"n": len(ms), "p50": round(at[49], 1), "p95": round(at[94], 1), "p99": round(at[98], 1), "most": round(ms[-1], 1)}


def spread(took: Sequence[float]) -> dict[str, float]:
    """Of a few runs."""
    return {"median": round(statistics.median(took), 2), "least": round(min(took), 2), "most": round(max(took), 2)}


def say(line: str) -> None:
    """To whoever waits."""
    print(line, file=sys.stderr, flush=True)


PARTS = {each.__name__: each for each in (start, answering, retraining, scroll, memory)}


def arguments() -> argparse.Namespace:
    """What is measured and how often."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--keys", type=int, default=300, help="in each condition")
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--home", type=Path, default=paths.default_home(), help="whose models and index are borrowed")
    parser.add_argument("--out", type=Path, help="a table to add to")
    return parser.parse_args()



if __name__ == "__main__":
    main()
