"""(Domain, facts, history, question) -> messages: the one renderer, imported by tuning too.

The system message begins with words that never change within a domain, so that an engine can keep their cache.
"""

import hashlib
from collections.abc import Sequence

from agent.domain import Domain
from agent.types import Message

VERSION = 1  # raise it when the wording changes: bundles trained with another prompt are refused
MAX_FACTS = 2  # best first; a third would rarely hold the answer and costs a quarter of the prompt


def system(domain: Domain) -> str:
    """The part that never changes within a domain."""
    return (f"{domain.persona}\nAnswer only from the facts below, in one to three short sentences. "
            f"If the facts do not hold the answer, say: {domain.unknown}")


def render(domain: Domain, facts: Sequence[str], history: Sequence[str], question: str) -> list[Message]:
    """Chat messages for one answer; `history` alternates person, agent, ...; the last pair of it is used."""
    lines = "\n".join(f"- {fact}" for fact in facts) or "- (none)"
    messages = [{"role": "system", "content": f"{system(domain)}\n\nFacts:\n{lines}"}]
    recent = list(history)[-2:]
    for role, text in zip(("user", "assistant"), recent if len(recent) == 2 else ()):
        messages.append({"role": role, "content": text})
    return [*messages, {"role": "user", "content": question}]


def fact(title: str, heading: str, text: str) -> str:
    """A passage as one line of facts."""
    return f"{title}, {heading}: {text}" if heading else f"{title}: {text}"


def prompt_hash(domain: Domain) -> str:
    """sha256 of everything constant in the prompt; bundles carry it."""
    sample = render(domain, ["FACT"], ["PERSON", "AGENT"], "QUESTION")
    return hashlib.sha256(f"{VERSION}{sample}".encode()).hexdigest()
