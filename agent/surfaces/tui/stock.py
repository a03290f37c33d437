"""The domains' registries and retrainings behind the models screen, by the names that domains load by.

Every method may block: call it in a thread, and those of retrainings one at a time. Knows no widget.
"""

import getpass
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from agent import paths
from agent.errors import BundleError, DataError, SettingsError
from agent.surfaces.tui import retraining, shelf
from agent.surfaces.tui.retraining import Progress, Retraining
from agent.surfaces.tui.shelf import Report, Shelf, Version

if TYPE_CHECKING:
    from agent.registry import Registry
    from agent.settings import Settings
    from agent.store import Store
    from tuning.plan import Plan

ASKED = "asked for on the models screen"


class Stock:
    """`store` gives the opened store; `author` stands in the audit; `command` says how a retraining is run."""

    def __init__(self, settings: "Settings", store: "Callable[[], Store]", author: str,
                 command: "Callable[[str, Settings, Plan], Sequence[str]]" = retraining.command,
                 clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.settings, self.store, self.author, self.command, self.clock = settings, store, author, command, clock
        self.registries: dict[str, Registry] = {}
        self.trainings: dict[str, Retraining] = {}

    def name(self, table: str) -> str:
        """The domain's own name, once it was read."""
        return self.registries[table].domain.name if table in self.registries else table

    def progress(self, table: str) -> Progress:
        """As it was at the last look; does not block."""
        return self.trainings[table].progress if table in self.trainings else Progress()

    def read(self, table: str) -> Shelf:
        """Everything about a domain; RetuneError if it cannot be read."""
        if table not in self.registries:
            from agent.domain import Domain
            from agent.registry import Registry

            registry = Registry(Domain.load(table), self.settings.home)
            self.trainings[table] = Retraining(registry.domain.name, paths.training(self.settings.home))
            self.registries[table] = registry
        return shelf.read(self.registries[table].domain, table, self.settings, self.store(), self.clock())

    def report(self, table: str, version: Version) -> Report:
        """What a bundle's comparison said."""
        return shelf.report(self.registries[table], version)

    def stamp(self, table: str) -> tuple[Any, ...]:
        """Changes when the registry does."""
        return shelf.stamp(self.registries[table])

    def promote(self, table: str, version: Version, expected: int | None) -> None:
        """Make it champion if `expected` still is; BundleError says why not."""
        from agent.surfaces.keeping import check_fits

        registry, forced = self.registries[table], version.decision != "promote" and version.number > 1
        check_fits(registry, self.settings, registry.get(str(version.number)))
        registry.promote(version.number, expected, f"{ASKED} (forced)" if forced else ASKED, self._who)

    def rollback(self, table: str, expected: int | None) -> None:
        """Make `previous` champion if `expected` still is; BundleError says why not."""
        from agent.surfaces.keeping import check_fits

        registry = self.registries[table]

        def still(bundle: Any) -> None:
            if (now := registry.aliases().get("champion")) != expected:
                raise BundleError(f"The champion is now {now}, not {expected}; look again and retry.")
            check_fits(registry, self.settings, bundle)

        registry.rollback(ASKED, self._who, still)

    def begin(self, table: str) -> None:
        """Retrain; DataError if that is being done already."""
        from tuning import plan, runs

        name = self.name(table)
        other = runs.unfinished(self.store(), f"retrain {name}")
        if other and other.held:
            raise DataError(f"{name} is being retrained already, by {other.holder} ({other.stage or 'it just began'}); wait "
                            "until that ended.")
        try:
            mine = plan.load(self.settings.home).get(table) or plan.Plan(table)
        except SettingsError:  # no schedule, or a wrong one: that is told where the next run is
            mine = plan.Plan(table)
        self.trainings[table].start(self.command(table, self.settings, mine), {"RETUNE_THREADS": str(mine.threads)})

    def look(self, table: str) -> Progress:
        """How far a retraining is."""
        return self.trainings[table].look()

    def stop(self, table: str) -> None:
        """End a retraining."""
        self.trainings[table].stop()

    @property
    def _who(self) -> str:
        return self.author or getpass.getuser()
