"""What answers: one bundle loaded with its router, generator and index. Immutable; a swap replaces it whole."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

from agent import models, paths
from agent.domain import Domain
from agent.encoder import Encoder
from agent.errors import BundleError
from agent.models import BaseModel, Step
from agent.registry import Bundle, Registry
from agent.retrieve import Index
from agent.router import Router
from agent.settings import Settings


@dataclass(frozen=True, slots=True)
class Bases:
    """The base models that a process uses, ready on disk."""

    encoder: BaseModel
    generator: BaseModel

    @classmethod
    def ensure(cls, settings: Settings, watch: Callable[[Step], None] = lambda step: None) -> "Bases":
        """Fetched and converted first if need be."""
        return cls(models.ensure(settings.encoder, settings, watch), models.ensure(settings.generator, settings, watch))


@dataclass(frozen=True, slots=True)
class Serving:
    """A loaded bundle; a running turn keeps its own."""

    bundle: Bundle
    router: Router
    generator: Any
    """Anything with `stream(messages, max_tokens)`, see agent.generators."""
    index: Index

    @classmethod
    def load(cls, domain: Domain, settings: Settings, bases: Bases, version: str = "champion",
             generator: Any | None = None) -> "Serving":
        """Verify the bundle, then load it; `generator` replaces the local one."""
        from agent.generators.local import LocalGenerator

        bundle = Registry(domain, settings.home).get(version)
        bundle.verify()
        bundle.check_fits(domain, bases.encoder, bases.generator)
        if not (routes := bundle.part("router")):
            raise BundleError(f"Bundle {bundle.name} has no router; run `retune train {domain.name}`.")
        router = Router(routes, bases.encoder, settings.cores)
        # vectors of articles outlive a bundle, so they come from the plain encoder
        plain = _share(("encoder", bases.encoder, settings.cores), lambda: Encoder(bases.encoder, None, settings.cores))
        index = Index.build(domain, plain, bases.encoder.fingerprint, paths.index(settings.home))
        adapter = bundle.part("generator")
        weights = bundle.manifest["files"]["generator/adapter_model.safetensors"] if adapter else None
        generator = generator or _share(("generator", bases.generator, weights, settings.engine, settings.cores),
                                        lambda: LocalGenerator(bases.generator, adapter, settings))
        return cls(bundle, router, generator, index)


_shared: WeakValueDictionary[Any, Any] = WeakValueDictionary()


def _share(key: Any, make: Callable[[], Any]) -> Any:
    """One copy in memory of what several domains have in common, for as long as one of them uses it."""
    found = _shared.get(key)
    if found is None:
        found = _shared[key] = make()
    return found
