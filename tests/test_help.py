"""`help()` on every public name tells shapes, units and errors: each field, each argument, each error that can be met."""

import dataclasses
import inspect
import pydoc
import re
from typing import Any

import pytest
from instant import agent as instant

import agent
from agent.errors import DataError, DomainError, EngineError, RetuneError, StoreError
from agent.surfaces.langchain import AgentRunnable, RetuneChatModel

NAMES = {name: getattr(agent, name) for name in agent.__all__ if name != "Event"}
CLASSES = NAMES | {"AgentRunnable": AgentRunnable, "RetuneChatModel": RetuneChatModel}
LANGCHAINS = {"input", "config", "kwargs", "schema", "tools"}  # arguments that LangChain documents


def methods(cls: type) -> list[tuple[str, Any]]:
    """Public ones that the class defines itself; a field's default may be a function too."""
    fields = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    names = [name for name in vars(cls) if not name.startswith("_") and name not in fields]
    found = [(name, inspect.unwrap(getattr(cls, name))) for name in names]
    return [(name, each) for name, each in found if inspect.isroutine(each)]


def explained(cls: type, name: str, seen: tuple[Any, ...] = ()) -> str:
    """A method's text with that of the methods that it refers to by name."""
    said, seen = inspect.getdoc(getattr(cls, name)) or "", (*seen, (cls, name))
    for owner, other in re.findall(r"`(?:(Agent|Front)\.)?(\w+)`", said):
        whose = NAMES[owner] if owner else cls
        if other in vars(whose) and (whose, other) not in seen and inspect.isroutine(getattr(whose, other)):
            said += explained(whose, other, seen)
    return said


@pytest.mark.parametrize("name", CLASSES)
def test_help_shows_a_text_of_its_own(name):
    shown = pydoc.render_doc(CLASSES[name], renderer=pydoc.plaintext)
    assert CLASSES[name].__doc__ and CLASSES[name].__doc__.split("\n")[0] in shown
    assert not CLASSES[name].__doc__.startswith(f"{name}(")  # what dataclasses write where nobody wrote anything


@pytest.mark.parametrize("name", ["Delta", "Done", "Evidence", "Passage", "Route", "Routed", "ToolCalled", "Turn"])
def test_every_field_of_what_travels_is_in_the_classes_text(name):
    missing = [field.name for field in dataclasses.fields(NAMES[name]) if f"`{field.name}`" not in NAMES[name].__doc__]
    assert missing == []


CALLED = [CLASSES[name] for name in ("Agent", "Front", "ScriptedGenerator", "AgentRunnable", "RetuneChatModel")]


@pytest.mark.parametrize(("cls", "method"), [(cls, name) for cls in CALLED for name, _ in methods(cls)])
def test_every_argument_of_a_public_method_is_explained(cls, method):
    given = set(inspect.signature(getattr(cls, method)).parameters) - {"self", "cls"}
    if cls in (AgentRunnable, RetuneChatModel):
        given -= LANGCHAINS
    text = explained(cls, method)
    assert text and [name for name in given if f"`{name}`" not in text] == []


def test_times_and_tokens_have_their_units():
    assert re.search(r"`timings_ms`: milliseconds from the beginning of the turn", agent.Turn.__doc__)
    assert "0 to 1" in agent.Route.__doc__ and "count" in inspect.getdoc(agent.Agent.sessions)
    assert "milliseconds" in inspect.getdoc(agent.Agent.rate) and "characters" in inspect.getdoc(agent.Agent.stream)


def test_the_stages_and_states_that_are_promised_are_those_that_come(home):
    from agent.turn import STATES

    made = instant(home, "Fine.", domain="finance", usual="credit_score")
    try:
        turns = [made.ask_sync(text).turn for text in ("what is a score?", "calculate 3 * 4")]
    finally:
        made.close()
    promised = set(re.search(r"\(redact, ([^)]*)\)", agent.Turn.__doc__).group(0).strip("()").replace("\n", " ").split(", "))
    came = {stage for turn in turns for stage in turn.timings_ms}
    assert came == {each.strip() for each in promised}
    assert set(STATES.values()) <= set(re.findall(r"\w+", agent.Turn.__doc__))


def test_the_errors_that_are_named_are_those_that_are_raised(home):
    made = instant(home, "Fine.", EngineError("gone"))
    other = instant(home, "Fine.", domain="finance", usual="credit_score")
    try:
        id = made.ask_sync("can I send it back?", "s").turn.id
        for error, method, call in (
            (EngineError, "stream", lambda: made.ask_sync("can I send it back?")),
            (StoreError, "stream", lambda: other.ask_sync("what is a score?", "s")),
            (DataError, "rate", lambda: made.rate("gone", True)), (DataError, "rate", lambda: other.rate(id, True)),
            (DataError, "feedback", lambda: made.feedback(id, "intent", "ann", "nothing")),
            (DomainError, "load", lambda: agent.Agent.load("nowhere", home=home))):
            with pytest.raises(error) as raised:
                call()
            assert isinstance(raised.value, RetuneError) and len(str(raised.value)) > 3
            named = explained(agent.Agent, method)
            assert error.__name__ in named or "RetuneError" in named, f"{method} does not name {error.__name__}"
    finally:
        made.close()
        other.close()
