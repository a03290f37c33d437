"""The OpenAPI file turned against its server by schemathesis: generated calls, links from one to the next, all its checks."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

from webapp import Call

from agent import keys
from agent.store import Store

ACCEPTED = ["2xx", 401, 403, 404, 409, 429]
RULES = ("chat_completions", "give_feedback")
"""Operations with rules that a schema cannot say: the last message must be the user's and not blank, a correction needs its
text, an intent must be the domain's; a body that breaks one is refused with 400 though its schema is right."""
TALK = "POST /v1/chat/completions"
QUESTIONS = ("How long may I keep it?", "a person please", [{"type": "text", "text": "hello"}])
PHASES = ("examples", "coverage", "fuzzing", "stateful")


@dataclass
class Found:
    """What came of a run: calls by operation and status, and what broke a promise."""

    calls: Counter[str] = field(default_factory=Counter)
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    linked: int = 0
    checks: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def seed(call: Call, store: Store) -> tuple[str, dict[str, list[str]]]:
    """(a secret that may do everything, real ids by what they are of): conversations, hand-offs and opinions of two tenants."""
    every = list(keys.SCOPES)
    secret, other = (keys.add(store, name, name, every, 1_000_000, 1000)[0] for name in ("acme", "zeta"))
    found: dict[str, list[str]] = {"answers": ["chatcmpl-nothing"], "sessions": ["nothing", "a/b"], "handoffs": []}
    for who in (secret, other):
        for number in range(3):
            talk = [call.ask(text, who, f"seed-{number}") for text in ("How long may I keep it?", "a person please", "hello")]
            found["answers"] += [each["id"] for each in talk]
            found["handoffs"].append(talk[1]["id"])
            call("POST", "/v1/feedback", {"answer_id": talk[0]["id"], "kind": "down"}, who)
        found["sessions"].append("seed-0" if who == secret else "zeta/seed-0")
    found["sessions"] += ["seed-1", "seed-2"]
    found["handoffs"] += found["answers"][:2]
    found["models"] = ["customer_service", "finance", "retune", "customer_service@0001", "finance@0999"]
    found["domains"] = ["customer_service", "finance", "medical"]
    return secret, found


def config(ids: dict[str, list[str]], secret: str, examples: int, phases: Sequence[str]) -> dict[str, Any]:
    """schemathesis' configuration: real ids half of the time, the same calls in every run."""
    often = {"path.session": "sessions", "path.answer_id": "handoffs", "query.answer_id": "answers", "path.domain": "domains",
             "body.answer_id": "answers", "body.model": "models", "header.X-Session-Id": "sessions"}
    return {"dictionaries": {name: {"values": values} for name, values in ids.items()},
            "parameters": {place: {"dictionary": name, "probability": 0.6} for place, name in often.items()},
            "headers": {"Authorization": f"Bearer {secret}"},
            "generation": {"mode": "all", "max-examples": examples, "deterministic": True},
            "phases": {name: {"enabled": name in phases} for name in PHASES},
            "checks": {"positive_data_acceptance": {"expected-statuses": ACCEPTED}},
            "operations": [{"include-operation-id": name, "checks": {
                "positive_data_acceptance": {"expected-statuses": [*ACCEPTED, 400]}}} for name in RULES]}


def answerable(models: Sequence[str]) -> Callable[..., None]:
    """A hook that lets three transcripts in four whose schema is right end with a question to a model that is there.

    A schema cannot say which models there are, nor that the last message must be the user's and not blank; what is drawn from it
    nearly never is, and nothing behind those rules would be reached.
    """
    asked = cycle((*QUESTIONS, None))

    def before_call(context: Any, case: Any, kwargs: Any) -> None:
        if case.operation.label == TALK and case.meta and case.meta.generation.mode.is_positive and isinstance(case.body, dict):
            if question := next(asked):
                talk = [*case.body.get("messages", [])[:-1], {"role": "user", "content": question}]
                model = case.body.get("model")
                case.body = case.body | {"messages": talk, "model": model if model in models else models[0]}
                if "X-Session-Id" in (case.headers or {}):  # or both would name a session, and mostly two
                    case.body.pop("metadata", None)

    return before_call


def fuzz(url: str, table: dict[str, Any], only: str = "", least: int = 0) -> Found:
    """Run it against a server; `only`: operations whose id matches this pattern.

    An operation that takes nothing has one example; it is called until there were `least`.
    """
    import schemathesis
    from schemathesis.config import SchemathesisConfig
    from schemathesis.engine import from_schema

    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=SchemathesisConfig.from_dict(table))
    if only:
        schema = schema.include(operation_id_regex=only)
    found = Found()
    hook = schemathesis.hook("before_call")(answerable(table["dictionaries"]["models"]["values"]))
    try:
        for event in from_schema(schema).execute():
            recorder = getattr(event, "recorder", None)
            if recorder is not None:
                note(found, recorder)
            elif type(event).__name__ in ("NonFatalError", "FatalError"):
                found.errors.append(str(getattr(event, "value", None) or getattr(event, "exception", event)))
    finally:
        schemathesis.hooks.unregister(hook)
    for result in schema.get_all_operations():
        operation = result.ok()
        while 0 < found.calls[operation.label] < least:
            answer = operation.Case().call_and_validate(headers=table["headers"])
            found.calls[operation.label] += 1
            found.statuses[operation.label][answer.status_code] += 1
    return found


def note(found: Found, recorder: Any) -> None:
    """Count a scenario's calls, and keep its failures."""
    for id, node in recorder.cases.items():
        label = node.value.operation.label
        if (interaction := recorder.interactions.get(id)) and interaction.response:
            found.calls[label] += 1
            found.statuses.setdefault(label, Counter())[interaction.response.status_code] += 1
        found.linked += node.is_transition_applied
        for check in recorder.checks.get(id, []):
            found.checks += 1
            if check.failure_info is not None:
                failure = check.failure_info.failure
                key = f"{label}: {failure.title}"
                found.failures.setdefault(key, f"{failure.message}\n{check.failure_info.code_sample}"[:2000])
