"""A generator's answers to held-out questions: the prompts, what becomes of each answer, and the figures of all.

All arms answer the same prompts, evidence among retrieved distractors. Knows no model: who wrote the answers is elsewhere.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from agent import prompt
from agent.domain import Domain
from agent.facts import facts
from agent.guard import Guard
from agent.sentences import split_sentences
from agent.types import Message
from tuning import dataset, metrics, text_metrics
from tuning.dataset import Example
from tuning.traits import by_slice, traits

Question = tuple[Example, list[str], list[str]]
"""A held-out question, its facts as they stand in the prompt, and what must be said."""


def questions(domain: Domain, rows: Sequence[dict], search: dataset.Search) -> list[Question]:
    """Held-out questions with their facts (as in training: evidence among what was retrieved) and what must be said."""
    known = {passage.id: passage for passage in domain.passages}
    made = []
    for row in rows:
        example = dataset.example(row, domain)
        chosen = [known[key] for key in dataset.choose_facts(example, search)]
        made.append((example, [prompt.fact(p.title, p.heading, p.text) for p in chosen], row.get("must_say", [])))
    return made


def few_shot(domain: Domain, messages: list[Message]) -> list[Message]:
    """The same prompt after two worked examples of the domain, an answered and an unanswerable one, as far as it has them."""
    known = {passage.id: passage for passage in domain.passages}
    rows = [dataset.example(row, domain) for row in domain.rows("dialogues.jsonl") if not row.get("tool_result")]
    answered = next((row for row in rows if row.evidence and not row.history), None)
    unanswerable = next((row for row in rows if not row.evidence), None)
    worked: list[Message] = []
    for row in filter(None, (answered, unanswerable)):
        passage = known[row.evidence[0]] if row.evidence else domain.passages[0]
        fact = prompt.fact(passage.title, passage.heading, passage.text)
        worked += [{"role": "user", "content": f"Facts:\n- {fact}\n\n{row.question}"},
                   {"role": "assistant", "content": row.answer}]
    return [messages[0], *worked, *messages[1:]]


@dataclass(frozen=True, slots=True)
class Judged:
    """One answer held against its row, after the guard as a person would see it."""

    shown: str
    answerable: bool
    refused: bool
    said: bool
    """Answered with all that must be said."""
    grounded: float | None
    """Share of sentences that the facts hold; None for a refusal."""
    unsupported: bool
    """Shows a figure without a source; `unsupported_raw`: wrote one, whatever the guard made of it."""
    unsupported_raw: bool

    @property
    def decided(self) -> bool:
        """Refused what cannot be answered, answered what can."""
        return self.refused != self.answerable


def judge(domain: Domain, row: Question, answer: str) -> Judged:
    """An answer to a held-out question as it would be shown."""
    example, sources, phrases = row
    heard = [example.question, *example.history]
    guard = Guard(sources, numbers_need_source=domain.rules.numbers_need_source, forbid=domain.rules.forbid,
                  unknown=domain.unknown, heard=heard)
    shown = "".join(guard.check(sentence).sentence for sentence in split_sentences(answer)).strip()
    known = set().union(*(facts(text, loose=True) for text in (*sources, *heard)))
    refused = domain.unknown.lower() in shown.lower()
    return Judged(shown, example.answer != domain.unknown, refused, not refused and metrics.must_say(shown, phrases),
                  None if refused else text_metrics.grounded(shown, sources),
                  bool(facts(shown) - known - facts(domain.unknown)), bool(facts(answer) - known))


def generator_report(domain: Domain, rows: Sequence[Question], answers: Sequence[str]) -> dict[str, Any]:
    """must_say and likeness to the reference over answerable rows, refusal_accuracy over all, figures without a source.

    BLEU and chrF are of the set, the others means of rows; `length` in words; `slices` by the outcome of `must_say`.
    """
    judged = [judge(domain, row, answer) for row, answer in zip(rows, answers, strict=True)]
    told = [(one, row) for one, row in zip(judged, rows) if one.answerable]
    shown, wanted = [one.shown for one, _ in told], [row[0].answer for _, row in told]
    held = [one.grounded for one in judged if one.grounded is not None]
    misses = [{"id": row[0].id, "question": row[0].question, "answer": one.shown, "wanted": row[0].answer}
              for one, row in zip(judged, rows) if not one.decided or (one.answerable and not one.said)]
    table: dict[str, Any] = {
        "n": len(rows), "n_answerable": len(told), "must_say": _mean(one.said for one, _ in told),
        "rouge_l": _mean(map(metrics.rouge_l, shown, wanted)), "token_f1": _mean(map(text_metrics.token_f1, shown, wanted)),
        "meteor": _mean(map(text_metrics.meteor, shown, wanted)), "grounded": _mean(held),
        "refusal_accuracy": _mean(one.decided for one in judged),
        "length": _mean(len(text_metrics.words(one.shown)) for one in judged if not one.refused),
        "unsupported_numbers": sum(one.unsupported for one in judged),
        "unsupported_numbers_raw": sum(one.unsupported_raw for one in judged), "misses": misses}
    if told:
        table["bleu"], table["bleu_signature"] = text_metrics.bleu(shown, wanted, domain.languages[0])
        table["chrf"], table["chrf_signature"] = text_metrics.chrf(shown, wanted)
    named = [traits(about(domain, row[0]), row[0].question, domain.languages) for _, row in told]
    return table | {"slices": by_slice(named, [one.said for one, _ in told], "must_say")}


def about(domain: Domain, example: Example) -> dict[str, str]:
    """{"intent"} where the article of the evidence belongs to one intent alone."""
    for passage in domain.passages:
        if example.evidence[:1] == (passage.id,) and len(passage.intents) == 1:
            return {"intent": min(passage.intents)}
    return {}


def _mean(values: Iterable[float | bool]) -> float | None:
    """None of nothing."""
    found = [float(value) for value in values]
    return sum(found) / len(found) if found else None


def article(example: Example) -> str:
    """The article that an answer comes from; a question without evidence stands by itself."""
    return example.evidence[0].partition("#")[0] if example.evidence else f"question {example.id}"
