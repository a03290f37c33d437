"""Kills a process at every write of a change to the registry, and looks at what is left. Prints one JSON object.

Each job runs in a fork that counts its calls which change the disk (replace, fsync, link, truncate, mkdir, chmod, unlink,
rmdir, and every append) and kills itself with SIGKILL just before, just after or, of an append, halfway through the n-th, for
every n. What a reader finds then, and what is there after the job was run again, is checked here; a breach is a line of
`breaches`. It needs `os.fork`. Usage: python promotion.py FOLDER
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from agent import audit
from agent.domain import Domain
from agent.prompt import prompt_hash
from agent.registry import Registry

CALLS = ("replace", "fsync", "link", "truncate", "mkdir", "chmod", "unlink", "rmdir")
WHEN = ("before", "after", "half")


class Killer:
    """Patches this process so that it dies at the n-th call; n = 0 only counts."""

    def __init__(self, n: int, when: str) -> None:
        self.n, self.when, self.count, self.appends = n, when, 0, []
        for name in CALLS:
            setattr(os, name, self._deadly(getattr(os, name)))
        real = Path.open

        def opened(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
            stream = real(path, mode, *rest, **named)
            return _Appending(stream, self) if "a" in mode else stream

        Path.open = opened  # type: ignore[method-assign]

    def _deadly(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **named: Any) -> Any:
            mine = self.next()
            if mine and self.when != "after":
                die()
            try:
                return call(*given, **named)
            finally:  # also after a call that failed, such as a folder that is there already
                if mine:
                    die()

        return counted

    def next(self) -> bool:
        """Whether this call is the n-th."""
        self.count += 1
        return self.count == self.n


class _Appending:
    """A stream whose write may end in the middle."""

    def __init__(self, stream: Any, killer: Killer) -> None:
        self._stream, self._killer = stream, killer

    def __enter__(self) -> "_Appending":
        return self

    def __exit__(self, *error: object) -> None:
        self._stream.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, content: bytes) -> int:
        mine = self._killer.next()
        self._killer.appends.append(self._killer.count)
        if mine and self._killer.when == "before":
            die()
        done = self._stream.write(content[:len(content) // 2] if mine and self._killer.when == "half" else content)
        if mine:
            self._stream.flush()
            die()
        return done


def die() -> None:
    """As kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)


def build(folder: Path, words: str) -> Path:
    """What a training run leaves: one part that is the same every time, one that is not."""
    (folder / "router" / "adapter").mkdir(parents=True)
    (folder / "router" / "adapter" / "adapter_model.safetensors").write_text(words, encoding="utf-8")
    (folder / "recipe.json").write_text("{}", encoding="utf-8")
    return folder


def prepare(folder: Path) -> Domain:
    """A domain with a starter, and a home in which version 2 is champion, 1 previous, and 3 is there."""
    shop = folder / "shop"
    shop.mkdir()
    (shop / "domain.toml").write_text('name = "shop"\npersona = "p"\nunknown = "u"\n[intents.returns]\nanswer = "docs"\n',
                                      encoding="utf-8")
    (shop / "intents.jsonl").write_text('{"text": "send it back", "intent": "returns"}\n', encoding="utf-8")
    for name in ("oos.jsonl", "dialogues.jsonl"):
        (shop / name).touch()
    domain = Domain.load(shop)
    registry = Registry(domain, folder / "start")
    for name in ("one", "two", "three"):
        registry.publish(build(folder / name, name), {"prompt": prompt_hash(domain)}, domain.models if name == "one" else None)
    registry.promote(2, 1, "better", "anna")
    build(folder / "four", "four")
    return domain


def publish(registry: Registry, folder: Path) -> None:
    """Version 4; a rerun finds what the first run finished."""
    if not any(bundle.version == 4 for bundle in registry.versions()):
        registry.publish(folder / "four", {"prompt": prompt_hash(registry.domain)})


def promote(registry: Registry, folder: Path) -> None:
    """2 -> 3."""
    if registry.aliases()["champion"] != 3:
        registry.promote(3, 2, "better still", "anna")


def rollback(registry: Registry, folder: Path) -> None:
    """2 -> 1."""
    if "previous" in registry.aliases():
        registry.rollback("worse", "anna")


def canary(registry: Registry, folder: Path) -> None:
    """3 on trial."""
    registry.set_canary(3, 0.1, "a try", "anna")


def mend(registry: Registry, folder: Path) -> None:
    """Put right what a promotion left that was killed in the middle of its row."""
    registry.audit()


JOBS = {"publish": (publish, {2}), "promote": (promote, {2, 3}), "rollback": (rollback, {1, 2}), "canary": (canary, {2}),
        "mend": (mend, {3})}
DONE = {"publish": ("publish", 4), "promote": ("promote", 3), "rollback": ("rollback", 1), "canary": ("canary", 3),
        "mend": ("promote", 3)}


def run(job: Callable[[Registry, Path], None], registry: Registry, folder: Path, n: int, when: str) -> tuple[int, list[int]]:
    """(signal that ended the fork, [calls, numbers of those that are appends])."""
    told, tell = os.pipe()
    if not (child := os.fork()):
        killer = Killer(n, when)
        with suppress(BaseException):
            job(registry, folder)
            os.write(tell, json.dumps([killer.count, *killer.appends]).encode())
            os._exit(0)
        os._exit(1)
    os.close(tell)
    with os.fdopen(told, "rb") as stream:
        said = stream.read()
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        raise AssertionError(f"{job.__name__} failed by itself at call {n}, {when}")
    return os.WTERMSIG(status), json.loads(said) if said else []


def look(registry: Registry, allowed: set[int]) -> list[str]:
    """What a reader finds wrong, without anything being put right first."""
    found = []
    try:
        champion = registry.get()
        champion.verify()
        if champion.version not in allowed:
            found.append(f"the champion is {champion.version}")
        for bundle in registry.versions():
            bundle.verify()
    except Exception as error:  # whatever it is, it is a breach
        found.append(f"{type(error).__name__}: {error}")
    return found


def rows_of(registry: Registry, what: str, version: int) -> int:
    """How often the chain tells that change."""
    count = 0
    for row in registry.audit():
        detail = row["detail"]
        if row["what"] == what and isinstance(detail, dict):
            to = detail.get("to", {})
            count += version in (detail.get("version"), to.get("champion") if what != "canary" else to["canary"]["version"])
    return count


def torn(start: Path, registry: Registry, folder: Path) -> None:
    """`start` as a promotion leaves it that is killed halfway through its row."""
    _, (_, *appends) = run(promote, Registry(registry.domain, folder / "count"), folder, 0, "before")
    assert run(promote, Registry(registry.domain, start), folder, appends[-1], "half")[0] == signal.SIGKILL


def main(folder: Path) -> dict[str, Any]:
    """{"points": {job: number of kills}, "torn": audit chains that were cut in a line, "breaches": [...]}."""
    domain = prepare(folder)
    points, breaches, cut = {}, [], 0
    for name, (job, allowed) in JOBS.items():
        start = folder / f"start-{name}"
        shutil.copytree(folder / "start", start)
        if name == "mend":
            shutil.copytree(folder / "start", folder / "count")
            torn(start, Registry(domain, start), folder)
        home = folder / f"home-{name}"
        shutil.copytree(start, home)
        _, (calls, *appends) = run(job, Registry(domain, home), folder, 0, "before")
        points[name] = 0
        for n in range(1, calls + 1):
            for when in WHEN if n in appends else WHEN[:2]:
                shutil.rmtree(home)
                shutil.copytree(start, home)
                registry, place = Registry(domain, home), f"{name}, killed {when} call {n}"
                if run(job, registry, folder, n, when)[0] != signal.SIGKILL:
                    breaches.append(f"{place}: it was not killed")
                points[name] += 1
                cut += any("cut short" in problem for problem in audit.verify(registry.folder / "audit.jsonl"))
                breaches += [f"{place}: {found}" for found in look(registry, allowed)]
                job(registry, folder)  # the rerun
                registry.audit()
                what, version = DONE[name]
                breaches += [f"{place}, after the rerun: {found}" for found in look(registry, allowed)]
                breaches += [f"{place}, after the rerun: {found}" for found in registry.problems()]
                if (times := rows_of(registry, what, version)) != 1:
                    breaches.append(f"{place}, after the rerun: the chain tells it {times} times")
                if len(registry.versions()) != (4 if name == "publish" else 3):
                    breaches.append(f"{place}, after the rerun: {len(registry.versions())} versions")
    return {"points": points, "torn": cut, "breaches": breaches}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
