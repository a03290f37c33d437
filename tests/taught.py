"""A small library's domain, a store of its own, and turns with what people said about them: shared by the tests of learning."""

import hashlib
import itertools
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from agent import paths, prompt
from agent.domain import Domain
from agent.schema import feedback
from agent.store import Store
from agent.types import Route, Turn

FACT = "Borrowing, How many: You can borrow up to 12 books at a time, for 3 weeks."
ASKED = "How long may I keep a novel?"
START = datetime(2026, 3, 1, tzinfo=UTC)
_numbers = itertools.count(1)


def library(folder: Path, intents: Sequence[tuple[str, str]] = (), evaluation: Sequence[dict[str, Any]] = (),
            toml: str = "") -> Domain:
    """The template domain in `folder` with more rows {"text", "intent"}, evaluation questions and lines of domain.toml."""
    shutil.copytree(paths.DOMAINS / "_template", folder)
    with (folder / "intents.jsonl").open("a", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"text": text, "intent": intent}) + "\n" for text, intent in intents)
    (folder / "eval").mkdir(exist_ok=True)
    with (folder / "eval" / "conversations.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row) + "\n" for row in evaluation)
    with (folder / "domain.toml").open("a", encoding="utf-8") as stream:
        stream.write(toml)
    return Domain.load(folder)


def opened(folder: Path) -> Store:
    """An empty store."""
    store = Store(f"sqlite:///{folder / 'store.db'}")
    store.open()
    return store


def say(store: Store, domain: Domain, question: str = ASKED, reply: str = "For 3 weeks.", *, prompted: bool = True,
        facts: Sequence[str] = (FACT,), history: Sequence[str] = (), session: str | None = None, error: str | None = None,
        confidence: float = 0.9, **changes: Any) -> str:
    """Log a turn, answered from `facts` unless it is not `prompted`, and give its id."""
    id = f"t{next(_numbers)}"
    intent = changes.get("intent", "borrowing")
    route = Route(intent, confidence, ((intent, confidence),) if intent else (), 1 - confidence)
    turn = Turn(id, session or f"s-{id}", domain.name, f"{domain.name}@0001", question, question, reply=reply,
                **{"route": route, "intent": intent, "state": "answered"} | changes)
    messages = prompt.render(domain, facts, history, question) if prompted else None
    store.log(turn, {}, messages, error=error)
    return id


def tell(store: Store, turn: str, kind: str, value: str | None = None, author: str = "ann", after: float = 0) -> None:
    """Feedback on a turn, `after` hours after START."""
    created = (START + timedelta(hours=after)).isoformat(timespec="microseconds")
    with store.writing() as at:
        at.execute(feedback.insert().values(turn=turn, author=author, kind=kind, value=value, created=created))


def bag(texts: Sequence[str]) -> np.ndarray:
    """Unit vectors of hashed words, [n, 256]: an encoder that is small, real and always the same."""
    out = np.zeros((len(texts), 256), dtype=np.float32)
    for line, text in enumerate(texts):
        for word in text.lower().split():
            out[line, int(hashlib.sha256(word.encode()).hexdigest(), 16) % 256] += 1
    return out / np.maximum(np.linalg.norm(out, axis=1, keepdims=True), 1e-12)
