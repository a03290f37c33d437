"""One retraining, read downwards: gather rows, tune, compare, judge, publish, promote.

It touches what serves only in its last line, and only while its right to do so (the fence) still holds. Everything before
can be killed at any point: what was finished lies in a folder named by the rows, the recipe and the champion, and the same
call goes on from there. The same rows, recipe and champion are judged once; asking again gives the same answer.
"""

import errno
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from filelock import FileLock, Timeout

from agent import paths
from agent.domain import Domain
from agent.encoder import Encoder
from agent.errors import DataError, StoreError
from agent.registry import Bundle, Registry
from agent.serving import Bases
from agent.settings import Settings
from agent.store import Store
from tuning import dataset, gate, lineage, page
from tuning.dataset import Dataset
from tuning.recipe import Recipe
from tuning.runs import Outcome
from tuning.steps import Note, TrainStep
from tuning.workshop import Workshop, sweep

Fence = Callable[[], AbstractContextManager[Any]]
"""Gives a `with` that raises unless this run may still promote, and holds others off until it is left."""
AHEAD_S = 6.0
STATUS = {"promote": "promoted", "refuse": "refused", "abstain": "abstained"}


def retrain(domain: Domain, settings: Settings, recipe: Recipe, bases: Bases, store: Store, *, by: str = "retune retrain",
            limit: int = 0, rule: gate.Rule | None = None, fence: Fence = nullcontext, ahead_s: float = AHEAD_S,
            challenge: Callable[[Registry, Bundle], None] | None = None) -> Iterator[TrainStep | Note | Outcome]:
    """Yields steps and notes, then one Outcome.

    limit: held-out questions at most; ahead_s: how long running agents get to load a better bundle ahead; challenge: what is
    done with a better bundle in place of promoting it, such as giving it a share of the sessions first.
    Raises DataError for rows that cannot be trained on, StoreError if the disk is full; the champion stays as it was.
    """
    registry = Registry(domain, settings.home)
    champion = registry.get("champion")
    with _alone(domain, settings), _enough_disk(domain):
        rows = gather(domain, store, bases, settings)
        yield Note(describe(rows))
        unlearn = lineage.to_unlearn(registry.versions(), champion, store)
        if unlearn:
            yield Note(f"{champion.name} learned from turns that were forgotten: its {' and '.join(sorted(unlearn))} "
                       "will be tuned anew, from the base.")
        taught = rows.router or rows.generator or rows.down
        if not unlearn and (not taught or champion.manifest.get("learned") == rows.hash):
            sweep(domain, settings)
            yield Outcome("nothing", f"There is nothing new to learn from. {describe(rows)}", None, {"rows": rows.summary()})
            return
        shop = Workshop(domain, settings, recipe, bases, rows, champion, unlearn)
        bundle = shop.judged(registry)
        if bundle is None:
            yield from shop.tune()
            yield from shop.compare(limit)
            verdict = gate.decide(shop.compared.pairs, rule or gate.Rule(), shop.compared.targets)
            page.write_report(shop.bundle, shop.report(verdict))
            bundle = registry.publish(shop.bundle, shop.manifest(verdict), by=by)
        said = bundle.manifest["verdict"]
        if said["decision"] == "promote" and _was_promoted(registry, bundle):
            words = (f"{bundle.name} was made of these very rows, promoted, and taken back; give more feedback, or bring it "
                     f"back with `retune promote {domain.name} {bundle.version}`.")
            shop.clear()
            yield Outcome("nothing", words, bundle.name, _report(bundle))
            return
        if said["decision"] == "promote":
            registry.set_challenger(bundle.version, "about to be promoted", by)  # what follows the registry loads it ahead
            time.sleep(ahead_s)
            with fence():
                (challenge or _promote(champion, said["why"], by))(registry, bundle)
        shop.clear()
    yield Outcome(STATUS[said["decision"]], said["why"], bundle.name, _report(bundle))


def gather(domain: Domain, store: Store, bases: Bases, settings: Settings) -> Dataset:
    """The rows that feedback gives today, each label held against its neighbours; newer than the champion weigh more."""
    champion = Registry(domain, settings.home).get("champion")
    plain = Encoder(bases.encoder, None, settings.cores)
    return dataset.build(domain, store, encoder=plain.embed, champion=champion)


def describe(rows: Dataset) -> str:
    """Counts of rows for a person, in a line or two."""
    counts = rows.summary()
    parts = [f"{len(rows.router)} rows for the router, {len(rows.generator)} for the generator, "
             f"{len(rows.down)} disliked answers"]
    for what in ("waiting", "dropped"):
        if (total := counts[what]["rows"]):
            reasons = ", ".join(f"{reason} {count}" for reason, count in counts[what].items() if reason != "rows")
            remedy = f"; `retune review {rows.domain}` shows them" if what == "waiting" else ""
            parts.append(f"{total} {'wait for review' if what == 'waiting' else 'left out'} ({reasons}{remedy})")
    return "; ".join(parts) + "."


def _report(bundle: Bundle) -> dict[str, Any]:
    file = bundle.path / "report.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _promote(champion: Bundle, why: str, by: str) -> Callable[[Registry, Bundle], None]:
    return lambda registry, bundle: registry.promote(bundle.version, champion.version, why, by) and None


def _was_promoted(registry: Registry, bundle: Bundle) -> bool:
    """Whether this version ever took over; what was taken back stays taken back."""
    return any(isinstance(row.get("detail"), dict) and row["detail"].get("to", {}).get("champion") == bundle.version
               for row in registry.audit())


def _alone(domain: Domain, settings: Settings) -> AbstractContextManager[Any]:
    """One retraining of a domain at a time on this home."""
    folder = paths.training(settings.home)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{domain.name}.lock", timeout=0)
    try:
        return lock.acquire()
    except Timeout as error:
        raise DataError(f"{domain.name} is being retrained by another process; wait for it or stop it.") from error


@contextmanager
def _enough_disk(domain: Domain) -> Iterator[None]:
    """A full disk becomes a StoreError with a remedy, wherever on the way it is met; what was finished lies there."""
    try:
        yield
    except OSError as error:  # copytree gathers several in one that has no number
        if error.errno not in (errno.ENOSPC, errno.EDQUOT) and os.strerror(errno.ENOSPC) not in str(error):
            raise
        raise StoreError(f"The disk is full, so {domain.name} was not retrained to the end ({error}); make room and run it "
                         "again: it goes on from where it was.") from error
