"""A person is forgotten: turns, feedback, reviews and files go, and every bundle that learned from them is named.

Bundles are immutable and keep what they learned; the next dataset has none of it, and an old export brings none of it back.
Knows the store's rows and the registries; what is left in files is `tuning.leftovers`' business.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from filelock import FileLock, Timeout

from agent import aliases, paths, toolbox
from agent.connections import insert
from agent.domain import Domain, numbered_rows
from agent.errors import BundleError, DataError
from agent.registry import MANIFEST, Bundle, Registry
from agent.schema import authors, feedback, forgotten, handoffs, reviews, sessions, signals, turns
from agent.settings import Settings
from agent.store import Store
from agent.teaching import ASKED, forgotten_key
from tuning import leftovers, lineage
from tuning.harvest import harvest

_NAMES = (sessions.c.author, feedback.c.author, authors.c.name, reviews.c.reviewer, handoffs.c.author, handoffs.c.by)


@dataclass(frozen=True, slots=True)
class Person:
    """What is a person's in the store."""

    name: str
    domains: frozenset[str]
    """Where they wrote or gave feedback."""
    sessions: frozenset[str]
    questions: dict[str, str]
    """Turn -> what they asked."""
    tools: dict[str, int]
    """Tools that answered them, and how often."""
    reviewed: frozenset[str]
    """Ids of rows that come from them and were reviewed."""

    def owns(self, row: dict[str, Any]) -> bool:
        """Whether a row of an export or a log is theirs, or about a turn of theirs."""
        return row.get("author") == self.name or row.get("turn") in self.questions or row.get("session") in self.sessions


def forget(author: str, domains: Sequence[Domain], settings: Settings, store: Store, dry_run: bool = False) -> dict[str, Any]:
    """Delete what the author wrote and taught, and say what went and what is left; again is nothing more.

    {"deleted": rows by table, "files": file -> rows that went, "trainings": unfinished ones that were given up, "bundles":
    every version that learned from them, here and in other domains of the home, "unreadable": sentences, "tools": calls that
    changed something, "same_words": file:line of equal rows of the domains, "wiped": as `leftovers.wipe`, "next": sentences}.
    DataError, and nothing has changed, for an author who is not there, while a domain is being retrained, or if the person
    wrote in a domain that is not among `domains`.
    """
    with _no_retraining(domains, settings):
        person = _person(author, domains, store)
        bundles, unreadable = _learners(person, domains, settings)
        table = {"author": author, "dry_run": dry_run, "bundles": bundles, "unreadable": unreadable,
                 "tools": _changed(person, domains), "same_words": _same_words(person, domains), "wiped": None}
        with store.reading() if dry_run else store.writing() as at:
            table["deleted"] = _delete(at, person, dry_run)
            # before the rows are gone for good, so that a killed run finds all of them again
            table["files"] = leftovers.clean_files(settings.home, person.owns, dry_run)
            table["trainings"] = leftovers.drop_trainings(settings.home, person.domains, dry_run)
        if not dry_run:
            table["wiped"] = leftovers.wipe(store)
    return table | {"next": _next(table, settings)}


def words(table: dict[str, Any]) -> list[str]:
    """The report as lines for the terminal."""
    gone = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in table["deleted"].items() if count)
    said = [f"{'Would be deleted' if table['dry_run'] else 'Deleted'}: {gone or 'nothing in the database'}."]
    said += [f"  {count} rows of {file}" for file, count in table["files"].items()]
    said += [f"  the unfinished training {name}" for name in table["trainings"]]
    for each in table["bundles"]:
        alias = f" ({', '.join(each['alias'])})" if each["alias"] else ""
        said.append(f"{each['bundle']}{alias} learned {each['rows']} rows from {table['author']}.")
    return said + table["next"]


def _person(author: str, domains: Sequence[Domain], store: Store) -> Person:
    if not author:
        raise DataError("People without a name cannot be told apart; name an author.")
    own = sa.select(sessions.c.id).where(sessions.c.author == author)
    spoke = sa.select(turns.c.domain).join(feedback, feedback.c.turn == turns.c.id).where(feedback.c.author == author)
    with store.reading() as at:
        wrote = at.execute(sa.select(sessions.c.id, sessions.c.domain).where(sessions.c.author == author)).all()
        asked = at.execute(sa.select(turns.c.id, turns.c.question, turns.c.tool, turns.c.tool_result)
                           .where(turns.c.session.in_(own))).all()
        places = {each.domain for each in wrote} | set(at.execute(spoke.distinct()).scalars())
        if not (places or _known(at, author)):
            raise DataError(_unknown(at, author))
        decided = at.execute(sa.select(reviews.c.row, reviews.c.domain, reviews.c.decision)).all()
    if missing := sorted(places - {domain.name for domain in domains}):
        raise DataError(f"{author!r} wrote in the domain {missing[0]!r}, whose folder is not known here, so nothing was "
                        "deleted; name the folder with --domain.")
    questions = {each.id: each.question for each in asked}
    theirs, others = set(), set()
    for domain in (each for each in domains if each.name in places):
        rows, dropped = harvest(store, domain)
        for row in (*rows, *(each.row for each in dropped)):
            (theirs if row.author == author or row.turn in questions else others).add(row.id)
    # an edit whose row has changed since decides nothing any more, and nobody can tell whose words it holds
    lost = {each.row for each in decided if each.decision == "edit" and each.domain in places and each.row not in others}
    return Person(author, frozenset(places), frozenset(each.id for each in wrote), questions,
                  dict(Counter(each.tool for each in asked if each.tool_result)),
                  frozenset(each.row for each in decided if each.row in theirs) | lost)


def _known(at: sa.Connection, author: str) -> bool:
    """Whether anything else is theirs, or they were forgotten before and something may be left to finish."""
    marks = {reviews.c.reviewer: author, authors.c.name: author, forgotten.c.key: forgotten_key(author),
             handoffs.c.author: author, handoffs.c.by: author}
    return any(at.execute(sa.select(column).where(column == value).limit(1)).first() for column, value in marks.items())


def _unknown(at: sa.Connection, author: str) -> str:
    names = {name for column in _NAMES for name in at.execute(sa.select(column).distinct()).scalars() if name}
    folded = {name.casefold(): name for name in sorted(names)}
    like = [repr(folded[name]) for name in get_close_matches(author.casefold(), folded, n=3, cutoff=0.5)]
    remedy = f"did you mean {' or '.join(like)}?" if like else "`retune feedback list DOMAIN` shows how authors are spelled."
    return f"Nobody here is called {author!r}; {remedy}"


def _delete(at: sa.Connection, person: Person, dry_run: bool) -> dict[str, int]:
    """Rows by table; with `dry_run` only counted."""
    own = sa.select(sessions.c.id).where(sessions.c.author == person.name)
    asked = sa.select(turns.c.id).where(turns.c.session.in_(own))
    which = {  # what hangs on turns and sessions first, so that it is counted as what it is
        "feedback": (feedback, (feedback.c.author == person.name) | feedback.c.turn.in_(asked)),
        "signals": (signals, signals.c.turn.in_(asked)), "handoffs": (handoffs, handoffs.c.turn.in_(asked)),
        "turns": (turns, turns.c.session.in_(own)), "sessions": (sessions, sessions.c.author == person.name),
        "reviews": (reviews, reviews.c.row.in_(person.reviewed)), "authors": (authors, authors.c.name == person.name),
    }
    signed = reviews.c.reviewer == person.name
    wished, took = handoffs.c.author == person.name, handoffs.c.by == person.name
    counted = which | {"names_of_reviewers": (reviews, signed & reviews.c.row.not_in(person.reviewed)),
                       "names_on_handoffs": (handoffs, (wished | took) & handoffs.c.turn.not_in(asked))}
    counts = {name: at.execute(sa.select(sa.func.count()).select_from(table).where(rows)).scalar_one()
              for name, (table, rows) in counted.items()}
    if dry_run:
        return counts
    # what hangs on these follows them, in the order in which whoever writes turns and feedback takes them
    at.execute(own.order_by(sessions.c.id).with_for_update())
    at.execute(asked.order_by(turns.c.id).with_for_update())
    if at.dialect.name == "sqlite":
        at.exec_driver_sql("PRAGMA secure_delete=ON")  # in case the disk has no room to write the file anew
    for table, rows in which.values():
        at.execute(table.delete().where(rows))
    at.execute(reviews.update().where(signed).values(reviewer=""))  # what they decided about others' rows still holds
    at.execute(handoffs.update().where(wished).values(author="", reason=ASKED))  # the reason is their words
    waits = sa.case((handoffs.c.status == "taken", "waiting"), else_=handoffs.c.status)
    at.execute(handoffs.update().where(took).values(by="", status=waits))
    mark = {"key": forgotten_key(person.name), "created": datetime.now(UTC).isoformat(timespec="microseconds")}
    at.execute(insert(at, forgotten).values(mark).on_conflict_do_nothing())
    return counts


def _learners(person: Person, domains: Sequence[Domain], settings: Settings) -> tuple[list[dict[str, Any]], list[str]]:
    """({"bundle", "domain", "rows", "alias", "instead"} by domain and version, sentences about what cannot be read)."""
    found, unreadable = [], []
    known = {domain.name: Registry(domain, settings.home) for domain in domains}
    folders = {folder.name for folder in paths.registry(settings.home).glob("*") if folder.is_dir()}
    for name in sorted(folders | set(known)):
        try:
            bundles, alias = _registered(known[name]) if name in known else _stranger(name, settings.home)
            own = lineage.learners(bundles, person.name, person.questions)
        except BundleError as error:
            unreadable.append(str(error))
            continue
        taught = {bundle.version for bundle, _ in own}
        clean = [each.name for each in bundles if each.version not in taught and _fit(each)]
        found += [{"bundle": bundle.name, "domain": name, "rows": count, "instead": clean[-1] if clean else None,
                   "alias": [each for each, number in alias.items() if number == bundle.version]} for bundle, count in own]
    return found, unreadable


def _registered(registry: Registry) -> tuple[list[Bundle], dict[str, int]]:
    canary = registry.canary()
    return registry.versions(), registry.aliases() | ({"canary": canary.version} if canary else {})


def _stranger(name: str, home: Path) -> tuple[list[Bundle], dict[str, int]]:
    """The same of a domain whose folder is not here."""
    folder = paths.registry(home) / name
    numbered = sorted((int(each.name), each) for each in folder.glob("[0-9]*") if each.name.isdigit())
    return ([Bundle.read(name, number, each) for number, each in numbered if (each / MANIFEST).is_file()],
            aliases.read(folder / "aliases.json").names)


def _fit(bundle: Bundle) -> bool:
    """Whether `retune promote` takes it without being forced."""
    verdict = bundle.manifest.get("verdict")
    return bundle.version == 1 or (isinstance(verdict, dict) and verdict.get("decision") == "promote")


def _changed(person: Person, domains: Sequence[Domain]) -> dict[str, int]:
    """Of the tools that answered the person, those that change something."""
    intents = [intent for domain in domains for intent in domain.intents.values() if intent.tool in person.tools]
    return {intent.tool: person.tools[intent.tool] for intent in intents if toolbox.changes(intent)}


def _same_words(person: Person, domains: Sequence[Domain]) -> list[str]:
    files = [domain.folder / name for domain in domains for name in ("intents.jsonl", "oos.jsonl")]
    asked = set(person.questions.values())
    return [f"{file}:{line}" for file in files for line, row in numbered_rows(file) if row.get("text") in asked]


@contextmanager
def _no_retraining(domains: Sequence[Domain], settings: Settings) -> Iterator[None]:
    """No retraining runs and none begins: it would publish what it read before."""
    folder = paths.training(settings.home)
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for name in sorted({domain.name for domain in domains}):
            try:
                stack.enter_context(FileLock(folder / f"{name}.lock", timeout=0))
            except Timeout as error:
                raise DataError(f"{name} is being retrained just now, so nothing was deleted; wait for it or stop it, then "
                                "forget again.") from error
        yield


def _next(table: dict[str, Any], settings: Settings) -> list[str]:
    """What is left for a person to do, in sentences."""
    said, author = [], table["author"]
    for each in table["bundles"]:
        if "champion" in each["alias"]:
            back = f"; until then `retune promote {each['domain']} {each['instead']}` goes back to one that never did"
            said.append(f"{each['bundle']} is the champion and learned from {author}: `retune retrain {each['domain']}` makes "
                        f"one without them{back if each['instead'] else ''}.")
    if rest := [each["bundle"] for each in table["bundles"] if "champion" not in each["alias"]]:
        said.append(f"Do not go back to {', '.join(rest)}, which learned from {author} too.")
    said += [f"Whether a bundle learned from {author} cannot be told: {sentence}" for sentence in table["unreadable"]]
    if table["wiped"] is False:
        said.append("Another program was reading the database, so its journal may hold deleted words; forget once more later.")
    if table["tools"]:
        said.append(f"What their turns changed through {', '.join(table['tools'])} stays in {settings.home / 'tools'}: those "
                    "are the business's records.")
    if table["same_words"]:
        said.append(f"The domain's own rows hold the same words in {', '.join(table['same_words'])}; take out what is theirs.")
    return [*said, "Backups, exports outside of the home and the audit of promotions are not touched."]
