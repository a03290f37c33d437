"""What a bundle learned, row by row: a file beside its parts, and the way back from it to turns and people.

The file names rows and turns, and authors by the sha256 of their names (as the table `forgotten` does), never what was said:
a bundle cannot be changed, so what has to be deleted one day does not get into it. Words and names stay in the store.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from agent.domain import Domain
from agent.errors import BundleError
from agent.registry import Bundle, Registry
from agent.schema import authors, feedback, forgotten, reviews, sessions, turns
from agent.settings import Settings
from agent.signs import harmless
from agent.store import Store
from agent.teaching import forgotten_key
from tuning.rows import Row

FILE = "lineage.jsonl"
PARTS = ("router", "generator")
MOST = 40  # lines that the terminal shows
Line = dict[str, Any]
"""{"row": Row.id, "part", "signal", "turn", "author": sha256 of the name, empty for somebody without one, "weight"}."""


def write(folder: Path, rows: Iterable[Row]) -> None:
    """One line for each row that was learned from people; the domain's own rows are known by the manifest's data hash."""
    lines = [{"row": row.id, "part": row.part, "signal": row.signal, "turn": row.turn,
              "author": row.author and forgotten_key(row.author), "weight": row.weight} for row in rows if row.signal != "seed"]
    (folder / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def read(bundle: Bundle) -> list[Line]:
    """The lines that `write` left in the bundle; none where it learned from its domain's files alone.

    Raises BundleError where a line cannot be read.
    """
    file = bundle.path / FILE
    if not file.is_file():
        return []
    try:
        lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [{name: line[name] for name in ("row", "part", "signal", "turn", "author", "weight")} for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{bundle.name}: {file} is damaged, so nobody can tell what it learned; restore it, or choose "
                          f"another version of `retune versions {bundle.domain}`.") from error


def taught(bundles: Sequence[Bundle], bundle: Bundle) -> list[Line]:
    """The lines behind what `bundle` serves; `bundles` are its domain's, oldest first.

    A part that was taken over unchanged learned what it did in the bundle that first had it, and nothing here; one that
    went on from its parent's learned what that had, too.
    """
    return [line for part in PARTS for line in _behind(bundles, bundle, part)]


def _behind(bundles: Sequence[Bundle], bundle: Bundle, part: str) -> list[Line]:
    own = _files(bundle, part)
    first = next((each for each in bundles if own and each.version < bundle.version and _files(each, part) == own), bundle)
    found = [line for line in read(first) if line["part"] == part]
    parent = next((each for each in bundles if each.name == first.manifest.get("parent")), None)
    if parent and part in first.manifest.get("goes_on", ()):
        rows = {line["row"] for line in found}
        found += [line for line in _behind(bundles, parent, part) if line["row"] not in rows]
    return found


def learned_from(registry: Registry, author: str, turns: Collection[str] = ()) -> list[Bundle]:
    """Bundles that serve something that the author taught, or that was taught on one of these `turns`; oldest first."""
    return [bundle for bundle, _ in learners(registry.versions(), author, turns)]


def learners(bundles: Sequence[Bundle], author: str, turns: Collection[str] = ()) -> list[tuple[Bundle, int]]:
    """(bundle, its rows that the author taught or that were taught on one of these `turns`), where there are any."""
    key, own = forgotten_key(author), set(turns)
    counted = [(each, sum(line["author"] == key or line["turn"] in own for line in taught(bundles, each))) for each in bundles]
    return [(bundle, count) for bundle, count in counted if count]


def to_unlearn(bundles: Sequence[Bundle], bundle: Bundle, store: Store) -> set[str]:
    """Parts of the bundle that learned from a turn or a person that the store was told to forget."""
    lines = taught(bundles, bundle)
    gone, there = _forgotten(store), _questions(store, [line["turn"] for line in lines])
    return {line["part"] for line in lines if line["author"] in gone or line["turn"] not in there}


def trace(domain: Domain, settings: Settings, store: Store, version: str) -> dict[str, Any]:
    """{"bundle", "made", "recipe", "verdict", "rows", "signals", "authors", "lines", "parents"} of a version.

    `lines` are those of `taught` with the author's name and the turn's question, None where the store no longer has it;
    `authors` counts rows by name and signal; `parents` goes up to the starter. BundleError for a version that is not there.
    """
    registry = Registry(domain, settings.home)
    bundle, bundles = registry.get(version), registry.versions()
    lines, names = taught(bundles, bundle), _names(store)
    questions = _questions(store, [line["turn"] for line in lines])
    for line in lines:
        line |= {"author": names.get(line["author"], "(unknown)"), "question": questions.get(line["turn"])}
    by_author: dict[str, Counter[str]] = {}
    for line in lines:
        by_author.setdefault(line["author"], Counter())[line["signal"]] += 1
    table = _about(bundle) | {"rows": dict(Counter(line["part"] for line in lines)),
                              "signals": dict(Counter(line["signal"] for line in lines)),
                              "authors": {name: dict(count) for name, count in sorted(by_author.items())}, "lines": lines}
    return table | {"parents": [_about(each) for each in _ancestors(bundles, bundle)]}


def words(table: dict[str, Any]) -> list[str]:
    """What `trace` found as lines for the terminal."""
    counted = ", ".join(f"{count} for the {part}" for part, count in table["rows"].items())
    said = [_title(table), f"It learned {counted or 'nothing from people: its domain has rows of its own'}."]
    for name, count in table["authors"].items():
        said.append(f"  {name or '(no name)'}: " + ", ".join(f"{number} {signal}" for signal, number in count.items()))
    for line in table["lines"][:MOST]:
        said.append(harmless(f"  {line['turn']}  {line['signal']:<13} {line['author'] or '(no name)'}: "
                             f"{line['question'] or '(deleted)'}"))
    if (more := len(table["lines"]) - MOST) > 0:
        said.append(f"  ... and {more} more; --json lists them all.")
    return [*said, *(f"after {_title(each)}" for each in table["parents"])]


def _title(table: dict[str, Any]) -> str:
    verdict = f", {table['verdict']}" if table["verdict"] else ""
    return f"{table['bundle']}, made {table['made']} by the recipe {table['recipe']}{verdict}"


def _about(bundle: Bundle) -> dict[str, Any]:
    verdict = bundle.manifest.get("verdict")
    return {"bundle": bundle.name, "made": bundle.manifest.get("made"), "recipe": bundle.manifest.get("recipe"),
            "verdict": verdict.get("decision") if isinstance(verdict, dict) else None}


def _ancestors(bundles: Sequence[Bundle], bundle: Bundle) -> list[Bundle]:
    """Parent, its parent and so on, as far as they are still there."""
    known, found = {each.name: each for each in bundles}, []
    while (parent := known.get(bundle.manifest.get("parent") or "")) and parent.version < bundle.version:
        found.append(parent)
        bundle = parent
    return found


def _files(bundle: Bundle, part: str) -> dict[str, str]:
    return {file: digest for file, digest in bundle.manifest["files"].items() if file.startswith(f"{part}/")}


def _questions(store: Store, ids: Iterable[str | None]) -> dict[str | None, str]:
    """Turn -> its question, of those that the store has."""
    wanted, found = sorted({id for id in ids if id}), {}
    with store.reading() as at:
        for begin in range(0, len(wanted), 500):
            which = turns.c.id.in_(wanted[begin:begin + 500])
            found |= {each.id: each.question for each in at.execute(sa.select(turns.c.id, turns.c.question).where(which))}
    return found


def _names(store: Store) -> dict[str, str]:
    """sha256 -> name, of everybody whom the store knows; those who were forgotten have none left."""
    columns = (sessions.c.author, feedback.c.author, authors.c.name, reviews.c.reviewer)
    with store.reading() as at:
        known = {name for column in columns for name in at.execute(sa.select(column).distinct()).scalars()}
    return dict.fromkeys(_forgotten(store), "(forgotten)") | {forgotten_key(name): name for name in known} | {"": ""}


def _forgotten(store: Store) -> set[str]:
    with store.reading() as at:
        return set(at.execute(sa.select(forgotten.c.key)).scalars())
