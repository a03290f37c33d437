"""What answers: one bundle loaded with its router, generator and index. Immutable; a swap replaces it whole."""

import hashlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from agent import models, paths
from agent.bundle import content_hash
from agent.domain import Domain
from agent.encoder import Encoder, Shared
from agent.errors import BundleError
from agent.models import BaseModel, Step, sha256
from agent.registry import Bundle, Registry
from agent.retrieve import Index
from agent.router import Router
from agent.settings import Settings


@dataclass(frozen=True, slots=True)
class Bases:
    """The base models that a process uses, ready on disk."""

    encoder: BaseModel
    generator: BaseModel | None
    """None where an app's own generator answers."""

    @classmethod
    def ensure(cls, settings: Settings, watch: Callable[[Step], None] = lambda step: None, generator: bool = True) -> "Bases":
        """Fetched and converted first if need be; that of the generator only if `generator`."""
        return cls(models.ensure(settings.encoder, settings, watch),
                   models.ensure(settings.generator, settings, watch) if generator else None)


class InFlight:
    """How many turns run just now; any thread may count."""

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.Lock()

    @contextmanager
    def one(self) -> Iterator[None]:
        """One more while the block runs."""
        with self._lock:
            self.count += 1
        try:
            yield
        finally:
            with self._lock:
                self.count -= 1


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Serving:
    """A loaded bundle; a running turn keeps its own."""

    bundle: Bundle
    router: Router
    generator: Any
    """Anything with `stream(messages, max_tokens, session=, made=)`, see agent.generators."""
    index: Index
    fallback: Callable[[], Any] | None = None
    """Gives the generator that answers, flagged, where `generator` cannot; loaded when it is first needed."""
    turns: InFlight = field(default_factory=InFlight, repr=False)
    """Those that it answers just now: a serving that was replaced is drained when there are none."""

    @classmethod
    def load(cls, domain: Domain, settings: Settings, bases: Bases, version: str = "champion",
             generator: Any | None = None, index: Index | None = None) -> "Serving":
        """Verify the bundle, then load it; `generator` replaces the local one, `index` is the domain's if it is there already.

        A part that equals one in memory is shared with it.
        """
        bundle = Registry(domain, settings.home).get(version)
        bundle.verify()
        bundle.check_fits(domain, bases.encoder, bases.generator)
        if not (routes := bundle.part("router")):
            raise BundleError(f"Bundle {bundle.name} has no router; run `retune train {domain.name}`.")
        # vectors of articles outlive a bundle, so they come from the plain encoder; it and the router's compute side by side,
        # a thread each: a second one gains nothing on so short a text
        plain = _share(("encoder", bases.encoder), lambda: Shared(Encoder(bases.encoder)))
        router = _share(("router", bases.encoder, bundle.part_hash("router")), lambda: Router(routes, bases.encoder, 1, plain))
        index = index or Index.build(domain, plain, bases.encoder.fingerprint, paths.index(settings.home))
        if generator is None and settings.served:
            instead = partial(_local, bundle, bases.generator, settings) if settings.fallback else None
            return cls(bundle, router, _vllm(bundle, domain, bases.generator, settings), index, instead)
        return cls(bundle, router, generator or _local(bundle, bases.generator, settings), index)

    def warm(self) -> None:
        """Wait until every model is loaded and has run once, so that the first turn does not; raises what loading raised."""
        self.router.route([self.bundle.domain])
        getattr(self.generator, "warm", lambda: None)()  # of those that load in a thread of their own

    def fingerprint(self) -> str:
        """sha256 over the files that it was loaded from, as they are on the disk now; `bundle.hash` if nothing touched them."""
        return content_hash({file: sha256(self.bundle.path / file) for file in self.bundle.manifest["files"]})


@dataclass(frozen=True, slots=True)
class Trial:
    """A bundle on trial beside the champion: it answers a share of the sessions, or only watches them (`shadow`)."""

    serving: Serving
    share: float
    shadow: bool = False

    def takes(self, session: str) -> bool:
        """Whether a session is among the share: the same in every process and for the trial's whole life."""
        drawn = hashlib.sha256(f"{self.serving.bundle.name}\0{session}".encode()).digest()
        return int.from_bytes(drawn[:8], "big") / 2**64 < self.share


def _local(bundle: Bundle, base: BaseModel, settings: Settings) -> Any:
    from agent.generators.local import LocalGenerator

    return _share(("generator", base, bundle.part_hash("generator"), settings.engine, settings.cores),
                  lambda: LocalGenerator(base, bundle.part("generator"), settings))


def _vllm(bundle: Bundle, domain: Domain, base: BaseModel, settings: Settings) -> Any:
    """On servers a bundle goes by its own name, so that no two of them share an adapter."""
    from agent.generators.vllm import VllmGenerator
    from agent.vllm import adapters, fleet

    same = settings.home, settings.vllm, settings.vllm_key
    servers = _share(("fleet", *same), lambda: fleet.open_fleet(settings))
    return _share(("vllm", *same, bundle.name, bundle.hash),
                  lambda: VllmGenerator(servers, partial(adapters.export, bundle, domain, base, settings), settings.vllm_total_s))


_shared: WeakValueDictionary[Any, Any] = WeakValueDictionary()
_sharing = threading.RLock()


def _share(key: Any, make: Callable[[], Any]) -> Any:
    """One copy in memory of what several domains or bundles have in common, for as long as one of them uses it."""
    with _sharing:  # agents may be loaded in several threads at once
        found = _shared.get(key)
        if found is None:
            found = _shared[key] = make()
        return found
