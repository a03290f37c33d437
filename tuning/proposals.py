"""New intents from what was out of scope: turns that belong together, a name for them, and the way into the domain's files.

Proposes; a person decides and writes the reply. Knows no store query beyond the turns that nobody answered.
"""

import json
import os
import re
import shutil
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from agent.domain import Domain, plain
from agent.errors import DataError, DomainError
from agent.private import MARK
from agent.retrieve import words
from agent.schema import feedback, turns
from agent.store import Store
from tuning.groups import router_rows
from tuning.quarantine import Embed
from tuning.rows import OOS, Row
from tuning.sieve import evaluated

MOST = 4000
"""Turns that are compared at once, the newest: their distances fill MOST x MOST numbers."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """Turns that may be one intent."""

    name: str
    """From their commonest telling words, such as `parking_bicycle`."""
    examples: tuple[str, ...]
    """Different wordings, the most typical first."""
    turns: tuple[str, ...]
    """Ids, one for each time that it was asked."""
    sessions: int
    cohesion: float
    """Mean cosine to their middle, 0 to 1."""


def outside(store: Store, domain: Domain) -> list[dict[str, Any]]:
    """Turns that no intent fits, newest first: {"id", "session", "question"}; the router's word or a person's."""
    labelled = sa.select(feedback.c.turn).where(feedback.c.kind == "none_of_these")
    relabelled = sa.select(feedback.c.turn).where(feedback.c.kind == "intent")
    refused = turns.c.intent.is_(None) & (turns.c.state == "refused") & turns.c.id.not_in(relabelled)
    fine = (turns.c.domain == domain.name) & turns.c.error.is_(None)
    query = sa.select(turns.c.id, turns.c.session, turns.c.question, turns.c.flags).where(
        fine & (refused | turns.c.id.in_(labelled))).order_by(turns.c.created.desc(), turns.c.id)
    with store.reading() as at:
        found = at.execute(query).mappings().all()
    return [{name: each[name] for name in ("id", "session", "question")} for each in found
            if not any(flag.startswith(("red_flag:", "unreadable", "error")) for flag in each["flags"])]


def propose(turns: Sequence[Mapping[str, Any]], embed: Embed, *, least: int = 5, sessions: int = 2, apart: float = 0.45,
            taken: Sequence[str] = ()) -> list[Proposal]:
    """Clusters of at least `least` turns of at least `sessions` sessions, the largest first.

    `turns` as `outside` gives them. Average linkage on cosine distance, cut at `apart` (Sokal & Michener, 1958): it needs no
    number of clusters and leaves what is alone alone. `taken`: names that cannot be given again.
    """
    from sklearn.cluster import AgglomerativeClustering

    turns = [turn for turn in turns[:MOST] if plain(turn["question"])]
    if len(turns) < max(2, least):
        return []
    vectors = embed([turn["question"] for turn in turns])
    labels = AgglomerativeClustering(None, metric="cosine", linkage="average", distance_threshold=apart).fit_predict(vectors)
    clusters: dict[int, list[int]] = defaultdict(list)
    for i, label in enumerate(labels):
        clusters[label].append(i)
    found = [each for each in clusters.values()
             if len(each) >= least and len({turns[i]["session"] for i in each}) >= sessions]
    often = Counter(stem for turn in turns for stem in _stems(turn["question"]))
    made: list[Proposal] = []
    for each in sorted(found, key=len, reverse=True):
        middle = vectors[each].mean(0)
        typical = vectors[each] @ (middle / max(float(np.linalg.norm(middle)), 1e-12))
        ordered = [turns[each[i]] for i in np.argsort(-typical, kind="stable")]
        name = _name([turn["question"] for turn in ordered], often, {*taken, OOS, *(one.name for one in made)})
        wordings: dict[str, str] = {}
        for turn in ordered:
            wordings.setdefault(plain(turn["question"]), turn["question"])
        made.append(Proposal(name, tuple(wordings.values()), tuple(turn["id"] for turn in ordered),
                             len({turn["session"] for turn in ordered}), round(float(typical.mean()), 3)))
    return made


def _stems(text: str) -> dict[str, str]:
    """Stem -> the word as it is written, of the words that carry the meaning."""
    return {words(word)[0]: word for word in re.findall(r"[a-z]{2,}", MARK.sub(" ", text).lower()) if words(word)}


def _name(texts: Sequence[str], often: Counter[str], taken: set[str]) -> str:
    """The two words that most of the texts share and that others seldom use, in the order in which they are said."""
    here = Counter(stem for text in texts for stem in _stems(text))
    forms = Counter((stem, word) for text in texts for stem, word in _stems(text).items())
    best = sorted(here, key=lambda stem: (-here[stem] ** 2 / often[stem], stem))[:2]
    said = next((_stems(text) for text in texts if set(best) <= set(_stems(text))), dict.fromkeys(best))
    name = "_".join(max((forms[form], form[1]) for form in forms if form[0] == stem)[1] for stem in said if stem in best)
    name = name or "new_intent"
    return next(free for free in chain([name], (f"{name}_{number}" for number in count(2))) if free not in taken)


def add_intent(domain: Domain, proposal: Proposal, name: str, reply: str, answer: str = "fixed") -> None:
    """Write the proposal's wordings to intents.jsonl and its entry to domain.toml; both, or neither.

    `answer`: fixed or handoff, with `reply` as the words to say. Wordings that stand in the evaluation set or in the
    domain's rows stay out. The domain is loaded with both before either is touched; DataError or DomainError says what to do.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or name in (*domain.intents, OOS):
        raise DataError(f"{name!r} cannot name a new intent; take lower-case letters, digits and _, and none that is taken: "
                        f"{', '.join([*sorted(domain.intents), OOS])}.")
    if answer not in ("fixed", "handoff") or not reply.strip():
        raise DataError("A new intent needs the words to say, and answers with fixed or handoff; give a reply.")
    rows = [Row("router", "seed", text, intent=name) for text in proposal.examples]
    known = {plain(row.text) for row in router_rows(domain)}
    rows = [row for row in evaluated(rows, domain, 13)[0] if plain(row.question) not in known]
    if not rows:
        raise DataError(f"All wordings of {name} stand in the domain's own rows or in its evaluation set; write new ones.")
    entry = {"about": name.replace("_", " "), "answer": answer, "reply": " ".join(reply.split())}
    pairs = (f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in entry.items())
    table = "\n".join([f"[intents.{name}]", *pairs])
    lines = "\n".join(json.dumps({"text": row.question, "intent": name}, ensure_ascii=False) for row in rows)
    new = {file: _after(domain.folder / file, said) for file, said in (("domain.toml", f"\n{table}"), ("intents.jsonl", lines))}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / domain.folder.name
        shutil.copytree(domain.folder, copy, ignore=shutil.ignore_patterns("models"))
        for file, text in new.items():
            (copy / file).write_text(text, encoding="utf-8", newline="")
        try:
            Domain.load(copy)
        except DomainError as error:
            raise DomainError(str(error).replace(str(copy), str(domain.folder)) + " Nothing was changed.") from error
    _replace(domain.folder, new)


def _after(file: Path, lines: str) -> str:
    """The file's text, comments and all, with more lines at its end."""
    with file.open(encoding="utf-8", newline="") as stream:
        text = stream.read()
    return text + ("" if text.endswith("\n") or not text else "\n") + lines + "\n"


def _replace(folder: Path, new: Mapping[str, str]) -> None:
    """Put the new texts in place; what was replaced comes back if a later one cannot be written."""
    old = {file: (folder / file).read_bytes() for file in new}
    done: list[str] = []
    try:
        for file, text in new.items():
            _write(folder / file, text.encode())
            done.append(file)
    except OSError as error:
        for file in done:
            _write(folder / file, old[file])
        raise DataError(f"{folder} cannot be written ({error.strerror}); make room or get permission. "
                        "Nothing was changed.") from error


def _write(file: Path, data: bytes) -> None:
    scratch = file.with_name(f".{file.name}.new")
    try:
        with scratch.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(scratch, file)
    finally:
        scratch.unlink(missing_ok=True)
