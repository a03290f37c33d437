"""schemathesis over the OpenAPI file with real state: `python tests/benchmarks/api_fuzz.py [--examples 200] [--only PATTERN]`.

A server on stub agents with two tenants' conversations, hand-offs, opinions and bundles; every operation gets at least so many
generated calls, then links between operations are followed. Writes results/api_fuzz.md; exit 1 if a promise was broken.
"""

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent.parent)]

from fuzzing import PHASES, Found, config, fuzz, seed  # noqa: E402
from webapp import Call, Typist, agent_of, closing_all, fresh_home, served  # noqa: E402

from agent.surfaces.http.app import make_app  # noqa: E402


def main() -> int:
    """Run, write the table, say whether all went well."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--examples", type=int, default=200)
    asked.add_argument("--only", default="", help="operations whose id matches this pattern")
    asked.add_argument("--phases", default=",".join(PHASES))
    asked.add_argument("--out", type=Path, default=HERE / "results" / "api_fuzz.json")
    given = asked.parse_args()
    with tempfile.TemporaryDirectory() as home:
        settings = fresh_home(Path(home))
        agents = [agent_of(settings, Typist(), name) for name in ("customer_service", "finance")]
        call = Call(make_app(agents))
        secret, ids = seed(call, agents[0].store)
        begun = time.monotonic()
        with served(call.app) as url:
            phases = given.phases.split(",")
            found = fuzz(url, config(ids, secret, given.examples, phases), given.only,
                         given.examples if "fuzzing" in phases else 0)
        turns = len(agents[0].store.sessions(limit=1_000_000, archived=True))
        closing_all(agents)
    print(shown(found, given.examples, time.monotonic() - begun, turns))
    keep(given.out, found, time.monotonic() - begun, given)
    return int(bool(found.failures or found.errors))


def keep(file: Path, found: Found, seconds: float, given: argparse.Namespace) -> None:
    """Write the results; those of operations and phases that did not run this time stay as they were."""
    table = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    for label, counts in found.statuses.items():
        statuses = {str(status): count for status, count in sorted(counts.items())}
        failures = {name: said for name, said in found.failures.items() if name.startswith(f"{label}: ")}
        table.setdefault(label, {})[given.phases] = {"calls": found.calls[label], "statuses": statuses, "failures": failures}
    table["runs"] = [*table.get("runs", []), {"only": given.only, "phases": given.phases, "examples": given.examples,
                                              "checks": found.checks, "linked": found.linked, "errors": found.errors,
                                              "seconds": round(seconds)}][-40:]
    file.write_text(json.dumps(table, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def shown(found: Found, examples: int, seconds: float, sessions: int) -> str:
    """For a person."""
    whole = sum(found.statuses.values(), Counter())
    lines = [f"{sum(found.calls.values())} calls, {found.checks} checks, {found.linked} by links, {sessions} sessions, "
             f"{seconds:.0f} s, at least {examples} examples an operation asked; by status {dict(sorted(whole.items()))}"]
    lines += [f"{count:>6}  {label:<50} {dict(sorted(found.statuses[label].items()))}"
              for label, count in sorted(found.calls.items())]
    lines += [f"FAILURE {name}\n{said}" for name, said in found.failures.items()] + [f"ERROR {error}" for error in found.errors]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
